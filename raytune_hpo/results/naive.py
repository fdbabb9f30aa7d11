"""What a model that learned nothing would score: a winner that is no better is none."""

from __future__ import annotations

import numpy as np

from raytune_hpo.training.resampling import pooled
from raytune_hpo.training.task import Array, Task, TrialData


def naive_value(task: Task, metric: str, data: TrialData) -> float | None:
    """`metric` on the validation data of the best constant prediction; None for a metric that is not known here.

    validation_accuracy: the share of the commonest class; validation_loss of classes: that of predicting their shares
    (nats); of a regression: the mean squared error of predicting the mean, or with validation_rmse its root.
    The constant is of the training data, or of all where training and validation samples are drawn from one pool.
    """
    train, validation = data.train.y, data.validation.y
    if task.exchangeable:
        train = validation = pooled(data).y
    if task.kind == "classification":
        return _of_classes(metric, train, validation)
    squared = float(((validation - train.mean(0)) ** 2).mean())
    return {"validation_loss": squared, "validation_rmse": squared**0.5}.get(metric)


def _of_classes(metric: str, train: Array, validation: Array) -> float | None:
    classes = int(max(train.max(), validation.max())) + 1
    counts = np.bincount(train, minlength=classes)
    if metric == "validation_accuracy":
        return float((validation == counts.argmax()).mean())
    if metric != "validation_loss":
        return None
    if not counts[np.unique(validation)].all():
        counts = counts + 1  # a class that training never shows
    return float(-np.log(counts / counts.sum())[validation].mean())
