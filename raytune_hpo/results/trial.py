"""A trial as the driver and the tables see it: plain data, derived from the journal alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Status


@dataclass(eq=False)
class TrialState:
    """One trial. generation counts its restarts from a donor's checkpoint (PBT), 0 otherwise.

    limit: the epoch at which it is complete, None for the experiment's max_epochs; parent: the trial whose
    checkpoint it began from; repeat, note: as in `search.algorithm.Plan`. searched: whether the search suggested it.
    replicate_of: the trial whose config it trains again (`results.replicates`).
    """

    id: str
    index: int
    config: Config
    limit: int | None = None
    parent: str | None = None
    repeat: int | None = None
    note: dict[str, Any] | None = None
    searched: bool = True
    replicate_of: str | None = None
    status: Status = Status.PENDING
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
    codes: set[int] = field(default_factory=set)  # the versions of the code that it reported by, from 1
    failures: int = 0
    losses: float = 0  # workers lost since its last new report
    reopened: bool = False  # it had failed, and is tried again
    met: dict[str, Any] = field(default_factory=dict)  # what its code has asked for: as of `events.Discovered`
    held: bool = False  # paused by a person, or will be after its running epoch
    paused_by_hand: bool = False  # and no scheduler has
    promoted: bool = False  # a person lets it train on to `limit`, whatever the scheduler says
    tags: tuple[str, ...] = ()
    remark: str | None = None  # a person's
    reason: str | None = None
    error: str | None = None
    error_file: str | None = None

    @property
    def finished(self) -> bool:
        return self.status.finished

    @property
    def running(self) -> bool:
        return self.status == Status.RUNNING

    @property
    def eligible(self) -> bool:
        """Whether it may be the winner."""
        return self.status.eligible and self.replicate_of is None

    def stopped_early(self, stop_reason: str | None) -> bool:
        """Whether something stopped it that was not the end of the run, of which `stop_reason` tells."""
        return self.status == Status.STOPPED and self.reason != stop_reason

    def rank(self, objective: Objective) -> tuple[float, int]:
        """A key that sorts the best trial first, and of equal ones the one suggested first."""
        return math.inf if self.best is None else objective.loss(self.best), self.index

    @property
    def resume_from(self) -> CheckpointRecord | None:
        """The newest checkpoint of the current generation."""
        return next((c for c in reversed(self.checkpoints) if c.generation == self.generation), None)

    def best_checkpoint(self, objective: Objective) -> CheckpointRecord | None:
        """The checkpoint whose epoch had the best metric."""
        best: CheckpointRecord | None = None
        for record in self.checkpoints:
            score = self.scores.get(record.path, math.nan)
            if best is None or objective.better(score, self.scores.get(best.path, math.nan)):
                best = record
        return best


def finite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as strict JSON: NaN and infinities become None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
