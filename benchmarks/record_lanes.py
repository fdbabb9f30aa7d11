"""Record the learning curves of benchmarks/recordings.py that are not the plain trainer's: every point of a grid, by a
run of the product itself, with lanes.

    nice -n 15 python benchmarks/record_lanes.py                     # what is not recorded yet
    nice -n 15 python benchmarks/record_lanes.py --task diabetes     # this one, anew

Written: benchmarks/curves/<task>.parquet, a row per seed, configuration and epoch, in the order of
`Recording.configs`: `seed`, `config` (its number), `epoch` (from 1), the objective, and `seconds`. From the epoch at
which a configuration diverges, the objective is NaN.

Lanes train many models in one pass, so what one of them takes is not seen there. The seconds are those that the plain
trainer takes for an epoch of a configuration of this structure and batch size, on one thread: the least of three.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from recordings import FOLDER, RECORDINGS, SOLO, Recording

from raytune_hpo.seeding import derive_seed

SEED = 0
#: what an epoch's time does not depend on
FREE = ("lr", "momentum", "weight_decay", "dropout", "activation")


def seconds(recording: Recording, configs: list[dict[str, Any]]) -> list[float]:
    """Of an epoch of each config."""
    import torch

    from raytune_hpo.training.trainer import SupervisedTrainer

    torch.set_num_threads(1)
    data = recording.task.load(SEED).for_trials()
    known: dict[str, float] = {}
    found = []
    for config in configs:
        key = json.dumps({k: v for k, v in config.items() if k not in FREE})
        if key not in known:
            trainer = SupervisedTrainer(recording.task, data, max_epochs=10, device="cpu")
            trainer.setup({**recording.fixed, **config}, 0)
            trainer.train_epoch()
            times = []
            for _ in range(3):
                began = time.thread_time()
                trainer.train_epoch()
                times.append(time.thread_time() - began)
            known[key] = min(times)
        found.append(known[key])
    return found


def curves(name: str, recording: Recording, configs: list[dict[str, Any]], seed: int) -> np.ndarray[Any, Any]:
    """[configs, epochs], of one training of each."""
    from raytune_hpo import Experiment, load_results
    from raytune_hpo.engine.run import run as run_quietly

    with tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(
            name=name,
            task=recording.task,
            space={**recording.space, **recording.fixed},
            metric=recording.metric,
            mode=recording.mode,
            searcher="random",
            scheduler="fifo",
            start_points=configs,
            num_samples=len(configs),
            max_epochs=recording.epochs,
            seed=seed,
            executor="lanes",
            checkpoint={"every": recording.epochs},
            max_failures=0,
            storage=folder,
        )
        results = run_quietly(experiment)
        table = load_results(results.run_dir).curves
    found = np.full((len(configs), recording.epochs), math.nan)
    trials = {trial: i for i, trial in enumerate(dict.fromkeys(sorted(table["trial_id"])))}
    assert len(trials) == len(configs), f"{len(trials)} of {len(configs)} reported"
    rows = table["trial_id"].map(trials)
    found[rows, table["epoch"] - 1] = table[recording.metric]
    found[~np.isfinite(found)] = math.nan
    return found


def record(name: str, folder: Path) -> Path:
    import pyarrow
    import torch
    from pyarrow import parquet

    recording = RECORDINGS[name]
    configs = recording.configs()
    n, epochs, seeds = len(configs), recording.epochs, recording.seeds
    began = time.perf_counter()
    found = [curves(name, recording, configs, derive_seed(SEED, "recording", s)) for s in range(seeds)]
    wall_s = time.perf_counter() - began
    columns = {
        "seed": pyarrow.array(np.repeat(np.arange(seeds), n * epochs), pyarrow.int8()),
        "config": pyarrow.array(np.tile(np.repeat(np.arange(n), epochs), seeds), pyarrow.int16()),
        "epoch": pyarrow.array(np.tile(np.arange(1, epochs + 1), n * seeds), pyarrow.int8()),
        recording.metric: pyarrow.array(np.array(found).ravel(), pyarrow.float32()),
        "seconds": pyarrow.array(np.tile(np.repeat(seconds(recording, configs), epochs), seeds), pyarrow.float32()),
    }
    about = {
        "task": type(recording.task).__name__,
        "options": json.dumps(recording.task.options()),
        "fixed": json.dumps(recording.fixed),
        "configs": json.dumps(configs),
        "seed": str(SEED),
        "wall_s": f"{wall_s:.0f}",
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    }
    target = folder / f"{name}.parquet"
    scratch = target.with_suffix(".tmp")
    table = pyarrow.table(columns).replace_schema_metadata(about)
    parquet.write_table(table, scratch, compression="zstd", compression_level=19)
    os.replace(scratch, target)
    print(f"{name}: {n} configurations, {seeds} seeds, {epochs} epochs, {wall_s:.0f} s", flush=True)
    return target


def main() -> None:
    names = [name for name in RECORDINGS if name not in SOLO]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=names)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the Parquet files go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in [arguments.task] if arguments.task else names:
        if arguments.task or not (arguments.folder / f"{name}.parquet").exists():
            file = record(name, arguments.folder)
            print(f"{file.name}: {file.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main()
