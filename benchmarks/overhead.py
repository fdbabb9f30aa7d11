"""What a trial costs besides its training: do-nothing trials, ours against plain Ray Tune, in turns.

    python benchmarks/overhead.py                      # 200 trials of 10 epochs, 5 repeats, about 10 minutes
    python benchmarks/overhead.py --trials 50 --repeats 1
    python benchmarks/overhead.py --from-exec          # the clock runs from exec to exit, Ray's start and end in it
    python benchmarks/overhead.py --marginal           # what one more trial costs: 2,000 trials against 200

Contestants, each in a process of its own with a Ray of its own, started before the clock:
    raytune_hpo    run(), results durable (every step is journaled and synced before the next), trials in processes
    inline         the same, trials in the driver's own process, without Ray
    tuned          tune.Tuner with reuse_actors=True and loggers off: nothing but Ray's snapshots on disk
    durable        the same with Ray's result loggers on: results on disk, not synced
    default        tune.Tuner as it comes, of fewer trials (--default-trials), since each starts a process

--from-exec  as a user waits for it: ours starts Ray its own way, Ray Tune has a Ray of ray.init's defaults but for its
             dashboard. The clock is the parent's.
--marginal   (time of the larger of --sizes - time of the smaller) / their difference, in either clock: of a run's start
             and end nothing is left in it

Printed: the median over the repeats with minimum and maximum; CPU seconds are of all processes. A contestant runs in
an empty folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from measured import watched
from medians import spread, table
from whole_process import run_program

CONTESTANTS = ("raytune_hpo", "inline", "tuned", "durable", "default")
OF_MARGINAL = ("raytune_hpo", "inline", "tuned")
OURS = {"raytune_hpo": "processes", "inline": "inline"}
"""Contestant -> its executor."""


def nothing(config: dict[str, Any]) -> None:
    from ray import tune

    for epoch in range(config["epochs"]):
        tune.report({"score": config["x"] + epoch})


def nothing_inline(config: dict[str, Any]) -> None:
    import raytune_hpo

    for epoch in range(config["epochs"]):
        raytune_hpo.report({"score": config["x"] + epoch})


def one(contestant: str, trials: int, epochs: int, folder: str) -> dict[str, float]:
    """One run, measured from the call that starts it to the one that has its results."""
    # watched: workers have ended before the run has, and nobody waits for their CPU time.
    with _ray_before(contestant), watched() as spent:
        began = time.perf_counter()
        reported = _run(contestant, trials, epochs, folder)
        wall_s = time.perf_counter() - began
    assert reported == trials * epochs, (reported, trials * epochs)
    return _figures(trials, epochs, wall_s, spent.cpu_s)


def from_exec(contestant: str, trials: int, epochs: int) -> dict[str, float]:
    """One run, a process, measured from outside."""
    program = run_program(_command(contestant, trials, epochs, "--from-exec"))
    assert json.loads(program.stdout.strip().splitlines()[-1]) == trials * epochs
    return _figures(trials, epochs, program.wall_s, program.cpu_s)


def _command(contestant: str, trials: int, epochs: int, *more: str) -> list[str]:
    sizes = ["--trials", str(trials), "--epochs", str(epochs)]
    return [sys.executable, os.path.abspath(__file__), "--only", contestant, *sizes, *more]


def _figures(trials: int, epochs: int, wall_s: float, cpu_s: float) -> dict[str, float]:
    return {
        "trials_per_s": trials / wall_s,
        "results_per_s": trials * epochs / wall_s,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "cpu_ms_per_trial": cpu_s / trials * 1e3,
    }


@contextlib.contextmanager
def _ray_before(contestant: str) -> Iterator[None]:
    """A Ray that is started before the clock, but for a contestant that needs none."""
    if contestant == "inline":
        yield
        return
    from raytune_hpo.workers.ray_runtime import ray_session

    if contestant in ("durable", "default"):
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "0"
    with ray_session(None, verbose=False):
        yield


def _run(contestant: str, trials: int, epochs: int, folder: str) -> int:
    """The reports of a run."""
    if contestant in OURS:
        return _ours(contestant, trials, epochs, folder)
    return _ray(contestant, trials, epochs, folder)


def _run_alone(contestant: str, trials: int, epochs: int, folder: str) -> int:
    """The same in a process whose whole time is measured: Ray Tune's Ray is started as its user does."""
    if contestant not in OURS:
        import ray

        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1" if contestant == "tuned" else "0"
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
    return _run(contestant, trials, epochs, folder)


def _ours(contestant: str, trials: int, epochs: int, folder: str) -> int:
    from raytune_hpo import Experiment, Float, run

    experiment = Experiment(
        name="overhead",
        task=nothing_inline if contestant == "inline" else nothing,
        space={"x": Float(0, 1), "epochs": epochs},
        metric="score",
        mode="max",
        scheduler="fifo",
        num_samples=trials,
        max_epochs=epochs + 1,
        executor=OURS[contestant],
    )
    return sum(trial.epoch for trial in run(experiment, Path(folder) / "run", quiet=True).ledger.trials.values())


def _ray(contestant: str, trials: int, epochs: int, folder: str) -> int:
    from ray import tune

    # Ray's own console output would be measured as well.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    tuner = tune.Tuner(
        nothing,
        param_space={"x": tune.uniform(0, 1), "epochs": epochs},
        tune_config=tune.TuneConfig(
            metric="score", mode="max", num_samples=trials, reuse_actors=contestant != "default"
        ),
        run_config=tune.RunConfig(storage_path=folder, name="ray", verbose=0),
    )
    results = tuner.fit()
    assert not results.errors
    return sum(r.metrics["training_iteration"] for r in results)


def measured(contestant: str, trials: int, epochs: int, *, exec_too: bool) -> dict[str, float]:
    """One run in a process of its own, by either clock."""
    if exec_too:
        return from_exec(contestant, trials, epochs)
    found: dict[str, float] = json.loads(run_program(_command(contestant, trials, epochs)).stdout.splitlines()[-1])
    return found


def whole_runs(contestants: Sequence[str], options: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(options.repeats):
        for name, rows in found.items():
            trials = options.default_trials if name == "default" else options.trials
            rows.append(measured(name, trials, options.epochs, exec_too=options.from_exec))
    of_default = f" ({options.default_trials} for default)" if "default" in contestants else ""
    sizes = f"{options.trials} trials of {options.epochs} epochs{of_default}"
    clock = ", from exec to exit" if options.from_exec else ""
    print(f"{sizes}, {options.repeats} repeats, {os.cpu_count()} cores{clock}")
    columns = {"trials_per_s": "trials/s", "results_per_s": "results/s", "cpu_ms_per_trial": "CPU ms/trial"}
    columns |= {"wall_s": "wall s"} if options.from_exec else {}
    rows_of = [(name, [spread((r[key] for r in rows), ".3g") for key in columns]) for name, rows in found.items()]
    table(list(columns.values()), rows_of)


def marginal(contestants: Sequence[str], options: argparse.Namespace) -> None:
    few, many = options.sizes
    found: dict[str, list[tuple[dict[str, float], dict[str, float]]]] = {name: [] for name in contestants}
    for _ in range(options.repeats):
        for name, pairs in found.items():
            a, b = (measured(name, trials, options.epochs, exec_too=options.from_exec) for trials in (few, many))
            pairs.append((a, b))
    print(f"{few} and {many} trials of {options.epochs} epochs, {options.repeats} repeats, {os.cpu_count()} cores")
    rows = []
    for name, pairs in found.items():
        cells = [spread((pair[i]["wall_s"] for pair in pairs), ".3g") for i in (0, 1)]
        for key in ("wall_s", "cpu_s"):
            cells.append(spread(((b[key] - a[key]) / (many - few) * 1e3 for a, b in pairs), ".3g"))
        rows.append((name, cells))
    table((f"{few}: wall s", f"{many}: wall s", "ms a further trial", "CPU ms a further trial"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--default-trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, help="default: all")
    parser.add_argument("--from-exec", action="store_true", help="measure whole processes")
    parser.add_argument("--marginal", action="store_true", help="measure what one more trial costs")
    parser.add_argument(
        "--sizes", type=int, nargs=2, default=(200, 2000), metavar=("FEW", "MANY"), help="of --marginal"
    )
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        with tempfile.TemporaryDirectory() as folder:
            run = _run_alone if options.from_exec else one
            print(json.dumps(run(options.only, options.trials, options.epochs, folder)))
    elif options.marginal:
        marginal(options.contestants or OF_MARGINAL, options)
    else:
        whole_runs(options.contestants or CONTESTANTS, options)


if __name__ == "__main__":
    main()
