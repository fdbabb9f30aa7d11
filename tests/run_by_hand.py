"""A run directory written by a test, event by event."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo import Experiment, Float, Int
from raytune_hpo.journal.events import CheckpointRecord, CheckpointSaved, Decided, Ended, Event, Reported, SessionOpened
from raytune_hpo.journal.file import Journal
from raytune_hpo.objective import Mode
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.states import Decision, Outcome
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.run_directory import RunDirectory


def trainable(config: dict[str, Any]) -> None:
    """Never called."""


def experiment(mode: Mode = "max") -> Experiment:
    space = {"lr": Float(1e-4, 1.0, "log"), "model": {"units": Int(1, 9)}, "n": 3}
    return Experiment(name="byhand", task=trainable, space=space, metric="value", mode=mode)


def config(units: int) -> dict[str, Any]:
    return {"lr": 0.1, "model": {"units": units}, "n": 3}


class RunByHand:
    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path = path
        directory = RunDirectory.create(path, experiment.to_json(), None)
        directory.unlock()
        self.store = CheckpointStore(path, 1)
        self.journal = Journal(directory.journal_path, directory.description()["run_id"])
        self.t = 0.0
        self.add(SessionOpened(1))

    def add(self, *events: Event) -> None:
        """One step."""
        self.t += 1.5
        self.journal.append(self.t, events)

    def report(
        self,
        trial: str,
        epoch: int,
        metrics: Mapping[str, Any],
        *,
        generation: int = 0,
        seconds: float = 0.1,
        decision: str = "continue",
    ) -> None:
        reported = Reported(trial, generation, epoch, dict(metrics), seconds)
        self.add(reported, Decided(trial, epoch, Decision(decision)))

    def result(self, trial: str, epoch: int, value: float, *, generation: int = 0, decision: str = "continue") -> None:
        metrics = {"value": value, "loss": -value}
        self.report(trial, epoch, metrics, generation=generation, seconds=0.25, decision=decision)

    def saved(self, record: CheckpointRecord) -> None:
        self.add(CheckpointSaved(record.trial, record))

    def checkpoint(self, trial: str, epoch: int, generation: int = 0) -> CheckpointRecord:
        scratch = self.store.scratch(trial)
        (scratch / "weights").write_text(f"{trial} {epoch}")
        record = self.store.commit(scratch, trial, generation, epoch)
        self.saved(record)
        return record

    def end(self, trial: str, status: str, *, reason: str = "max_epochs", error: str | None = None) -> None:
        self.add(Ended(trial, Outcome(status), reason, error))

    def load(self) -> Results:
        return load_results(self.path)
