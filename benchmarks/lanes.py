"""Lanes: what a model's epoch and a whole run cost, against one model after the other and against plain Ray Tune.

    python benchmarks/lanes.py                     # both parts, 5 repeats: about 20 minutes on 2 cores
    python benchmarks/lanes.py loop                # models in one process; --device cuda on a GPU
    python benchmarks/lanes.py runs --trials 2500 --repeats 2 --contestants lanes tuned
    python benchmarks/lanes.py pbt                 # what exploit and explore cost: PBT against fifo, 64 and 256 trials
    python benchmarks/lanes.py many                # 10,000 trials, ASHA, in one run: a minute
    python benchmarks/lanes.py mixed               # random configs of digits' and diabetes' spaces, that come and go
    python benchmarks/lanes.py one --lanes 64 256  # operations, where all lanes have one structure

loop    model-epochs a CPU second (on CUDA: a second) of L lanes against the solo trainer in a loop, in turns
runs    256 trials, ASHA, up to 27 epochs, on digits with the first model below, each in processes of its own:
            auto, lanes, processes    run() with each executor
            tuned               tune.Tuner with reuse_actors=True and loggers off, the same trainer in a function
            default             tune.Tuner as it comes, of fewer trials (--default-trials)
            optuna              peers/optuna_digits.py, with --space digits
        --space digits: of the space of experiments/digits.py, by random search but for Optuna's TPE
pbt     seconds from the first report to the last, 40 epochs of each trial, interval 4, with either scheduler in turns
many    trials begun and ended and reports a second, over each tenth of them, and the driver's memory

Printed: medians over the repeats with minimum and maximum. CPU seconds are of all processes from the start of Ray on;
memory is PSS, of the processes that hold trials, by live trial.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mixed_lanes
import numpy as np
from measured import watched

if TYPE_CHECKING:
    from raytune_hpo import Results, events

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp 64-64-10": ("digits", {"hidden_units": 64}),
    "mlp 64-32-32-10": ("digits", {"hidden_units": 32, "hidden_layers": 2}),
}
MORE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp, batch norm, dropout": ("digits", {"hidden_units": 64, "batch_norm": True, "dropout": 0.3}),
    "mlp 64-256-256-256-10": ("digits", {"hidden_units": 256, "hidden_layers": 3}),
    "regression": ("diabetes", {"hidden_units": 64}),
    "linear": ("linear", {}),
    "cnn 8x8": ("images", {"filters": 8, "conv_layers": 2}),
    "resnet-18": ("resnet", {}),
}
LANES = (8, 64, 256)
MEASURED_S = 1.0  # of a size, before the next has its turn
OURS = ("auto", "lanes", "processes")
CONTESTANTS = (*OURS, "tuned", "default", "optuna")
SPACE = {"lr": (1e-4, 1e-1), "weight_decay": (1e-6, 1e-2)}
CONFIG = {"optimizer": "adam", "hidden_units": 64, "lr_schedule": "cosine"}


# One process ----------------------------------------------------------------------------------------


def task_and_data(name: str) -> tuple[Any, Any]:
    from raytune_hpo.tasks import task_by_name

    if name in ("images", "resnet"):
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from lane_tasks import BigImages, Images

        task: Any = Images() if name == "images" else BigImages()
        return task, task.load(0).for_trials()
    task = task_by_name(name)
    return task, task.load(0).for_trials()


def loop(device: str, repeats: int, models: dict[str, tuple[str, dict[str, Any]]], lanes: tuple[int, ...]) -> None:
    import torch

    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.memory import keep_freed_memory
    from raytune_hpo.training.trainer import SupervisedTrainer

    keep_freed_memory()  # as lane arrays do; it helps both
    torch.set_num_threads(1)
    clock = time.process_time if device == "cpu" else time.perf_counter

    def timed(epoch: Callable[[], object], least_s: float) -> float:
        count, began = 0, clock()
        while True:
            epoch()
            if device == "cuda":
                torch.cuda.synchronize()
            count += 1
            if clock() - began > least_s:
                return (clock() - began) / count

    unit = "CPU s" if device == "cpu" else "s"
    print(f"model-epochs a {unit}, {repeats} repeats; times the solo trainer in brackets", flush=True)
    for model, (task_name, base) in models.items():
        task, data = task_and_data(task_name)
        solo = SupervisedTrainer(task, data, max_epochs=10_000, device=device)
        solo.setup(base, 0)
        solo.train_epoch()
        fused = {L: FusedTrainer(task, data, max_epochs=10_000, device=device) for L in lanes}
        for L, trainer in fused.items():
            for lane in range(L):
                trainer.enter(str(lane), {**base, "lr": 1e-4 * (1 + lane / L)}, lane)
            for _ in range(3):  # the sizes of a pass are tried out in these
                trainer.train_epoch()
        alone: list[float] = []
        together: dict[int, list[float]] = {L: [] for L in lanes}
        for _ in range(repeats):
            alone.append(timed(solo.train_epoch, MEASURED_S))
            for L, trainer in fused.items():
                together[L].append(timed(trainer.train_epoch, MEASURED_S) / L)
        cells = []
        for L, times in together.items():
            gains = [a / t for a, t in zip(alone, times, strict=True)]
            gain = statistics.median(gains)
            spread = f"[{gain:.1f}, {min(gains):.1f}..{max(gains):.1f}]"
            cells.append(f"L={L} {1 / statistics.median(times):.0f} {spread}")
        print(f"{model:26} solo {1 / statistics.median(alone):.0f}  " + "  ".join(cells), flush=True)


# Whole runs -----------------------------------------------------------------------------------------


def one_run(contestant: str, trials: int, folder: str, space: str) -> dict[str, float]:
    """One run in this process, from before Ray's start to the results. space: "one", of MODELS' first, or "digits"."""
    if contestant == "optuna":
        return _optuna(trials)
    if contestant == "default":
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
    with watched() as peak:
        began = time.perf_counter()
        run_it = _ours if contestant in OURS else _ray
        found = run_it(contestant, trials, folder, space)
        found["wall_s"] = time.perf_counter() - began
    found["cpu_s"] = peak.cpu_s
    found["mb_a_trial"] = peak.workers_mb / found["live"]
    found["total_mb"] = peak.total_mb
    return found


def _experiment(trials: int, space: str = "one", **fields: Any) -> Any:
    from raytune_hpo import Experiment, Float

    of_one = {**{k: Float(*v, scale="log") for k, v in SPACE.items()}, **CONFIG}
    values = {"scheduler": "asha", "max_epochs": 27, "executor": "lanes", **fields}
    chosen = of_one if space == "one" else _digits_space()
    return Experiment(name="lanes", task="digits", space=chosen, num_samples=trials, **values)


def _digits_space() -> Any:
    from raytune_hpo.experiment.file import load_experiment

    return load_experiment(str(Path(__file__).parents[1] / "experiments" / "digits.py")).space


def _optuna(trials: int) -> dict[str, float]:
    """The script of a user of Optuna, by TPE, in one process."""
    script = Path(__file__).parent / "peers" / "optuna_digits.py"
    with watched() as peak:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(script), "--trials", str(trials)], capture_output=True, text=True, check=True
        )
        wall = time.perf_counter() - began
    found = json.loads(done.stdout.strip().splitlines()[-1])
    of_all = {"wall_s": wall, "cpu_s": peak.cpu_s, "mb_a_trial": peak.total_mb, "total_mb": peak.total_mb}
    return {**of_all, "epochs": found["epochs"], "best": found["best"], "live": 1}


def _ours(executor: str, trials: int, folder: str, space: str) -> dict[str, float]:
    from raytune_hpo import run

    results = run(_experiment(trials, space, executor=executor), Path(folder) / "run", quiet=True)
    live = os.cpu_count() or 1
    if results.ledger.executor.of_lanes:
        from raytune_hpo.workers.executors import MOST_LANES

        live = min(trials, MOST_LANES["cpu"] * (1 if results.ledger.executor.is_inline else live))
    epochs = sum(trial.epoch for trial in results.ledger.trials.values())
    return {"epochs": epochs, "best": float(results.ledger.best_trial.best), "live": live}


def trainable(config: dict[str, Any]) -> None:
    """What a user of plain Ray Tune writes: the same trainer, in a function."""
    from ray import tune

    from raytune_hpo.tasks.digits import Digits
    from raytune_hpo.training.trainer import SupervisedTrainer

    task = Digits()
    trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=27, device="cpu")
    if "draw" in config:  # our space has scales that Ray Tune has not
        space = _experiment(1, "digits").resolved.space
        config = space.sample(np.random.default_rng(config["draw"]))
    trainer.setup(config, 0)
    for _ in range(27):
        tune.report(trainer.train_epoch())


def _ray(contestant: str, trials: int, folder: str, space: str) -> dict[str, float]:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    from raytune_hpo.workers.ray_runtime import ray_session

    # Ray's own console output would be measured as well.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    of_one = {**{k: tune.loguniform(*v) for k, v in SPACE.items()}, **CONFIG}
    with ray_session(None, verbose=False):
        tuner = tune.Tuner(
            trainable,
            param_space=of_one if space == "one" else {"draw": tune.randint(0, 2**31)},
            tune_config=tune.TuneConfig(
                metric="validation_accuracy",
                mode="max",
                num_samples=trials,
                reuse_actors=contestant != "default",
                scheduler=ASHAScheduler(max_t=27, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(storage_path=folder, name="ray", verbose=0),
        )
        results = tuner.fit()
    assert not results.errors
    epochs = sum(r.metrics["training_iteration"] for r in results)
    best = results.get_best_result().metrics["validation_accuracy"]
    return {"epochs": epochs, "best": best, "live": os.cpu_count() or 1}


def runs(contestants: Sequence[str], trials: int, default_trials: int, repeats: int, space: str) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name in contestants:
            number = default_trials if name == "default" else trials
            found[name].append(_alone(["--one", name, "--trials", str(number), "--space", space]))
            print(f"{name}: " + ", ".join(f"{k} {v:.4g}" for k, v in found[name][-1].items()), flush=True)
    sizes = f"{trials} trials, ASHA, up to 27 epochs ({default_trials} for default)"
    print(f"{sizes}, {repeats} repeats, {os.cpu_count()} cores")
    columns = ("wall_s", "cpu_s", "mb_a_trial", "total_mb", "epochs", "best")
    print(f"{'':10}" + "".join(f"{column:>26}" for column in columns))
    for name, rows in found.items():
        cells = []
        for key in columns:
            values = [row[key] for row in rows]
            cells.append(f"{statistics.median(values):.3g} ({min(values):.3g}..{max(values):.3g})")
        print(f"{name:10}" + "".join(f"{cell:>26}" for cell in cells))


# Populations, and many trials ------------------------------------------------------------------------


def times_of(results: Results, kind: type[events.Event]) -> list[float]:
    """Seconds since the run began at which events of this kind were journaled."""
    return [step.t for step in results.steps for event in step.events if isinstance(event, kind)]


def one_population(scheduler: str, trials: int, folder: str) -> dict[str, float]:
    from raytune_hpo import events, run

    options = {"name": "pbt", "interval": 4} if scheduler == "pbt" else scheduler
    with watched() as family:
        results = run(_experiment(trials, scheduler=options, max_epochs=40), Path(folder) / "run", quiet=True)
    reports = times_of(results, events.Reported)
    exploits = len(results.perturbations)
    return {"train_s": reports[-1] - reports[0], "cpu_s": family.cpu_s, "exploits": exploits}


def populations(repeats: int) -> None:
    for trials in (64, 256):
        found: dict[str, list[dict[str, float]]] = {"fifo": [], "pbt": []}
        for _ in range(repeats):
            for name, rows in found.items():
                rows.append(_alone(["--one", name, "--trials", str(trials)]))
        overheads = [b["train_s"] / a["train_s"] - 1 for a, b in zip(found["fifo"], found["pbt"], strict=True)]
        print(f"population {trials}, {repeats} repeats, {found['pbt'][-1]['exploits']:.0f} exploits")
        for name, rows in found.items():
            train, cpu = (statistics.median(row[key] for row in rows) for key in ("train_s", "cpu_s"))
            print(
                f"    {name}: {train:.2f} s from the first report to the last; {cpu:.1f} s CPU of all processes, in all"
            )
        print(
            f"    pbt over fifo {statistics.median(overheads):+.1%} ({min(overheads):+.1%}..{max(overheads):+.1%})",
            flush=True,
        )


def many(trials: int, keep: Path | None) -> None:
    from raytune_hpo import events, run

    with tempfile.TemporaryDirectory() as folder, watched() as family:
        began = time.perf_counter()
        run_dir = keep or Path(folder) / "run"
        results = run(_experiment(trials), run_dir, quiet=True)
        wall = time.perf_counter() - began
        of_kind = {"begun": events.Suggested, "ended": events.Ended, "reports": events.Reported}
        times = {name: times_of(results, kind) for name, kind in of_kind.items()}
        size = (run_dir / "journal.jsonl").stat().st_size / 1e6
    memory = int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1e3
    print(f"{trials} trials, {len(results.curves)} epochs: {wall:.1f} s in all; journal {size:.1f} MB")
    for name, at in times.items():
        part = max(2, len(at) // 10)
        rates = [part / max(1e-9, at[i + part - 1] - at[i]) for i in range(0, len(at) - part + 1, part)]
        print(f"{name} a second, by tenths: {' '.join(f'{rate:.0f}' for rate in rates)}")
    print(f"driver at the end {memory:.0f} MB; all processes {family.total_mb:.0f} MB at most")


def _alone(arguments: list[str]) -> dict[str, float]:
    """What this program prints in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="?", choices=("loop", "runs", "pbt", "many", "mixed", "one"), help="default: loop, runs"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, help="default: 256, of many 10,000")
    parser.add_argument("--keep", type=Path, help="of many: the run directory, which stays")
    parser.add_argument("--default-trials", type=int, default=16)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=CONTESTANTS[:-1], help="of runs")
    parser.add_argument("--space", choices=("one", "digits"), default="one", help="of runs")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--lanes", type=int, nargs="+", default=list(LANES))
    parser.add_argument("--all-models", action="store_true", help="loop: a model of every kind in the repository")
    parser.add_argument(
        "--spaces", nargs="+", default=["digits", "diabetes"], help="of mixed: of experiments/, or deep"
    )
    parser.add_argument("--configs", type=int, default=mixed_lanes.CONFIGS, help="of mixed: that come and go")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            if options.one in ("fifo", "pbt"):
                print(json.dumps(one_population(options.one, options.trials, folder)))
            else:
                print(json.dumps(one_run(options.one, options.trials, folder, options.space)))
        return
    if options.part == "mixed":
        mixed_lanes.mixed(options.spaces, tuple(options.lanes), options.repeats, options.device, options.configs)
    if options.part == "one":
        mixed_lanes.one(tuple(options.lanes), options.device)
    if options.part == "pbt":
        populations(options.repeats)
    if options.part == "many":
        many(options.trials or 10_000, options.keep)
    if options.part in (None, "loop"):
        models = {**MODELS, **MORE_MODELS} if options.all_models else MODELS
        loop(options.device, options.repeats, models, tuple(options.lanes))
    if options.part in (None, "runs"):
        trials = options.trials or 256
        runs(options.contestants, trials, options.default_trials, options.repeats, options.space)


if __name__ == "__main__":
    main()
