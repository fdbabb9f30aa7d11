"""Metrics of a user's own and tasks that are measured by them. A module of its own, since workers import it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from raytune_hpo import Accuracy, Metric
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.digits import Digits


class MacroF1(Metric):
    """The mean over the classes of F1, from each class's true positives, false positives and false negatives."""

    name, direction = "macro_f1", "max"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        found, right = (functional.one_hot(y, outputs.shape[-1]).double() for y in (outputs.argmax(-1), targets))
        both = (found * right).sum(-2)
        return torch.cat([both, found.sum(-2) - both, right.sum(-2) - both], -1)

    def finish(self, sums: Sequence[float]) -> float:
        classes = len(sums) // 3
        by_class = zip(*(sums[i : i + classes] for i in range(0, len(sums), classes)), strict=True)
        scores = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in by_class if tp + fp + fn]
        return sum(scores) / len(scores) if scores else math.nan


class MeanAbsoluteError(Metric):
    name, direction = "mae", "min"

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        errors = (outputs - targets).abs().double().mean(-1)
        return torch.stack([errors.sum(-1), torch.ones_like(errors).sum(-1)], -1)

    def finish(self, sums: Sequence[float]) -> float:
        return sums[0] / sums[1] if sums[1] else math.nan


@dataclass(frozen=True)
class MeasuredDigits(Digits):
    def metrics(self) -> Sequence[Metric]:
        return MacroF1(), Accuracy()


@dataclass(frozen=True)
class MeasuredDiabetes(Diabetes):
    def metrics(self) -> Sequence[Metric]:
        return (MeanAbsoluteError(),)
