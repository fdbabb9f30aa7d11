"""A run directory written by hand: a journal of chosen events, read back without Ray ever being started."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hpo import Experiment, Float
from raytune_hpo.journal.chain import Link
from raytune_hpo.journal.events import (
    CheckpointRecord,
    CheckpointSaved,
    Closed,
    Decided,
    Ended,
    Event,
    Reported,
    SessionOpened,
    Suggested,
)
from raytune_hpo.journal.file import Journal
from raytune_hpo.states import Decision, Outcome, RunStatus
from raytune_hpo.storage.run_directory import FORMAT, whoever

RUN_ID = "0123456789abcdef"


def suggest(trial: str, **config: Any) -> Suggested:
    return Suggested(trial, config or {"lr": 0.01})


def result(
    trial: str, epoch: int, accuracy: float, decision: str = "continue", generation: int = 0
) -> tuple[Event, Event]:
    """A report and what is decided on it: one step, as the driver writes it."""
    metrics = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}
    return Reported(trial, generation, epoch, metrics, 0.5), Decided(trial, epoch, Decision(decision))


def checkpoint(trial: str, epoch: int) -> CheckpointSaved:
    path = f"checkpoints/{trial}/00-{epoch:05d}.1"
    return CheckpointSaved(trial, CheckpointRecord(trial, 0, epoch, path, bytes=0, crc32=0))


def end(trial: str, status: str, reason: str, error: str | None = None) -> Ended:
    return Ended(trial, Outcome(status), reason, error, error and f"errors/{trial}.txt")


def written_run(path: Path, *lines: Event | Sequence[Event] | dict[str, Any] | str, **experiment: Any) -> Path:
    """A run directory with a journal of `lines`, one a second: a step's events, an event as JSON, or text as it is.

    experiment: fields of its experiment.json, as they stand there. Checkpoint folders are made, empty.
    """
    made = Experiment(name="hand", task="digits", space={"lr": Float(1e-4, 1e-1, "log"), "batch_size": 32},
                      searcher="random", scheduler="asha", num_samples=4)  # fmt: skip
    path.mkdir()
    description = {"format": FORMAT, "experiment": {**made.to_json(), **experiment}, "versions": {}, "run_id": RUN_ID}
    description = {**description, "made_by": whoever()}
    (path / "experiment.json").write_text(json.dumps(description))
    (path / "lock").touch()
    file = path / "journal.jsonl"
    journal = Journal(file, RUN_ID)
    for second, line in enumerate(lines, start=1):
        if isinstance(line, dict):
            append_raw(journal, line)
            continue
        if isinstance(line, str):
            os.write(journal._file, line.encode())
            continue
        events = [line] if isinstance(line, Event) else list(line)
        journal.append(second, events)
        for event in events:
            if isinstance(event, CheckpointSaved):
                (path / event.checkpoint.path).mkdir(parents=True)
    journal.close()
    return path


def append_raw(journal: Journal, *events: dict[str, Any]) -> None:
    """A line that fits in the chain, of events as JSON has them, which no record may be able to hold."""
    link = journal.link
    body = json.dumps({"n": link.number + 1, "t": 1.0, "at": 1.0, "events": events})[:-1].encode()
    sum_ = hashlib.blake2b(link.sum.encode() + body, digest_size=8, key=journal.run_id.encode()).hexdigest()
    os.write(journal._file, body + b',"sum":"' + sum_.encode() + b'"}\n')
    journal.link = Link(link.number + 1, sum_, link.events + len(events))


def finished_run(path: Path) -> Path:
    """Four trials: one of each way to end, t00001 the winner with a kept checkpoint and a test result."""
    run = written_run(
        path,
        SessionOpened(1, pid=1, host="h", started="s"),
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
        Closed(RunStatus.FINISHED),
    )
    sealed = {"trial": "t00001", "checkpoint": "checkpoints/t00001/00-00002.1", "epoch": 2}
    seal(run, sealed, {"test_accuracy": 0.93, "test_loss": 0.1})
    return run


def seal(run: Path, subject: dict[str, Any], metrics: dict[str, float]) -> None:
    """test.json with one opening, for the winner."""
    opening = {"purpose": "winner", "subject": subject, "again": False, "begun": "b", "ended": "e", "metrics": metrics}
    (run / "test.json").write_text(json.dumps({"openings": [opening]}))
