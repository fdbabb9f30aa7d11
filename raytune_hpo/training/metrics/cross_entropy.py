"""Cross entropies: the losses of classes and of labels, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.training.metrics.metric import Mean, totals_and_count
from raytune_hpo.training.metrics.scored import NOT_SCORED, check_alike, check_classes, class_counts, label_counts

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array


class CrossEntropy(Mean):
    """In nats a scored target, without label smoothing and class weights, so that configs compare."""

    name = "loss"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        from raytune_hpo.training.losses import has_unscored, lane_losses, loss_of

        check_classes("loss", outputs, targets)
        # Each is fast in its place, and what training takes: they agree up to rounding.
        if outputs.ndim == 2:
            mean = loss_of(outputs, targets, "classification")
        else:
            # Elsewhere to ask would be to wait for the device.
            unscored = targets.device.type != "cpu" or has_unscored(targets)
            mean = lane_losses(outputs, targets, "classification", unscored=unscored)
        scored = (targets != NOT_SCORED).sum(-1)
        return totals_and_count(torch.where(scored > 0, mean.double() * scored, 0.0), scored)

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of predicting the classes' shares."""
        counts = class_counts(train, validation)
        if counts is None:
            return None
        found, held_out = counts
        seen = held_out > 0
        if not found[seen].all():
            found = found + 1  # a class that training never shows
        return float(-(np.log(found[seen] / found.sum()) * held_out[seen]).sum() / held_out.sum())


class Perplexity(CrossEntropy):
    """exp of the cross entropy: as if so many classes were equally likely. NaN where that is not finite."""

    name = "perplexity"

    def finish(self, sums: Sequence[float]) -> float:
        return _exp(super().finish(sums))

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of predicting the classes' shares."""
        nats = super().baseline(train, validation)
        return None if nats is None else _exp(nats)


class BinaryCrossEntropy(Mean):
    """Of labels, each yes or no: in nats a label. outputs: [*, N, K] logits; targets: [*, N, K] of 0 and 1."""

    name = "loss"
    direction = "min"

    @staticmethod
    def sums(outputs: Tensor, targets: Tensor) -> Tensor:
        import torch
        from torch.nn import functional

        check_alike("loss", outputs, targets)
        scored = targets != NOT_SCORED
        losses = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
        total = torch.where(scored, losses, 0.0).sum((-1, -2), dtype=torch.float64)
        return totals_and_count(total, scored.sum((-1, -2)))

    def baseline(self, train: Array, validation: Array) -> float | None:
        """Of predicting each label's share of yes."""
        yes, scored = label_counts(train)
        held_yes, held_scored = label_counts(validation)
        held_no = held_scored - held_yes
        if not held_scored.sum() or not scored.sum():
            return None
        # A label that training shows only one way, or not at all, and validation both: as if each had been seen once.
        surprising = ((yes == 0) & (held_yes > 0)) | ((yes == scored) & (held_no > 0))
        yes, scored = yes + surprising, scored + 2 * surprising
        shares = yes / np.maximum(scored, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            costs = np.where(held_yes > 0, -held_yes * np.log(shares), 0.0)
            costs += np.where(held_no > 0, -held_no * np.log1p(-shares), 0.0)
        return float(costs.sum() / held_scored.sum())


def _exp(nats: float) -> float:
    try:
        found = math.exp(nats)
    except OverflowError:
        return math.nan
    return found if math.isfinite(found) else math.nan
