"""What a model that learned nothing would score: a winner that is no better is none."""

from __future__ import annotations

from typing import Any

import numpy as np

from raytune_hpo.training.data import Array, Split, TrialData
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
        y = _targets(pooled(data))
        return None if y is None else found.baseline(y, y)
    train, validation = _targets(data.train), _targets(data.validation)
    return None if train is None or validation is None else found.baseline(train, validation)


def _targets(split: Any) -> Array | None:
    y = split.y if isinstance(split, Split) else None
    return y if isinstance(y, np.ndarray) and not lies_in_file(y) else None
