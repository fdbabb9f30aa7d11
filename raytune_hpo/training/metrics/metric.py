"""The interface of a metric.

A metric adds up sums over batches and finishes them to one number. So one object serves wherever a model is measured:
a trainer's validation, many lanes side by side, the folds of a cross-validation, the test, an ensemble, its bootstrap.

    class MeanFourthPower(Metric):
        name, direction = "fourth", "min"

        def sums(self, outputs, targets):
            powers = (outputs - targets).double().pow(4).mean(-1)
            return torch.stack([powers.sum(-1), torch.ones_like(powers).sum(-1)], -1)

        def finish(self, sums):
            return sums[0] / sums[1] if sums[1] else math.nan

A task names its metrics in `Task.metrics()`.

Notations
    *       the leading axes: none of one model, [L] of lanes
    N       samples of a batch; of targets for each token or pixel every one of these is a sample
    C, K, d classes, labels of a sample, outputs of a regression
    S       the sums that a metric needs
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

from raytune_hpo.objective import Mode

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class Metric(ABC):
    """One metric, without state. name: reported as validation_NAME and test_NAME. direction: which way is better.

    share: whether a value is a share of the samples, so that its noise is that of counting.
    Two of one class are equal where their attributes are.
    """

    name: str
    direction: Mode
    share: bool = False

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """[*, S] float64 that add up over batches, on the outputs' device.

        outputs: [*, N, C] logits, of which softmax makes probabilities, for targets [*, N], classes, of which -100 is
        not scored; or [*, N, d] for targets of that shape, numbers, or labels of 0 and 1.
        Many models are one call: no loop over the leading axes. A static method where nothing of the object counts:
        metrics that have it in common are then summed up once.
        """

    @abstractmethod
    def finish(self, sums: Sequence[float]) -> float:
        """The value, of one model's S added sums; NaN of no samples."""

    @property
    def summed_by(self) -> Hashable:
        """Of metrics with equal ones the sums are computed once. Here: the function, and an object's own method is
        equal to no other's. A class whose options change its sums may answer the function with these options."""
        return self.sums

    def baseline(self, train: Array, validation: Array) -> float | None:
        """The value on the targets `validation` of the best constant prediction from `train`; None if none is known.

        train, validation: [n] or [n, ...] classes, or [n, ...] numbers or labels.
        """
        return None

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))


class Mean(Metric):
    """Of sums [total, samples]."""

    def finish(self, sums: Sequence[float]) -> float:
        total, samples = sums
        return total / samples if samples else math.nan


def totals_and_count(totals: Tensor, samples: Tensor | int) -> Tensor:
    """totals: [*] -> the sums of a `Mean`, [*, 2]. samples: [*], or the same for all."""
    import torch

    counts = torch.full_like(totals, samples) if isinstance(samples, int) else samples.to(totals)
    return torch.stack([totals, counts], -1)
