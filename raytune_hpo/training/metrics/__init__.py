"""Metrics: what is computed of a model's outputs on a split, each in one object. Torch is imported at their first use.

    metric          Metric: sums that add up over batches; Mean, of which most are
    whole           WholeMetric, Whole: what needs all samples of a split together
    scored          which targets count
    classes         Accuracy, TopK, CalibrationError
    cross_entropy   CrossEntropy, Perplexity, BinaryCrossEntropy
    overlap         F1, Dice, IoU
    ranking         AUROC
    regression      MeanSquaredError, RootMeanSquaredError, MeanAbsoluteError, R2
    checked         what a task's `metrics()` may answer

What this folder may not do: import torch at the top of a module, know of trainers, lanes or tasks.
"""

from raytune_hpo.training.metrics.checked import checked_metrics
from raytune_hpo.training.metrics.classes import Accuracy, CalibrationError, TopK
from raytune_hpo.training.metrics.cross_entropy import BinaryCrossEntropy, CrossEntropy, Perplexity
from raytune_hpo.training.metrics.metric import Metric
from raytune_hpo.training.metrics.overlap import F1, Dice, IoU
from raytune_hpo.training.metrics.ranking import AUROC
from raytune_hpo.training.metrics.regression import R2, MeanAbsoluteError, MeanSquaredError, RootMeanSquaredError
from raytune_hpo.training.metrics.scored import NOT_SCORED
from raytune_hpo.training.metrics.whole import Whole, WholeMetric

__all__ = [
    "AUROC",
    "F1",
    "NOT_SCORED",
    "R2",
    "Accuracy",
    "BinaryCrossEntropy",
    "CalibrationError",
    "CrossEntropy",
    "Dice",
    "IoU",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Perplexity",
    "RootMeanSquaredError",
    "TopK",
    "Whole",
    "WholeMetric",
    "checked_metrics",
]
