"""Choosing an ensemble's members by their predictions, and the gain over one model with its uncertainty.

Notations
    M, n, C, d    candidates, samples, classes, outputs of a regression
    predictions   [n, C] class probabilities or [n, d] outputs; of all candidates [M, n, C or d]
    counts        [M] how often each candidate is in the ensemble; its share in the average
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Kind = Literal["classification", "regression"]
Array = np.ndarray[Any, Any]

RESAMPLES = 10_000
CONFIDENCE = 0.95
_CHUNK = 2**21  # resampled values held at a time


def per_sample(predictions: Array, y: Array, kind: Kind) -> dict[str, Array]:
    """What the metrics are means of, each [n]: loss (nats, or squared error) and accuracy (0 or 1) or rmse.

    y: [n] classes or [n, d] targets. (rmse is the root of the mean of the squared errors.)
    """
    if kind == "classification":
        right = predictions[np.arange(len(y)), y].astype(np.float64)
        loss = -np.log(np.maximum(right, np.finfo(np.float32).tiny))
        return {"loss": loss, "accuracy": (predictions.argmax(1) == y).astype(np.float64)}
    squared = np.square(predictions.astype(np.float64) - y).mean(1)
    return {"loss": squared, "rmse": squared}


def figures(samples: dict[str, Array]) -> dict[str, float]:
    """The metrics, from `per_sample`."""
    return {name: _aggregate(name, float(values.mean())) for name, values in samples.items()}


def _aggregate(name: str, mean: Any) -> Any:
    return np.sqrt(mean) if name == "rmse" else mean


def cost(predictions: Array, y: Array, kind: Kind, metric: str) -> tuple[float, ...]:
    """What is minimized: the metric, of accuracies that are equal the loss. Finite predictions only."""
    samples = per_sample(predictions, y, kind)
    loss = float(samples["loss"].mean())
    return (-float(samples["accuracy"].mean()), loss) if metric == "accuracy" else (loss,)


def greedy(predictions: Array, y: Array, kind: Kind, metric: str, size: int) -> list[int]:
    """Counts of a forward selection with replacement, at most `size` in all.

    Begins with the average of the N best candidates, N chosen by the metric, then adds the candidate that helps
    most, again and again, and answers the best of all stages, of equal ones the smallest. Caruana,
    Niculescu-Mizil, Crew & Ksikes, "Ensemble Selection from Libraries of Models", ICML 2004, sections 2.1 and
    2.2 (the bagging of section 2.3 is left out: it multiplies the members).
    """

    def cost_of(total: Array, members: int) -> tuple[float, ...]:
        return cost(total / members, y, kind, metric)

    order = sorted(range(len(predictions)), key=lambda m: (cost(predictions[m], y, kind, metric), m))
    total = np.zeros(predictions.shape[1:])
    begins = []
    for n, m in enumerate(order[:size], start=1):
        total += predictions[m]
        begins.append((cost_of(total, n), n))
    best_cost, n = min(begins)
    chosen = order[:n]
    best = list(chosen)
    total = predictions[chosen].sum(0, dtype=np.float64)
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
    ensemble: dict[str, Array], single: dict[str, Array], rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float, float]]:
    """metric -> (gain, low, high): how much better the ensemble is, positive for better, from two `per_sample`.

    low and high bound the middle 95 % of a paired bootstrap: both are judged on the same resampled samples
    (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13, percentile interval).
    """
    names = list(ensemble)
    values = np.stack([s[name] for s in (ensemble, single) for name in names])  # [2 * metrics, n]
    n = values.shape[1]
    means = []
    rows = max(1, _CHUNK // n)
    for start in range(0, resamples, rows):
        drawn = rng.integers(0, n, (min(rows, resamples - start), n), dtype=np.int32)
        means.append(np.stack([v[drawn].mean(1) for v in values]))
    drawn_means = np.concatenate(means, axis=1)  # [2 * metrics, resamples]
    found = {}
    for i, name in enumerate(names):
        better = 1.0 if name == "accuracy" else -1.0

        def gain(means: Array, i: int = i, name: str = name, better: float = better) -> Array:
            difference: Array = better * (_aggregate(name, means[i]) - _aggregate(name, means[i + len(names)]))
            return difference

        low, high = np.quantile(gain(drawn_means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        found[name] = (float(gain(values.mean(1))), float(low), float(high))
    return found


def is_finite(predictions: Array) -> bool:
    return math.isfinite(float(np.abs(predictions).max(initial=0.0)))
