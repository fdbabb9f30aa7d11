"""Metrics: what is computed of a model's outputs on a split, each in one object. Torch is imported at their first use.

A metric adds up sums over batches and finishes them to one number. So one object serves wherever a model is measured:
a trainer's validation, many lanes side by side, the folds of a cross-validation, the test, an ensemble, its bootstrap.

    class MeanAbsoluteError(Metric):
        name, direction = "mae", "min"

        def sums(self, outputs, targets):
            errors = (outputs - targets).abs().double().mean(-1)
            return torch.stack([errors.sum(-1), torch.ones_like(errors).sum(-1)], -1)

        def finish(self, sums):
            return sums[0] / sums[1] if sums[1] else math.nan

A task names its metrics in `Task.metrics()`.

Notations
    *       the leading axes: none of one model, [L] of lanes
    N, C, d samples of a batch, classes, outputs of a regression
    S       the sums that a metric needs
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class Metric(ABC):
    """One metric, without state. name: reported as validation_NAME and test_NAME. direction: which way is better.

    share: whether a value is a share of the samples, so that its noise is that of counting.
    """

    name: str
    direction: Mode
    share: bool = False

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """[*, S] float64 that add up over batches, on the outputs' device.

        outputs: [*, N, C], of which softmax makes probabilities, or [*, N, d]; targets: [*, N] classes or [*, N, d].
        Many models are one call: no loop over the leading axes. A static method where nothing of the object counts:
        metrics that have it in common are then summed up once.
        """

    @abstractmethod
    def finish(self, sums: Sequence[float]) -> float:
        """The value, of one model's S added sums; NaN of no samples."""

    def baseline(self, train: Array, validation: Array) -> float | None:
        """The value on the targets `validation` of the best constant prediction from `train`; None if none is known.

        train, validation: [n] classes or [n, d].
        """
        return None


class _Mean(Metric):
    """Of sums [total, samples]."""

    def finish(self, sums: Sequence[float]) -> float:
        total, samples = sums
        return total / samples if samples else math.nan


class Accuracy(_Mean):
    """The share of samples whose largest output is that of their class."""

    name = "accuracy"
    direction = "max"
    share = True

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        return _counted((outputs.argmax(-1) == targets).sum(-1, dtype=torch.float64), targets.shape[-1])

    def baseline(self, train: Array, validation: Array) -> float:
        """Of the commonest class."""
        return float((validation == _counts(train, validation).argmax()).mean())


class CrossEntropy(_Mean):
    """In nats, without label smoothing, so that configs compare."""

    name = "loss"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        from raytune_hpo.training.losses import lane_losses, loss_of

        # Each is fast in its place, and what training takes: they agree up to rounding.
        mean = (loss_of if outputs.ndim == 2 else lane_losses)(outputs, targets, "classification")
        return _counted(mean.double() * targets.shape[-1], targets.shape[-1])

    def baseline(self, train: Array, validation: Array) -> float:
        """Of predicting the classes' shares."""
        counts = _counts(train, validation)
        if not counts[np.unique(validation)].all():
            counts = counts + 1  # a class that training never shows
        return float(-np.log(counts / counts.sum())[validation].mean())


class MeanSquaredError(_Mean):
    """Over samples and outputs, in the squared units of the targets."""

    name = "loss"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        samples = targets.shape[-2]
        mean = functional.mse_loss(outputs, targets, reduction="none").flatten(-2).mean(-1)
        return _counted(mean.double() * samples, samples)

    def baseline(self, train: Array, validation: Array) -> float:
        """Of predicting the mean."""
        return float(((validation - train.mean(0)) ** 2).mean())


class RootMeanSquaredError(MeanSquaredError):
    """The root of the mean squared error, in the units of the targets; NaN where that is not finite."""

    name = "rmse"

    def finish(self, sums: Sequence[float]) -> float:
        squared = super().finish(sums)
        return math.sqrt(squared) if math.isfinite(squared) else math.nan

    def baseline(self, train: Array, validation: Array) -> float:
        """Of predicting the mean."""
        return float(super().baseline(train, validation) ** 0.5)


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


def _counted(totals: Tensor, samples: int) -> Tensor:
    """totals: [*], float64 -> [*, 2], each with the number of samples beside it."""
    from torch.nn import functional

    return functional.pad(totals.unsqueeze(-1), (0, 1), value=float(samples))


def _counts(train: Array, validation: Array) -> Array:
    """[classes] how often each class of either is in `train`; both [n] classes."""
    return np.bincount(train, minlength=int(max(train.max(), validation.max())) + 1)
