"""Choosing an ensemble's members by their predictions, and the gain over one model with its uncertainty.

Notations
    M, n, C, d    candidates, samples, classes, outputs of a regression
    predictions   [n, C] class probabilities or [n, d] outputs; of all candidates [M, n, C or d]
    y             [n] int64 classes or [n, d] float64 targets
    counts        [M] how often each candidate is in the ensemble; its share in the average
    samples       a metric's sums of each sample alone, [S, n]; one array a metric
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.objective import Objective
from raytune_hpo.training.data import Array
from raytune_hpo.training.kinds import loss_metric
from raytune_hpo.training.metrics import NOT_SCORED, BinaryCrossEntropy, CrossEntropy, Metric, WholeMetric
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLES = 10_000
CONFIDENCE = 0.95
EPSILON = 1e-9  # probabilities that are nearer to 0 or 1 have the logit of this one
_CHUNK = 2**21  # resampled values held at a time


class LogLoss(CrossEntropy):
    """Cross entropy of outputs that are logs of probabilities already: another softmax would only round them."""

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        scored = targets != NOT_SCORED
        losses = -outputs.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        return torch.stack([torch.where(scored, losses, 0.0).sum(-1), scored.sum(-1).to(losses)], -1)


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """What ensembles are measured by: the loss first, as in `Task.measured`, of predictions.

    Metrics of a whole split are left out (`unmeasured`): the bootstrap has the sums of single samples alone, and would
    have to compute such a metric anew for each of its resamples. In place of a loss of the task's own stands that of
    its kind, as that is one of predictions. Raises ExperimentError where the kind has none.
    """
    loss = loss_metric(task.kind, own=False)
    if loss is None:
        expected = "predicts what cannot be averaged: ensembles are of classes, labels or numbers"
        raise ExperimentError("task.kind", task.kind, expected)
    metrics = [m for m in task.metrics() if not isinstance(m, WholeMetric)]
    return (LogLoss() if isinstance(loss, CrossEntropy) else loss, *metrics)


def unmeasured(task: Task) -> tuple[str, ...]:
    """The names of the metrics that `metrics_of` leaves out."""
    return tuple(metric.name for metric in task.metrics() if isinstance(metric, WholeMetric))


def per_sample(predictions: Array, y: Array, metrics: Sequence[Metric]) -> list[Array]:
    """The samples of each metric: a model's samples as if each were a model's only one."""
    import torch

    from raytune_hpo.training.scores import as_metrics_take

    outputs = predictions.astype(np.float64)
    if y.dtype.kind == "i":
        outputs = np.log(np.maximum(outputs, np.finfo(np.float32).tiny))
    elif any(isinstance(metric, BinaryCrossEntropy) for metric in metrics):  # a label's logit
        bounded = np.clip(outputs, EPSILON, 1 - EPSILON)
        outputs = np.log(bounded) - np.log1p(-bounded)
    each, own = torch.from_numpy(outputs)[:, None], torch.from_numpy(y)[:, None]  # [n, 1, C or d], [n, 1] or [n, 1, d]
    each, own = as_metrics_take(each, own, 1)
    return [np.ascontiguousarray(metric.sums(each, own).numpy().T) for metric in metrics]


def figures(samples: Sequence[Array], metrics: Sequence[Metric]) -> dict[str, float]:
    """Each metric's value by its name, from `per_sample`."""
    found = zip(metrics, samples, strict=True)
    return {metric.name: float(metric.finish(sums.sum(1).tolist())) for metric, sums in found}


def cost(predictions: Array, y: Array, metrics: Sequence[Metric], name: str) -> tuple[float, ...]:
    """What is minimized: the metric of that name, then the loss, which is the first. Finite predictions only."""
    metric = next(metric for metric in metrics if metric.name == name)
    wanted = [metric] if metric is metrics[0] else [metric, metrics[0]]
    values = figures(per_sample(predictions, y, wanted), wanted)
    losses = (Objective(m.name, m.direction).loss(values[m.name]) for m in wanted)
    return tuple(loss if math.isfinite(loss) else math.inf for loss in losses)


def greedy(
    predictions: Array, y: Array, metrics: Sequence[Metric], name: str, size: int, headway: Headway = UNSEEN
) -> list[int]:
    """Counts of a forward selection with replacement, at most `size` in all, by the metric of that name.

    Begins with the average of the N best candidates, N chosen by the metric, then adds the candidate that helps
    most, again and again, and answers the best of all stages, of equal ones the smallest. Caruana,
    Niculescu-Mizil, Crew & Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004, sections 2.1 and
    2.2 (the bagging of section 2.3 is left out: it multiplies the members).
    """

    def cost_of(total: Array, members: int) -> tuple[float, ...]:
        headway.made()
        return cost(total / members, y, metrics, name)

    headway.begin("averages measured", len(predictions) + min(size, len(predictions)))
    order = sorted(range(len(predictions)), key=lambda m: (cost_of(predictions[m], 1), m))
    total = np.zeros(predictions.shape[1:])
    begins = []
    for n, m in enumerate(order[:size], start=1):
        total += predictions[m]
        begins.append((cost_of(total, n), n))
    best_cost, n = min(begins)
    chosen = order[:n]
    best = list(chosen)
    total = predictions[chosen].sum(0, dtype=np.float64)
    headway.begin("averages measured", len(predictions) * (size - n))
    while len(chosen) < size:
        members = len(chosen) + 1
        found, m = min((cost_of(total + predictions[m], members), m) for m in order)
        chosen.append(m)
        total += predictions[m]
        if found < best_cost:
            best_cost, best = found, list(chosen)
    return [best.count(m) for m in range(len(predictions))]


def average(predictions: Array, counts: Sequence[int]) -> Array:
    """[n, C or d] the ensemble's predictions."""
    weights = np.asarray(counts, dtype=np.float64) / sum(counts)
    total = np.zeros(predictions.shape[1:])
    for weight, prediction in zip(weights, predictions, strict=True):
        if weight:
            total += weight * prediction
    return total


def gains(
    ensemble: Sequence[Array],
    single: Sequence[Array],
    metrics: Sequence[Metric],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    headway: Headway = UNSEEN,
) -> dict[str, tuple[float, float, float]]:
    """metric -> (gain, low, high): how much better the ensemble is, positive for better, from two `per_sample`.

    low and high bound the middle 95 % of a paired bootstrap: both are judged on the same resampled samples
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, percentile interval).
    """
    values = np.concatenate([*ensemble, *single])  # [2 * sums of all metrics, n]
    ends = np.cumsum([len(samples) for samples in ensemble])[:-1]

    def gains_of(sums: Array) -> list[list[float]]:
        """[2 * sums of all metrics, k] -> [metrics, k]"""
        chosen, alone = (np.split(half, ends) for half in np.split(sums, 2))
        found = []
        for metric, *pair in zip(metrics, chosen, alone, strict=True):
            gain = Objective(metric.name, metric.direction).gain
            columns = zip(*(sums.T.tolist() for sums in pair), strict=True)
            found.append([gain(metric.finish(a) - metric.finish(b)) for a, b in columns])
        return found

    n = values.shape[1]
    rows = max(1, _CHUNK // n)
    parts = []
    headway.begin("resamples", resamples)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, (min(rows, resamples - start), n), dtype=np.int32)
        parts.append(np.stack([_resampled_sum(v, drawn) for v in values]))
        headway.made(len(drawn))
    quantiles = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    lows, highs = np.quantile(gains_of(np.concatenate(parts, axis=1)), quantiles, axis=1).tolist()
    whole = (gain for (gain,) in gains_of(values.sum(1, keepdims=True)))
    return {m.name: found for m, found in zip(metrics, zip(whole, lows, highs, strict=True), strict=True)}


def _resampled_sum(values: Array, drawn: Array) -> Array:
    """[resamples] sums of `values`, [n], at `drawn`, [resamples, n]. A number of samples is the same in each."""
    if (values == values[0]).all():
        return np.full(len(drawn), values.sum())
    sums: Array = values[drawn].sum(1)
    return sums


def is_finite(predictions: Array) -> bool:
    return math.isfinite(float(np.abs(predictions).max(initial=0.0)))
