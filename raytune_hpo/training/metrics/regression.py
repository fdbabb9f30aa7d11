"""Of numbers: errors, and how much of the variance they leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.training.metrics.metric import Mean, Metric, totals_and_count
from raytune_hpo.training.metrics.scored import check_alike

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class MeanSquaredError(Mean):
    """Over samples and outputs, in the squared units of the targets."""

    name = "loss"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        from torch.nn import functional

        check_alike("loss", outputs, targets)
        samples = targets.shape[-2]
        errors = functional.mse_loss(outputs, targets, reduction="none").flatten(-2)
        mean = errors.mean(-1) if samples else errors.sum(-1)
        return totals_and_count(mean.double() * samples, samples)

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


class MeanAbsoluteError(Mean):
    """Over samples and outputs, in the units of the targets."""

    name = "mae"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        check_alike("mae", outputs, targets)
        return totals_and_count((outputs - targets).abs().double().mean(-1).sum(-1), targets.shape[-2])

    def baseline(self, train: Array, validation: Array) -> float:
        """Of predicting the median."""
        return float(np.abs(validation - np.median(train, axis=0)).mean())


class R2(Metric):
    """1 - squared errors / squared deviations from the mean of the targets: the coefficient of determination.

    The mean over the outputs, of each its own; an output whose targets are all the same has none, and is left out. NaN
    where that is not finite. The sums are of squares in float64: targets whose mean is m times their deviation lose
    2 log10(m) of 16 digits.
    """

    name = "r2"
    direction = "max"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        """[*, 1 + 3 d]: samples; of each output targets, squared targets, squared errors."""
        import torch

        check_alike("r2", outputs, targets)
        y = targets.double()
        sums = [values.sum(-2) for values in (y, y.square(), (outputs.double() - y).square())]
        return torch.cat([torch.full_like(sums[0][..., :1], targets.shape[-2]), *sums], -1)

    def finish(self, sums: Sequence[float]) -> float:
        samples, (total, squares, errors) = sums[0], np.asarray(sums[1:], dtype=np.float64).reshape(3, -1)
        if not samples:
            return math.nan
        deviations = squares - total**2 / samples
        # Rounding leaves this much of targets that are all the same.
        varies = deviations > 8 * np.finfo(np.float64).eps * squares
        if not varies.any():
            return math.nan
        value = float((1 - errors[varies] / deviations[varies]).mean())
        return value if math.isfinite(value) else math.nan

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of predicting the mean."""
        y = np.asarray(validation, dtype=np.float64).reshape(len(validation), -1)
        errors = y - np.asarray(train, dtype=np.float64).reshape(len(train), -1).mean(0)
        value = self.finish([len(y), *y.sum(0), *(y**2).sum(0), *(errors**2).sum(0)])
        return None if math.isnan(value) else value
