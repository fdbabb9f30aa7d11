"""A run directory written by hand: a journal of chosen events, read back without Ray ever being started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raytune_hpo import Experiment, Float

Event = dict[str, Any]


def suggest(trial: str, **config: Any) -> Event:
    return {"event": "suggest", "trial": trial, "config": config or {"lr": 0.01}}


def result(trial: str, epoch: int, accuracy: float, decision: str = "continue") -> Event:
    metrics = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}
    return {"event": "result", "trial": trial, "generation": 0, "epoch": epoch, "seconds": 0.5, "decision": decision,
            "metrics": metrics}  # fmt: skip


def checkpoint(trial: str, epoch: int) -> Event:
    path = f"checkpoints/{trial}/00-{epoch:05d}.1"
    return {"event": "checkpoint", "trial": trial, "generation": 0, "epoch": epoch, "bytes": 0, "crc32": 0,
            "path": path}  # fmt: skip


def end(trial: str, status: str, reason: str, error: str | None = None) -> Event:
    return {"event": "end", "trial": trial, "status": status, "reason": reason, "error": error,
            "file": error and f"errors/{trial}.txt"}  # fmt: skip


def written_run(path: Path, *lines: Event | str, **experiment: Any) -> Path:
    """A run directory with a journal of `lines`: events, one a step and second, or text as it is.

    experiment: fields of its experiment.json, as they stand there. Checkpoint folders are made, empty.
    """
    made = Experiment(name="hand", task="digits", space={"lr": Float(1e-4, 1e-1, "log"), "batch_size": 32},
                      num_samples=4)  # fmt: skip
    path.mkdir()
    description = {"format": 1, "experiment": {**made.to_json(), **experiment}, "versions": {}, "run_id": "0"}
    (path / "experiment.json").write_text(json.dumps(description))
    (path / "lock").touch()
    text = ""
    for second, line in enumerate(lines, start=1):
        text += line if isinstance(line, str) else json.dumps({"t": second, "events": [line]}) + "\n"
        if isinstance(line, dict) and line["event"] == "checkpoint":
            (path / line["path"]).mkdir(parents=True)
    (path / "journal.jsonl").write_text(text)
    return path


def finished_run(path: Path) -> Path:
    """Four trials: one of each way to end, t00001 the winner with a kept checkpoint and a test result."""
    run = written_run(
        path,
        {"event": "session", "number": 1, "pid": 1, "host": "h", "started": "s"},
        suggest("t00000", lr=0.01, batch_size=32),
        suggest("t00001", lr=0.05, batch_size=32),
        suggest("t00002", lr=0.001, batch_size=32),
        suggest("t00003", lr=0.1, batch_size=32),
        result("t00000", 1, 0.8, "stop"),
        end("t00000", "stopped", "scheduler"),
        result("t00001", 1, 0.9),
        checkpoint("t00001", 1),
        result("t00001", 2, 0.95),
        checkpoint("t00001", 2),
        result("t00001", 3, 0.94, "stop"),
        end("t00001", "completed", "max_epochs"),
        result("t00002", 1, float("nan"), "stop"),
        end("t00002", "diverged", "diverged"),
        end("t00003", "failed", "error", "ValueError: no"),
        {"event": "close", "status": "finished"},
    )
    sealed = {"trial": "t00001", "checkpoint": "checkpoints/t00001/00-00002.1", "epoch": 2}
    seal(run, sealed, {"test_accuracy": 0.93, "test_loss": 0.1})
    return run


def seal(run: Path, subject: dict[str, Any], metrics: dict[str, float]) -> None:
    """test.json with one opening, for the winner."""
    opening = {"purpose": "winner", "subject": subject, "again": False, "begun": "b", "ended": "e", "metrics": metrics}
    (run / "test.json").write_text(json.dumps({"openings": [opening]}))
