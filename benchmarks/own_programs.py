"""Lanes for programs as their users wrote them: the tasks of tests/foreign, each as L lanes and one after the other.

    python benchmarks/own_programs.py                     # 8 and 64 lanes, 3 repeats: ten minutes on one core
    python benchmarks/own_programs.py --lanes 8 --only vae gru --repeats 1
    python benchmarks/own_programs.py auto                # whether auto takes lanes where they are faster

auto takes lanes where they are 1.1 times as fast or more.

Printed: CPU seconds of a model's epoch alone and as one of L lanes, one thread, medians over the repeats in turns, the
times they gain with minimum and maximum; and the tensor operations that torch dispatches for a model's epoch
(torch.utils._python_dispatch.TorchDispatchMode counts them; of a GPU they are the launches), with how many times fewer.
Configs differ in learning rate, as random search would draw it, and in what else the program's space holds.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from counting import counted

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PROGRAMS = (
    "char_transformer",
    "segmentation",
    "vae",
    "siamese",
    "multilabel",
    "gru",
    "finetune",
    "memmap",
    "imbalanced",
)
#: Of the training data: enough steps to tell, few enough to repeat.
SAMPLES, OF_LARGE_MODELS = 512, {"char_transformer": 64, "segmentation": 64, "gru": 128}
MEASURED_S = 0.5
MEGABYTES = 20


def experiment_of(name: str, folder: Path) -> Any:
    tuned = importlib.import_module(f"foreign.tuned.{name}")
    if name != "memmap":
        return tuned.experiment
    if not any(folder.glob("*.npy")) and not any(folder.glob("*.dat")):
        tuned.make_data(folder, MEGABYTES)
    return replace(tuned.experiment, task=tuned.Stripes(str(folder)))


def few(name: str, data: Any) -> Any:
    samples = OF_LARGE_MODELS.get(name, SAMPLES)
    return replace(data, train=data.train.first(samples), validation=data.validation.first(samples // 4))


def timed(epoch: Callable[[], object]) -> float:
    count, began = 0, time.process_time()
    while True:
        epoch()
        count += 1
        if time.process_time() - began > MEASURED_S:
            return (time.process_time() - began) / count


def configs_of(experiment: Any, lanes: int) -> list[dict[str, Any]]:
    from raytune_hpo.seeding import generator

    rng = generator(0, "benchmark")
    found: list[dict[str, Any]] = [experiment.space.sample(rng) for _ in range(lanes)]
    batch = found[0].get("batch_size")
    return [{**config, **({"batch_size": batch} if batch is not None else {})} for config in found]


def compared(name: str, lanes: list[int], repeats: int, folder: Path) -> list[str]:
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.trainer import SupervisedTrainer

    experiment = experiment_of(name, folder).resolved
    task, data = experiment.task, experiment.recipe().load()
    data = few(name, data)
    configs = configs_of(experiment, max(lanes))
    alone = SupervisedTrainer(task, data, max_epochs=10_000, device="cpu")
    alone.setup(configs[0], 0)
    alone.train_epoch()
    fused: Mapping[int, FusedTrainer] = {L: FusedTrainer(task, data, max_epochs=10_000, device="cpu") for L in lanes}
    for L, trainer in fused.items():
        for lane in range(L):
            trainer.enter(str(lane), configs[lane], lane)
        for _ in range(3):  # the sizes of a pass are tried out in these
            trainer.train_epoch()
    solo_s: list[float] = []
    lane_s: dict[int, list[float]] = {L: [] for L in lanes}
    for _ in range(repeats):
        solo_s.append(timed(alone.train_epoch))
        for L, trainer in fused.items():
            lane_s[L].append(timed(trainer.train_epoch) / L)
    solo_ops = counted(alone.train_epoch)
    rows = []
    for L, trainer in fused.items():
        gains = [a / b for a, b in zip(solo_s, lane_s[L], strict=True)]
        chunk = FusedTrainer(task, data, max_epochs=10_000, device="cpu", chunk=L)
        for lane in range(L):
            chunk.enter(str(lane), configs[lane], lane)
        chunk.train_epoch()
        ops = counted(chunk.train_epoch) / L
        gain = f"{statistics.median(gains):.1f} ({min(gains):.1f}-{max(gains):.1f})"
        why = trainer.unfusable or "; ".join(trainer.apart[:1])
        rows.append(
            f"| {name} | {L} | {statistics.median(solo_s) * 1e3:.1f} | {statistics.median(lane_s[L]) * 1e3:.1f} "
            f"| {gain} | {solo_ops} | {ops:.0f} | {solo_ops / ops:.1f} | {len(trainer._stacks)} | {why} |"
        )
    return rows


def auto(name: str, repeats: int, folder: Path) -> list[str]:
    """Whether auto takes lanes of eight of the space's configs, beside what these take alone and as lanes."""
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.workers import choice

    experiment = replace(experiment_of(name, folder), num_samples=64, searcher="random").resolved
    recipe = experiment.recipe()
    loaded = recipe.load()
    speed = choice.measured(experiment, loaded)
    if isinstance(speed, str):
        return [f"| {name} | processes | | | | {speed} |"]
    taken = "one by one" if speed.refusal else "lanes"
    try:
        data = few(name, loaded)
        configs = choice.configs_to_measure(experiment)
        together = FusedTrainer(recipe.task, data, max_epochs=10_000, device="cpu")
        for lane, config in enumerate(configs):
            together.enter(str(lane), config, lane)
    except Exception as error:  # of what can be no lanes
        return [f"| {name} | {taken} | | | | {speed.refusal or error} |"]
    trainers = [recipe.trainer(data, "cpu") for _ in configs]
    for lane, (trainer, config) in enumerate(zip(trainers, configs, strict=True)):
        trainer.setup(config, lane)
    for _ in range(3):
        together.train_epoch()

    def alone() -> None:
        for trainer in trainers:
            trainer.train_epoch()

    alone()
    gains = []
    for _ in range(repeats):
        one, other = timed(alone), timed(together.train_epoch)
        gains.append(one / other)
    gain = statistics.median(gains)
    right = (gain >= 1) == (taken == "lanes") or min(gains) <= 1 <= max(gains) or 1 <= gain < 1.1
    spread = f"{gain:.2f} ({min(gains):.2f}-{max(gains):.2f})"
    return [f"| {name} | {taken} | {spread} | {'yes' if right else 'no'} | {speed.refusal or ''} |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("loop", "auto"), default="loop")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--lanes", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import torch

    from raytune_hpo.training.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    if options.part == "loop":
        print("| program | L | alone, ms | a lane, ms | times | operations alone | a lane | times fewer | stacks | |")
        print("|---|---|---|---|---|---|---|---|---|---|")
    else:
        print("| program | auto takes | lanes are faster, times | it is right | |")
        print("|---|---|---|---|---|")
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            try:
                rows = (
                    compared(name, options.lanes, options.repeats, Path(folder))
                    if options.part == "loop"
                    else auto(name, options.repeats, Path(folder))
                )
            except Exception as error:
                rows = [f"| {name} | | | | {type(error).__name__}: {error} |"]
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
