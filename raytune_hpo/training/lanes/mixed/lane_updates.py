"""Updates lane by lane, by torch's kernels that go through memory once: a CPU's way, where memory is what costs.

They are the update that `updating` writes as one formula over all lanes, which goes through it eight times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.stages import Index
from raytune_hpo.training.lanes.mixed.steps import Steps
from raytune_hpo.training.rules import RULES

Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class LaneUpdates:
    """Of the matrices of the lanes whose rule has such a kernel. slots: of each page, `lane * groups + group`."""

    def __init__(self, arena: Arena, steps: Steps, slots: Index) -> None:
        self._steps = steps
        self._of: list[tuple[int, int, str, Lists]] = []
        parts = (arena.matrices[0], arena.matrix_gradients, arena.matrices[1], arena.matrices[2])
        for slot in np.unique(slots).tolist():
            lane, group = divmod(slot, steps.groups)
            rule = arena.layout.lanes[lane].rule
            if RULES[rule].is_fused:
                pages = list(_ranges(np.flatnonzero(slots == slot)))
                lists = tuple([part[at].view(-1) for at in pages] for part in parts)
                self._of.append((lane, group, rule, lists))  # type: ignore[arg-type]

    def run(self) -> None:
        """One step of each lane that does not stand still, of the numbers that the steps have laid out."""
        for lane, group, rule, lists in self._of:
            if (step := self._steps.taken(lane)) is not None:
                config, lr = step.groups[group]
                RULES[rule].fused_step(config, lr, step.count, *lists)


def _ranges(pages: Index) -> Iterator[slice]:
    """Stretches of neighbouring numbers. pages: ascending"""
    for part in np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1):
        yield slice(int(part[0]), int(part[-1]) + 1)
