"""The check of what a task's `metrics()` answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode
from raytune_hpo.training.metrics.metric import Metric


def checked_metrics(found: Any) -> tuple[Metric, ...]:
    """What a task's `metrics()` answered. Raises ExperimentError where that is no sequence of distinct metrics."""
    field = "task.metrics()"
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise ExperimentError(field, found, "must be a sequence of Metric objects")
    names: set[str] = set()
    for metric in found:
        if not isinstance(metric, Metric):
            hint = f"; write {metric.__name__}()" if isinstance(metric, type) and issubclass(metric, Metric) else ""
            raise ExperimentError(field, metric, f"must be a Metric object{hint}")
        kind, name = type(metric).__name__, getattr(metric, "name", None)
        if not isinstance(name, str) or not name.isidentifier():
            raise ExperimentError(f"{kind}.name", name, "must be a word, as in validation_WORD")
        if name == "loss" or name in names:
            taken = "is the loss's own, which is always reported" if name == "loss" else "is another metric's, too"
            raise ExperimentError(f"{kind}.name", name, taken)
        direction = getattr(metric, "direction", None)
        if direction not in get_args(Mode):
            raise ExperimentError(f"{kind}.direction", direction, "must be 'min' or 'max'")
        names.add(name)
    return tuple(found)
