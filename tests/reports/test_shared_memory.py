"""What a task's data take in each worker: what lies in a file or in Ray's store is there once for all of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raytune_hpo import Batch, Experiment, Float, Split, Splits, Task, run

MB = 1 << 20


def private_mb() -> float:
    """The private anonymous memory of this process: neither a file's pages nor shared ones."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024


@dataclass(frozen=True)
class Weighed(Task):
    """A sample: 64 KB of a file and 48 KB of bytes in memory. Each worker notes what it holds before it has any data,
    and with each batch.

    folder: of the file and the notes.
    """

    kind: ClassVar[Any] = "other"
    folder: str = ""
    samples: int = 16

    def load(self, seed: int) -> Splits:
        n = self.samples
        mapped = np.memmap(Path(self.folder) / "x.bin", "u1", "w+", shape=(n, 64 << 10))
        mapped[:, 0] = np.arange(n) % 251
        pixels = np.zeros((n, 3, 1 << 14), np.uint8).transpose(0, 2, 1)  # channels last: not in one piece
        pixels[:, 0, 0] = np.arange(n) % 251
        x = {"mapped": mapped, "pixels": pixels}
        parts = (slice(0, n // 2), slice(n // 2, n), slice(0, 2))
        return Splits(*(Split({name: array[part] for name, array in x.items()}) for part in parts))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._note()

    def _note(self) -> None:
        with (Path(self.folder) / str(os.getpid())).open("a") as notes:
            notes.write(f"{private_mb()}\n")

    def preprocess(self, x: Any, statistics: Mapping[str, Any]) -> Any:
        """[N, 2]"""
        found = torch.stack([x["mapped"][:, 0].float(), x["pixels"][:, 0, 0].float()], 1)
        self._note()
        return found

    def loss(self, model: nn.Module, batch: Batch, config: Any) -> torch.Tensor:
        assert bool((batch.x[:, 0] == batch.x[:, 1]).all())
        return (model(batch.x / 251) ** 2).mean()

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        return model(batch.x)

    def build_model(self, config: Any) -> nn.Module:
        return nn.Linear(2, 1)


@pytest.mark.parametrize("samples", [2048, pytest.param(20480, marks=pytest.mark.large)])
def test_a11_workers_hold_no_copy_of_bytes_nor_of_mapped_files(samples: int, tmp_path: Path, ray_session: None) -> None:
    """128 MB in a file and 96 MB in memory; ten times as much where that is asked for (`-m large`)."""
    experiment = Experiment(
        name="weighed",
        task=Weighed(str(tmp_path), samples),
        space={"lr": Float(1e-3, 1e-2), "batch_size": 16},
        num_samples=4,
        max_epochs=1,
        scheduler="fifo",
        executor="processes",
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    assert results.counts["completed"] == 4, results.rows()
    noted = [list(map(float, notes.read_text().split())) for notes in tmp_path.iterdir() if notes.name.isdigit()]
    grown = [max(of_one) - of_one[0] for of_one in noted if len(of_one) > 10]  # the others have loaded or tested
    assert grown
    assert max(grown) < (90 if samples == 2048 else 200), noted
