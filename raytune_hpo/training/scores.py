"""Scores: what a task's metrics sum up over the batches of a split, of one model or of many lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.kinds import OwnLoss
from raytune_hpo.training.metrics import Metric

Tensor = torch.Tensor


class Scores:
    """The sums of `metrics`, kept on the device. lanes: L models side by side; None for one, without that axis.

    Sums that several metrics have in common, as an error and its root have, are computed once.
    """

    def __init__(self, metrics: Sequence[Metric], lanes: int | None = None) -> None:
        self._metrics = metrics
        self._lanes = () if lanes is None else (lanes,)
        # [*, S] each, by the function; a bound method is its own, so that nothing of an object is left out.
        self._totals: dict[object, Tensor] = {}

    def begin(self, at: slice) -> None:
        """Forget what was summed up of the lanes `at`: a pass that ran out of memory is done again."""
        for total in self._totals.values():
            total[at] = 0

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
        if isinstance(outputs, Tensor) and isinstance(targets, Tensor):
            if self._lanes:
                targets = targets.expand(len(outputs), *targets.shape)
            outputs, targets = _flat(outputs, targets, len(self._lanes))
        done = set()
        for metric in self._metrics:
            if metric.sums in done:
                continue
            done.add(metric.sums)
            compared = (losses, samples) if isinstance(metric, OwnLoss) else (outputs, targets)
            found = metric.sums(*compared)
            if metric.sums not in self._totals:
                if found.ndim != len(self._lanes) + 1:
                    shape = "[L, S]" if self._lanes else "[S]"
                    raise TrialError(f"the sums of metric {metric.name} have shape {list(found.shape)}, not {shape}")
                self._totals[metric.sums] = found.new_zeros(*self._lanes, found.shape[-1], dtype=torch.float64)
            self._totals[metric.sums][at].add_(found)

    def results(self) -> list[dict[str, float]]:
        """Each metric's value by its name, one dict a lane. Waits for the device, once."""
        count = self._lanes[0] if self._lanes else 1
        if not self._totals:  # no batch was added
            return [{metric.name: math.nan for metric in self._metrics} for _ in range(count)]
        rows = torch.cat(list(self._totals.values()), -1).reshape(count, -1).tolist()
        places, start = {}, 0
        for function, total in self._totals.items():
            places[function] = slice(start, start := start + total.shape[-1])
        return [{m.name: float(m.finish(row[places[m.sums]])) for m in self._metrics} for row in rows]


def _flat(outputs: Tensor, targets: Tensor, lead: int) -> tuple[Tensor, Tensor]:
    """As metrics take them, after `lead` axes: targets of several axes a sample (images) as [*, N, d]; of classes at
    every place of a sample, outputs [*, N, C, ...], each place as a sample."""
    if targets.ndim > lead + 2 and outputs.shape == targets.shape:
        return outputs.flatten(lead + 1), targets.flatten(lead + 1)
    if targets.ndim > lead + 1 and not targets.is_floating_point():
        return outputs.movedim(lead + 1, -1).flatten(lead, -2), targets.flatten(lead)
    return outputs, targets
