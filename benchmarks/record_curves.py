"""Record the learning curves that benchmarks/search_quality.py replays: every point of two grids, 30 epochs each.

    nice -n 15 python benchmarks/record_curves.py --task digits      # 1,000 configurations, 5 minutes of one core
    nice -n 15 python benchmarks/record_curves.py --task mnist       # 8 minutes; MNIST is found as `Mnist` finds it

The plain trainer in a loop, without Ray, on one thread of the CPU. Killed and started again, it goes on where it
was. The curves are a function of `SEED`; the seconds are those of the machine.

Written: benchmarks/curves/<task>.parquet, a row per epoch: the configuration's hyperparameters, `epoch` (from 1),
`validation_accuracy`, `validation_loss`, `seconds` (CPU seconds of that epoch, so that other work on the machine
does not count). From the epoch at which a configuration diverges, both metrics are NaN; the epochs after that one
were not trained and have NaN seconds. The file's metadata say what was trained, on what and with which versions.

1,000 is a full grid and not a sample: the best value is known, and a lookup needs no model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
from recordings import FOLDER, RECORDINGS, SOLO, Recording

from raytune_hpo.seeding import derive_seed
from raytune_hpo.space.parameters import Int

EPOCHS = 30
SEED = 0


def train(recording: Recording, data: Any, config: dict[str, Any], seed: int) -> list[list[float]]:
    """[EPOCHS][3]: accuracy, loss, CPU seconds."""
    import torch

    from raytune_hpo.training.trainer import SupervisedTrainer

    trainer = SupervisedTrainer(recording.task, data, max_epochs=EPOCHS, device="cpu")
    trainer.setup({**recording.fixed, **config}, seed)
    # The curves in the repository are of when data orders came from torch's generator: a trial begun then goes on so.
    order = torch.Generator().manual_seed(derive_seed(seed, "data order")).get_state()
    trainer.load_state_dict({**trainer.state_dict(), "order": order})
    rows: list[list[float]] = []
    for _ in range(EPOCHS):
        began = time.thread_time()
        metrics = trainer.train_epoch()
        seconds = time.thread_time() - began
        rows.append([metrics["validation_accuracy"], metrics["validation_loss"], seconds])
        if not math.isfinite(metrics["validation_loss"]):
            rows += [[math.nan] * 3] * (EPOCHS - len(rows))
            break
    return rows


def record(name: str, folder: Path) -> Path:
    """Record what is missing of a task's curves. Returns the Parquet file."""
    import torch

    torch.set_num_threads(1)
    recording = RECORDINGS[name]
    data = recording.task.load(SEED).for_trials()
    configs = recording.configs()
    partial = folder / f"{name}.partial.jsonl"
    curves = read_partial(partial)
    train(recording, data, configs[0], 0)  # the first steps of a process are slow: not to be timed
    with partial.open("a") as file:
        for i, config in enumerate(configs):
            if i not in curves:
                curves[i] = train(recording, data, config, derive_seed(SEED, "curves", name, i))
                file.write(json.dumps([i, curves[i]]) + "\n")
                file.flush()
            if i % 50 == 49:
                cpu_s = sum(np.nansum([row[2] for row in curves[k]]) for k in curves)
                print(f"{name}: {i + 1} of {len(configs)} configurations, {cpu_s:.0f} s of training", flush=True)
    target = folder / f"{name}.parquet"
    write(recording, configs, np.array([curves[i] for i in range(len(configs))]), target)
    partial.unlink()
    return target


def read_partial(file: Path) -> dict[int, list[list[float]]]:
    """What an earlier process recorded; the line it was killed in is dropped from the file."""
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        file.write_text("".join(whole))
    return dict(map(json.loads, whole))


def write(recording: Recording, configs: list[dict[str, Any]], curves: np.ndarray[Any, Any], target: Path) -> None:
    """curves: [configs, EPOCHS, 3]."""
    import pyarrow
    import torch
    from pyarrow import parquet

    columns: dict[str, Any] = {}
    for name, parameter in recording.space.items():
        kind = pyarrow.int32() if isinstance(parameter, Int) else pyarrow.float64()  # exact: they are looked up
        columns[name] = pyarrow.array(np.repeat([c[name] for c in configs], EPOCHS), kind)
    columns["epoch"] = pyarrow.array(np.tile(np.arange(1, EPOCHS + 1), len(configs)), pyarrow.int8())
    for i, name in enumerate(("validation_accuracy", "validation_loss", "seconds")):
        columns[name] = pyarrow.array(curves[:, :, i].ravel(), pyarrow.float32())
    about = {
        "task": type(recording.task).__name__,
        "options": json.dumps(recording.task.options()),
        "fixed": json.dumps(recording.fixed),
        "seed": str(SEED),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
    }
    table = pyarrow.table(columns).replace_schema_metadata(about)
    scratch = target.with_suffix(".tmp")
    parquet.write_table(table, scratch, compression="zstd", compression_level=19)
    os.replace(scratch, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=(*SOLO, "all"), default="all")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the Parquet files go")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in SOLO if arguments.task == "all" else (arguments.task,):
        file = record(name, arguments.folder)
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
