"""How what was found and what is there overlap: F1 of samples and labels, Dice and IoU of pixels.

Of counts a class: both (true positives), only found (false positives), only there (false negatives), over the whole
split. A class that is neither found nor there has no value, and is left out of a mean over classes.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from raytune_hpo import checks
from raytune_hpo.training.metrics.metric import Metric
from raytune_hpo.training.metrics.scored import NOT_SCORED, check_alike, class_counts, is_of_classes, label_counts

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array

Average = Literal["macro", "micro"]


class _Overlap(Metric):
    """Of sums [3 C]: both, found, there, of each class."""

    direction = "max"

    @abstractmethod
    def of_counts(self, both: Array, found: Array, there: Array) -> Array:
        """[classes] each -> [classes] or []; found or there is not 0."""

    def finish(self, sums: Sequence[float]) -> float:
        return self._value(*np.asarray(sums, dtype=np.float64).reshape(3, -1))

    def _value(self, both: Array, found: Array, there: Array) -> float:
        some = ~(found + there == 0)  # not: > 0, which NaN is not
        return float(self.of_counts(both[some], found[some], there[some]).mean()) if some.any() else math.nan

    def _of_commonest(self, train: Array, validation: Array) -> float | None:
        """Of classes: of the commonest everywhere."""
        counts = class_counts(train, validation)
        if counts is None:
            return None
        trained, there = counts
        found, best = np.zeros(len(there)), int(trained.argmax())
        found[best] = there.sum()
        return self._value(np.minimum(found, there), found, there.astype(np.float64))


@dataclass(frozen=True)
class F1(_Overlap):
    """2 both / (found + there): the harmonic mean of precision and recall. van Rijsbergen 1979, chapter 7.

    Of classes, outputs [*, N, C] for targets [*, N]; or of labels, [*, N, K] logits for [*, N, K] of 0 and 1, where a
    logit above 0 is a yes. average: "macro", the mean over classes or labels, as `f1`; "micro", of the counts of all
    together, as `f1_micro` (which of classes is the accuracy).
    """

    average: Average = "macro"

    def __post_init__(self) -> None:
        checks.one_of("F1.average", self.average, get_args(Average))
        object.__setattr__(self, "name", "f1" if self.average == "macro" else f"f1_{self.average}")

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        if is_of_classes(outputs, targets):
            return counts_of_classes(outputs, targets)
        check_alike("f1", outputs, targets)
        return _counts_of_labels(outputs, targets)

    def _value(self, both: Array, found: Array, there: Array) -> float:
        if self.average == "micro":
            both, found, there = (counts.sum(keepdims=True) for counts in (both, found, there))
        return super()._value(both, found, there)

    def of_counts(self, both: Array, found: Array, there: Array) -> Array:
        values: Array = 2 * both / (found + there)
        return values

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of the commonest class; of labels always yes to those that training shows, micro: to the commonest, as many
        as are best there. None of whole numbers [n, ...] of 0 and 1 alone, which may be labels or classes."""
        train = np.asarray(train)
        if train.ndim < 2 or train.max(initial=0) > 1:
            return self._of_commonest(train, validation)
        if train.dtype.kind != "f":
            return None
        yes, scored = label_counts(train)
        said = yes > 0
        if self.average == "micro":
            order = np.argsort(-yes / np.maximum(scored, 1), kind="stable")
            values = 2 * yes[order].cumsum() / np.maximum(scored[order].cumsum() + yes.sum(), 1)
            said = np.isin(np.arange(len(yes)), order[: int(values.argmax()) + 1])
        there, held_out = label_counts(validation)
        value = self._value(said * there, said * held_out, there)
        return None if math.isnan(value) else value


class _Regions(_Overlap):
    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        if is_of_classes(outputs, targets):
            return counts_of_classes(outputs, targets)
        check_alike("dice and iou", outputs, targets)
        return _counts_of_labels(outputs.flatten(-2).unsqueeze(-1), targets.flatten(-2).unsqueeze(-1))

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of the commonest class everywhere; of a mask, of yes everywhere."""
        train, validation = np.asarray(train), np.asarray(validation)
        if train.dtype.kind != "f":
            return self._of_commonest(train, validation)
        there, scored = label_counts(validation.reshape(-1, 1))
        return self._value(there, scored, there) if there.any() else None


class Dice(_Regions):
    """2 both / (found + there) of regions: the mean over classes, of the counts of all pixels of the split (not of each
    image). Dice 1945.

    Of classes, outputs [N, C, ...] for targets [N, ...]; or of a mask, logits [N, 1, ...] or [N, ...] for targets of 0
    and 1 as floats, where a logit above 0 is a yes and the value is that of the yes alone.
    """

    name = "dice"

    def of_counts(self, both: Array, found: Array, there: Array) -> Array:
        values: Array = 2 * both / (found + there)
        return values


class IoU(_Regions):
    """both / (found or there) of regions, the Jaccard index; of what, see `Dice`."""

    name = "iou"

    def of_counts(self, both: Array, found: Array, there: Array) -> Array:
        values: Array = both / (found + there - both)
        return values


def counts_of_classes(outputs: Tensor, targets: Tensor) -> Tensor:
    """[*, N, C] logits and [*, N] classes -> [*, 3 C]: both, found, there."""
    import torch

    found, scored = outputs.argmax(-1), targets != NOT_SCORED
    there = targets.clamp(min=0).long()
    counts = []
    for at, what in ((there, found == targets), (found, scored), (there, scored)):
        zeros = torch.zeros(*outputs.shape[:-2], outputs.shape[-1], dtype=torch.float64, device=outputs.device)
        # Whole numbers: in whatever order they are added, the sum is the same.
        counts.append(zeros.scatter_add_(-1, at, what.double()))
    return torch.cat(counts, -1)


def _counts_of_labels(outputs: Tensor, targets: Tensor) -> Tensor:
    """[*, N, K] logits and labels -> [*, 3 K]: both, found, there."""
    import torch

    there = targets > 0
    found = (outputs > 0) & (targets != NOT_SCORED)
    return torch.cat([mask.sum(-2, dtype=torch.float64) for mask in (found & there, found, there)], -1)
