"""What a model that learned nothing would score: a winner that is no better is none."""

from __future__ import annotations

from raytune_hpo.training.data import TrialData
from raytune_hpo.training.resampling import pooled
from raytune_hpo.training.task import Task


def naive_value(task: Task, metric: str, data: TrialData) -> float | None:
    """`metric` on the validation data of the best constant prediction; None where the metric knows of none.

    The constant is of the training data, or of all where training and validation samples are drawn from one pool.
    """
    found = task.metric_reported_as(metric)
    if found is None:
        return None
    if task.exchangeable:
        y = pooled(data).y
        return found.baseline(y, y)
    return found.baseline(data.train.y, data.validation.y)
