"""Scores: what a task's metrics sum up over the batches of a split, of one model or of many lanes."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from types import EllipsisType
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.kinds import OwnLoss
from raytune_hpo.training.metrics import Metric, WholeMetric
from raytune_hpo.training.share import Share
from raytune_hpo.training.whole_splits import WholeSplits

Tensor = torch.Tensor


class Scores:
    """The sums of `metrics`, kept on the device. lanes: L models side by side; None for one, without that axis.

    Sums that several metrics have in common (`Metric.summed_by`), as an error and its root have, are computed once. For
    metrics of a whole split its outputs are kept.
    """

    def __init__(self, metrics: Sequence[Metric], lanes: int | None = None) -> None:
        self._metrics = metrics
        self._lanes = () if lanes is None else (lanes,)
        self._summed = {metric.summed_by: metric for metric in metrics if not isinstance(metric, WholeMetric)}
        self._totals: dict[Hashable, Tensor] = {}  # [*, S] each
        self._whole = WholeSplits([metric for metric in metrics if isinstance(metric, WholeMetric)], lanes or 1)

    def begin(self, at: slice) -> None:
        """Forget what was summed up of the lanes `at`: a pass that ran out of memory is done again."""
        for total in self._totals.values():
            total[at] = 0
        self._whole.forget(at)

    def add(
        self,
        outputs: Any,
        targets: Any,
        at: slice | EllipsisType = ...,
        *,
        losses: Tensor | None = None,
        samples: int | None = None,
    ) -> None:
        """A batch. outputs: [l, N, ...] of the lanes `at`, or [N, ...]; targets: [N, ...], the same for all.

        losses: [l] or [], the mean of a task's own loss over the batch's `samples`.
        """
        if self._whole.metrics:
            if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
                types = ", ".join(type(value).__name__ for value in (outputs, targets))
                wanted = "it takes outputs and targets that are tensors, which can be joined"
                raise TrialError(f"metric {self._whole.metrics[0].name} is of a whole split: {wanted}; found {types}")
            self._whole.add(outputs if self._lanes else outputs[None], targets, slice(None) if at is ... else at)
        if not self._summed:
            return
        if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
            if self._lanes:
                targets = targets.expand(len(outputs), *targets.shape)
            outputs, targets = as_metrics_take(outputs, targets, len(self._lanes))
        for key, metric in self._summed.items():
            compared = (losses, samples) if isinstance(metric, OwnLoss) else (outputs, targets)
            found = metric.sums(*compared)
            if key not in self._totals:
                if found.ndim != len(self._lanes) + 1:
                    shape = "[L, S]" if self._lanes else "[S]"
                    raise TrialError(f"the sums of metric {metric.name} have shape {list(found.shape)}, not {shape}")
                self._totals[key] = found.new_zeros(*self._lanes, found.shape[-1], dtype=torch.float64)
            self._totals[key][at].add_(found)

    def add_others(self, share: Share) -> None:
        """What the other processes of a trial of several summed up besides. All are to call it."""
        mine = [self._totals.get(key) for key in self._summed]
        found = list(share.gathered(([None if t is None else t.cpu() for t in mine], self._whole.kept())))
        for key, totals in zip(self._summed, zip(*(sums for sums, _ in found), strict=True), strict=True):
            there = [total for total in totals if total is not None]
            if there:
                self._totals[key] = torch.stack(there).sum(0)
        self._whole.replace([kept for _, kept in found])

    def results(self) -> list[dict[str, float]]:
        """Each metric's value by its name, one dict a lane. Waits for the device, once; metrics of a whole split wait
        themselves."""
        count = self._lanes[0] if self._lanes else 1
        sums = list(self._totals.values())
        rows = torch.cat(sums, -1).reshape(count, -1).tolist() if sums else []
        places, start = {}, 0
        for key, total in self._totals.items():
            places[key] = slice(start, start := start + total.shape[-1])

        def value(metric: Metric, lane: int) -> float:
            if isinstance(metric, WholeMetric):
                return self._whole.value(metric, lane)
            place = places.get(metric.summed_by)  # None: no batch was added
            return math.nan if place is None else float(metric.finish(rows[lane][place]))

        return [{metric.name: value(metric, lane) for metric in self._metrics} for lane in range(count)]


def as_metrics_take(outputs: Tensor, targets: Tensor, lead: int) -> tuple[Tensor, Tensor]:
    """As `Metric.sums` takes them, after `lead` axes: [*, N, C] for classes [*, N], [*, N, d] for [*, N, d].

    Targets of several axes a sample (images) become one axis, of none gain one; of classes at every place of a sample,
    outputs [*, N, C, ...], each place becomes a sample; a single output a place is that place's.
    """
    if targets.is_floating_point() and outputs.ndim == targets.ndim + 1 and outputs.shape[lead + 1] == 1:
        outputs = outputs.squeeze(lead + 1)
    if outputs.shape == targets.shape:
        if targets.ndim == lead + 1:
            return outputs.unsqueeze(-1), targets.unsqueeze(-1)
        return outputs.flatten(lead + 1), targets.flatten(lead + 1)
    if targets.ndim > lead + 1 and outputs.ndim == targets.ndim + 1 and not targets.is_floating_point():
        return outputs.movedim(lead + 1, -1).flatten(lead, -2), targets.flatten(lead)
    return outputs, targets
