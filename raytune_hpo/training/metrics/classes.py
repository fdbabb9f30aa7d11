"""Of one class a target: how often the right one was named, and how sure a model was."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import TrialError
from raytune_hpo.training.metrics.metric import Mean, Metric, totals_and_count
from raytune_hpo.training.metrics.scored import NOT_SCORED, check_classes, class_counts

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class Accuracy(Mean):
    """The share of samples whose largest output is that of their class."""

    name = "accuracy"
    direction = "max"
    share = True

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        check_classes("accuracy", outputs, targets)
        scored = (targets != NOT_SCORED).sum(-1)
        return totals_and_count((outputs.argmax(-1) == targets).sum(-1, dtype=torch.float64), scored)

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of the commonest class."""
        return share_of_commonest(train, validation, 1)


@dataclass(frozen=True)
class TopK(Mean):
    """The share of samples whose class is among the k largest outputs; `top5` for k = 5. k: 1 or more."""

    k: int = 5

    direction = "max"
    share = True

    def __post_init__(self) -> None:
        checks.integer("TopK.k", self.k, 1)
        object.__setattr__(self, "name", f"top{self.k}")

    @property
    def summed_by(self) -> Hashable:
        return type(self).sums, self.k

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        check_classes(self.name, outputs, targets)
        if self.k > outputs.shape[-1]:
            raise TrialError(f"metric {self.name} asks for {self.k} of {outputs.shape[-1]} classes")
        # -100 is nobody's index. (Counting larger outputs instead would take equal ones, and NaN, for hits.)
        hits = (outputs.topk(self.k, dim=-1).indices == targets.unsqueeze(-1)).any(-1)
        return totals_and_count(hits.sum(-1, dtype=torch.float64), (targets != NOT_SCORED).sum(-1))

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of the k commonest classes."""
        return share_of_commonest(train, validation, self.k)


@dataclass(frozen=True)
class CalibrationError(Metric):
    """The expected calibration error: how far the probability of the likeliest class is from how often it is right.

    The mean over the samples of |accuracy - confidence| of a sample's bin, of `bins` equal bins (low, high] of
    confidence. Naeini et al. 2015; Guo et al. 2017, arXiv:1706.04599, equation 3. It is biased upwards by about
    sqrt(bins / samples). No baseline: a constant prediction of the classes' shares is calibrated, and of no use.
    """

    bins: int = 15

    name = "ece"
    direction = "min"

    def __post_init__(self) -> None:
        checks.integer("CalibrationError.bins", self.bins, 1)

    @property
    def summed_by(self) -> Hashable:
        return type(self).sums, self.bins

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """[*, 1 + bins]: samples; of each bin the hits less the confidences."""
        import torch

        check_classes(self.name, outputs, targets)
        outputs = outputs.double() if outputs.dtype.itemsize < 4 else outputs
        largest, found = outputs.max(-1)
        confidence = (largest - outputs.logsumexp(-1)).double().exp()
        at = (confidence * self.bins).ceil().sub(1).clamp(0, self.bins - 1)
        scored = targets != NOT_SCORED
        surplus = torch.where(scored, (found == targets).double() - confidence, 0.0)
        # Bin after bin: all at once would hold `bins` numbers a pixel. A confidence of NaN has no bin, and
        # makes all of them NaN: a model that answers it has no calibration.
        gaps = [torch.where((at == b) | surplus.isnan(), surplus, 0.0).sum(-1) for b in range(self.bins)]
        return torch.stack([scored.sum(-1, dtype=torch.float64), *gaps], -1)

    def finish(self, sums: Sequence[float]) -> float:
        samples, *gaps = sums
        return math.fsum(map(abs, gaps)) / samples if samples else math.nan


def share_of_commonest(train: Array, validation: Array, k: int) -> float | None:
    """How much of `validation` is of the k commonest classes of `train`; None where either has none."""
    counts = class_counts(train, validation)
    if counts is None:
        return None
    found, held_out = counts
    chosen = np.argsort(-found, kind="stable")[:k]
    return float(held_out[chosen].sum() / held_out.sum())
