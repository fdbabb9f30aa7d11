"""What a model that learned nothing would score: a winner that is no better is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from raytune_hpo.training.data import Array, Kind, Split, TrialData
from raytune_hpo.training.file_arrays import lies_in_file
from raytune_hpo.training.resampling import can_be_pooled, pooled
from raytune_hpo.training.task import Task


def naive_value(task: Task, metric: str, data: TrialData) -> float | None:
    """`metric` on the validation data of the best constant prediction; None where the metric knows of none.

    The constant is of the training data, or of all where training and validation samples are drawn from one pool.
    """
    found = task.metric_reported_as(metric)
    own = task.has_own_targets or (metric == "validation_loss" and task.has_own_loss)
    if found is None or own:
        return None
    if task.exchangeable and can_be_pooled(data):
        y = _targets(pooled(data), task.kind)
        return None if y is None else found.baseline(y, y)
    train, validation = _targets(data.train, task.kind), _targets(data.validation, task.kind)
    return None if train is None or validation is None else found.baseline(train, validation)


def _targets(split: Any, kind: Kind) -> Array | None:
    y = split.y if isinstance(split, Split) else None
    if not isinstance(y, np.ndarray) or lies_in_file(y):
        return None
    return y.astype(np.float64) if kind == "multilabel" else y  # whole numbers of 0 and 1 may be classes
