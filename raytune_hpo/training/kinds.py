"""What a task's kind decides: the loss and the metrics that it is measured by, where it does not say. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raytune_hpo.training.data import Kind
from raytune_hpo.training.metrics import (
    F1,
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    Metric,
    RootMeanSquaredError,
)

if TYPE_CHECKING:
    from torch import Tensor


class OwnLoss(Metric):
    """A task's own loss, given batch by batch, and not made of outputs and targets: its mean over the samples."""

    name = "loss"
    direction = "min"

    def sums(self, outputs: Any, targets: Any) -> Tensor:
        """outputs: [*] the mean loss of a batch; targets: how many samples it has."""
        import torch

        mean = outputs.double()
        return torch.stack([mean * targets, torch.full_like(mean, targets)], -1)

    def finish(self, sums: Sequence[float]) -> float:
        total, samples = sums
        return total / samples if samples else math.nan


def loss_metric(kind: Kind, *, own: bool) -> Metric | None:
    """What a kind's models are measured by as their loss; own: the task has one of its own; None: there is none."""
    if own:
        return OwnLoss()
    losses: dict[str, Metric] = {
        "classification": CrossEntropy(),
        "multilabel": BinaryCrossEntropy(),
        "regression": MeanSquaredError(),
    }
    return losses.get(kind)


def default_metrics(kind: Kind) -> tuple[Metric, ...]:
    """Besides the loss."""
    found: dict[str, Metric] = {"classification": Accuracy(), "multilabel": F1(), "regression": RootMeanSquaredError()}
    return (found[kind],) if kind in found else ()
