"""Early stopping: end a trial whose metric has stopped improving. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode, Objective


@dataclass(frozen=True)
class EarlyStopping:
    """Stop after `patience` epochs in a row that are no better than the best before them.

    An epoch is better when `metric` beats the best by more than `min_delta` (in the metric's own
    units). metric, mode: None is the experiment's objective; in a trainer of its own, the validation loss. Raises
    ExperimentError naming the field that is wrong.
    """

    patience: int
    min_delta: float = 0.0
    mode: Mode | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 1:
            raise ExperimentError("early_stopping.patience", self.patience, "must be an int >= 1 (epochs)")
        is_number = isinstance(self.min_delta, int | float) and not isinstance(self.min_delta, bool)
        if not is_number or not (0 <= self.min_delta < math.inf):
            raise ExperimentError("early_stopping.min_delta", self.min_delta, "must be a finite float >= 0")
        if self.mode not in (None, "min", "max"):
            raise ExperimentError("early_stopping.mode", self.mode, "must be 'min' or 'max'")
        if self.metric is not None and (not isinstance(self.metric, str) or not self.metric):
            raise ExperimentError("early_stopping.metric", self.metric, "must be the name of a metric")


class PlateauTracker:
    """The running side of `EarlyStopping`: one value per epoch in, stop or not out."""

    def __init__(self, spec: EarlyStopping) -> None:
        self.spec = spec
        self.objective = Objective(spec.metric or "validation_loss", spec.mode or "min")
        self._best: float | None = None
        self._bad_epochs = 0

    @property
    def should_stop(self) -> bool:
        return self._bad_epochs >= self.spec.patience

    def update(self, value: float) -> bool:
        """Take an epoch's value; True once the trial should stop. NaN is never better."""
        if self._is_better(value):
            self._best = float(value)
            self._bad_epochs = 0
        else:
            self._bad_epochs += 1
        return self.should_stop

    def _is_better(self, value: float) -> bool:
        return not math.isnan(value) and (
            self._best is None or self.objective.better(value, self._best, self.spec.min_delta)
        )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "bad_epochs": self._bad_epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = None if state["best"] is None else float(state["best"])
        self._bad_epochs = int(state["bad_epochs"])
