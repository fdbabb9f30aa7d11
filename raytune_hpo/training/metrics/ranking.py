"""How well a model's outputs rank: of all samples of a split together, since ranks do not add up over batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.training.metrics.scored import NOT_SCORED, check_alike, is_of_classes
from raytune_hpo.training.metrics.whole import WholeMetric

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class AUROC(WholeMetric):
    """The area under the ROC curve: how often a positive ranks above a negative, ties counted half.

    Exact, by ranks: Mann & Whitney 1947; Hanley & McNeil 1982. Of two classes by the difference of their logits; of
    more the mean over the classes of one against the rest, by the class's probability; of labels, [n, K] logits for
    [n, K] of 0 and 1, the mean over the labels. A class or label that all samples have, or none, is left out. A sort a
    class: 50 000 samples of 1000 classes take seconds.
    """

    name = "auroc"
    direction = "max"

    def value(self, outputs: Tensor, targets: Tensor) -> float:
        import torch

        if is_of_classes(outputs, targets):
            if outputs.shape[1] == 2:
                scores = (outputs[:, 1:].double() - outputs[:, :1].double()).T
                first = 1
            else:
                scores, first = outputs.double().log_softmax(1).T, 0
            areas = [_area(row, targets == c, targets != c) for c, row in enumerate(scores, start=first)]
        else:
            check_alike(self.name, outputs, targets)
            columns = zip(outputs.reshape(len(outputs), -1).T, targets.reshape(len(targets), -1).T, strict=True)
            areas = [_area(row, y > 0, (y <= 0) & (y != NOT_SCORED)) for row, y in columns]
        found = torch.stack(areas)
        return float(found.nanmean())

    def baseline(self, train: Array, validation: Array) -> float | None:
        """One half, of any constant; None where no class has both positives and negatives."""
        y = np.asarray(validation)
        y = y[:, None] if y.ndim == 1 else y.reshape(len(y), -1)
        both = (np.unique(column[column != NOT_SCORED]).size > 1 for column in y.T)
        return 0.5 if any(both) else None


def _area(scores: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """[n] each -> [], float64; NaN without positives or negatives."""
    import torch

    scores = scores.contiguous()
    few, many = scores[positive], scores[negative]
    pairs = float(len(few)) * len(many)
    if not pairs:
        return torch.tensor(math.nan, dtype=torch.float64, device=scores.device)
    swapped = len(few) > len(many)  # to sort the fewer, of many classes the positives, is faster
    if swapped:
        few, many = many, few
    few = few.sort().values
    below, up_to = (torch.searchsorted(few, many, right=right).sum().double() for right in (False, True))
    share = (below + up_to) / (2 * pairs)  # of the pairs in which the one of the many ranks higher
    return share if swapped else 1 - share
