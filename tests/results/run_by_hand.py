"""A run directory written by a test, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raytune_hpo.storage.journal import Journal

from raytune_hpo import Experiment
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.run_directory import RunDirectory


class RunByHand:
    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path = path
        directory = RunDirectory.create(path, experiment.to_json(), None)
        directory.unlock()
        self.store = CheckpointStore(path, 1)
        self.journal = Journal(directory.journal_path)
        self.t = 0.0
        self.add("session", number=1)

    def add(self, kind: str, **fields: Any) -> None:
        self.t += 1.5
        self.journal.append(self.t, [{"event": kind, **fields}])

    def result(self, trial: str, epoch: int, value: float, *, generation: int = 0, decision: str = "continue") -> None:
        metrics = {"value": value, "loss": -value}
        fields = {"generation": generation, "epoch": epoch, "metrics": metrics, "seconds": 0.25, "decision": decision}
        self.add("result", trial=trial, **fields)

    def checkpoint(self, trial: str, epoch: int, generation: int = 0) -> CheckpointRecord:
        scratch = self.store.scratch(trial)
        (scratch / "weights").write_text(f"{trial} {epoch}")
        record = self.store.commit(scratch, trial, generation, epoch)
        self.add("checkpoint", **record.to_json())
        return record

    def end(self, trial: str, status: str, *, reason: str = "max_epochs", error: str | None = None) -> None:
        self.add("end", trial=trial, status=status, reason=reason, error=error, file=None)

    def load(self) -> Results:
        return load_results(self.path)
