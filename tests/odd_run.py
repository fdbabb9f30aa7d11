"""A run with what exports stumble over: every ending, a trial that was set back, odd names, values and choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from written_run import checkpoint, end, result, suggest, written_run

from raytune_hpo import Choice, Float, Int
from raytune_hpo.journal.events import CheckpointRecord, Decided, Narrowed, Perturbed, Reopened, Reported, Started
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import Decision

NAN, INFINITY = float("nan"), float("inf")
ODD = "<script>alert(1)</script>" + "x" * 200
SPACE: dict[str, Any] = {
    "lr": Float(1e-4, 1e-1, "log"),
    "net": {"depth": Int(1, 3), "norm": Choice([True, False])},
    "layers": Choice([[16], None, 3, "auto"]),
    "batch_size": 32,
}
BASE: dict[str, Any] = {"lr": 0.01, "net": {"depth": 2, "norm": True}, "layers": [16], "batch_size": 32}


def reported(trial: str, epoch: int, accuracy: float, generation: int = 0, **metrics: Any) -> list[Any]:
    values = {"validation_accuracy": accuracy, **metrics}
    return [Reported(trial, generation, epoch, values, 0.5), Decided(trial, epoch, Decision("continue"))]


def odd_run(path: Path) -> Path:
    """t00001 goes back to epoch 1 with another config; t00002 diverges, t00003 fails, and is tried again, t00004 goes
    on."""
    copy = CheckpointRecord("t00001", 1, 1, "checkpoints/t00001/01-00001.1", bytes=0, crc32=0)
    perturbed = Perturbed(*("t00001", "t00000", 1, 0, 3, 1, BASE, {**BASE, "lr": 0.12}, copy))
    return written_run(
        path,
        *(suggest(f"t0000{i}", **BASE) for i in range(5)),
        Narrowed("t00000", {**BASE, "lr": 0.02}),
        *(Started(f"t0000{i}", 0) for i in range(5)),
        reported("t00000", 1, 0.9, **{"a/b": 1, ODD: 2.5, "wide": 10**300, "sure": True, "said": "yes", "none": None}),
        checkpoint("t00000", 1),
        reported("t00000", 2, 0.8, **{"a/b": -INFINITY}),
        reported("t00001", 1, 0.1),
        reported("t00001", 2, 0.2),
        result("t00001", 3, 0.3, "exploited"),
        perturbed,
        reported("t00001", 2, 0.25, generation=1),
        end("t00000", "completed", "max_epochs"),
        result("t00002", 1, NAN, "diverged"),
        end("t00002", "diverged", "validation_accuracy at epoch 1"),
        end("t00003", "failed", "error", "ValueError: no"),
        reported("t00004", 1, 0.3),
        end("t00001", "stopped", "pbt"),
        Reopened("t00003"),
        reported("t00003", 1, 0.2),
        end("t00003", "completed", "max_epochs"),
        space=SearchSpace(SPACE).to_json(),
    )
