"""A trial as the driver and the tables see it: plain data, derived from the journal alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.configs import Config
from raytune_hpo.objective import Mode
from raytune_hpo.storage.checkpoints import CheckpointRecord

PENDING, RUNNING, PAUSED = "pending", "running", "paused"
COMPLETED, STOPPED, DIVERGED, FAILED = "completed", "stopped", "diverged", "failed"
UNFINISHED = (PENDING, RUNNING, PAUSED)
STATUSES = (*UNFINISHED, COMPLETED, STOPPED, DIVERGED, FAILED)


def better(a: float, b: float | None, mode: Mode) -> bool:
    """Whether metric value `a` beats `b`; anything finite beats None and NaN."""
    if not math.isfinite(a):
        return False
    if b is None or not math.isfinite(b):
        return True
    return a > b if mode == "max" else a < b


@dataclass
class TrialState:
    """One trial. generation counts its restarts from a donor's checkpoint (PBT), 0 otherwise.

    limit: the epoch at which it is complete, None for the experiment's max_epochs; parent: the trial whose
    checkpoint it began from; repeat, note: as in `search.algorithm.Plan`.
    """

    id: str
    index: int
    config: Config
    limit: int | None = None
    parent: str | None = None
    repeat: int | None = None
    note: dict[str, Any] | None = None
    status: str = PENDING
    narrowed: bool = False  # its lr has been moved into its structure's range
    generation: int = 0
    epoch: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)  # the last report
    best: float | None = None  # the metric at its best epoch
    best_epoch: int | None = None
    best_metrics: dict[str, Any] = field(default_factory=dict)  # the report at the best epoch
    best_config: Config = field(default_factory=dict)  # the config that was in force then (PBT changes it)
    seconds: float = 0.0
    checkpoints: list[CheckpointRecord] = field(default_factory=list)  # oldest first
    scores: dict[str, float] = field(default_factory=dict)  # checkpoint path -> the metric at its epoch
    failures: int = 0
    losses: float = 0  # workers lost since its last new report
    reason: str | None = None
    error: str | None = None
    error_file: str | None = None

    @property
    def finished(self) -> bool:
        return self.status not in UNFINISHED

    @property
    def eligible(self) -> bool:
        """Whether it may be the winner."""
        return self.status not in (FAILED, DIVERGED)

    def rank(self, mode: Mode) -> tuple[float, int]:
        """A key that sorts the best trial first, and of equal ones the one suggested first."""
        if self.best is None:
            return math.inf, self.index
        return (-self.best if mode == "max" else self.best), self.index

    @property
    def resume_from(self) -> CheckpointRecord | None:
        """The newest checkpoint of the current generation."""
        return next((c for c in reversed(self.checkpoints) if c.generation == self.generation), None)

    def best_checkpoint(self, mode: Mode) -> CheckpointRecord | None:
        """The checkpoint whose epoch had the best metric."""
        best: CheckpointRecord | None = None
        for record in self.checkpoints:
            score = self.scores.get(record.path, math.nan)
            if best is None or better(score, self.scores.get(best.path, math.nan), mode):
                best = record
        return best
