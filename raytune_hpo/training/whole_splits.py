"""The outputs of a whole split, of one model or of each of many lanes, for metrics that need them together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.metrics import NOT_SCORED, WholeMetric

Tensor = torch.Tensor


class WholeSplits:
    """Outputs and targets of every batch, on the device (see `WholeMetric`). lanes: models, 1 of one."""

    def __init__(self, metrics: Sequence[WholeMetric], lanes: int) -> None:
        self.metrics = metrics
        self._batches: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(lanes)]

    def forget(self, at: slice) -> None:
        """What was kept of the lanes `at`."""
        for batches in self._batches[at]:
            batches.clear()

    def add(self, outputs: Tensor, targets: Tensor, at: slice) -> None:
        """A batch. outputs: [l, N, ...] of the lanes `at`; targets: [N, ...], the same for all."""
        # A copy: a model may answer the same tensor each time, or its input.
        for batches, own in zip(self._batches[at], outputs.detach().clone(), strict=True):
            batches.append((own, targets))

    def kept(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Of each lane, as it travels."""
        return [[(outputs.cpu(), targets.cpu()) for outputs, targets in batches] for batches in self._batches]

    def replace(self, parts: Sequence[list[list[tuple[Tensor, Tensor]]]]) -> None:
        """By what several processes kept, each of every so manieth batch: in the order of the split again."""
        for lane, batches in enumerate(self._batches):
            rounds = itertools.zip_longest(*(part[lane] for part in parts))
            batches[:] = [batch for found in rounds for batch in found if batch is not None]

    def value(self, metric: WholeMetric, lane: int) -> float:
        """NaN without samples, and of outputs that hold NaN. Raises TrialError for what is no number."""
        batches = [_places(*batch) for batch in self._batches[lane]] if metric.flat else self._batches[lane]
        if not batches:
            return math.nan
        outputs, targets = (_joined(metric, parts) for parts in zip(*batches, strict=True))
        if not len(outputs) or bool(outputs.isnan().any()):
            return math.nan
        found = metric.value(outputs, targets)
        try:
            return float(found)
        except (TypeError, ValueError, RuntimeError):
            shape = f" {list(found.shape)}" if hasattr(found, "shape") else ""
            raise TrialError(f"metric {metric.name} is a {type(found).__name__}{shape}, not one number") from None


def _places(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Of classes [N, ...] and outputs [N, C, ...]: [n, C] and [n], of the places that are scored."""
    if targets.is_floating_point() or outputs.ndim != targets.ndim + 1:
        return outputs, targets
    scored = targets != NOT_SCORED
    return outputs.movedim(1, -1)[scored], targets[scored]


def _joined(metric: WholeMetric, parts: Sequence[Tensor]) -> Tensor:
    shapes = list(dict.fromkeys(tuple(part.shape[1:]) for part in parts))
    if len(shapes) > 1:
        first, second = (["N", *shape] for shape in shapes[:2])
        found = f"{first} and {second}".replace("'", "")
        raise TrialError(f"metric {metric.name} is of a whole split, and its batches differ in shape: {found}")
    return torch.cat(list(parts))
