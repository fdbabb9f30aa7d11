"""Updates lane by lane, by torch's kernels that go through memory once: a CPU's way, where memory is what costs.

They are the update that `updating` writes as one formula over all lanes, which goes through it eight times.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.stages import Index
from raytune_hpo.training.lanes.mixed.steps import Steps
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Lists

#: Pages of a lane's matrices, below which a call of its own costs more than it saves.
PAGES = 16


class LaneUpdates:
    """Of the matrices of lanes whose rule has such a kernel, where they are not small. slots: of each page, `lane *
    groups + group`. taken: whether a page is one of these."""

    def __init__(self, arena: Arena, steps: Steps, slots: Index) -> None:
        self._steps = steps
        self._of: list[tuple[int, int, str, Lists]] = []
        self.taken = np.zeros(len(slots), bool)
        parts = (arena.matrices[0], arena.matrix_gradients, arena.matrices[1], arena.matrices[2])
        for slot in np.unique(slots).tolist():
            lane, group = divmod(slot, steps.groups)
            rule = arena.layout.lanes[lane].rule
            own = np.flatnonzero(slots == slot)
            if RULES[rule].is_fused and len(own) >= PAGES:
                self.taken[own] = True
                pages = list(_ranges(own))
                lists = Lists(*([part[at].view(-1) for at in pages] for part in parts))
                self._of.append((lane, group, rule, lists))

    def run(self) -> None:
        """One step of each lane that does not stand still, of the numbers that the steps have laid out."""
        for lane, group, rule, lists in self._of:
            if (step := self._steps.taken(lane)) is not None:
                config, lr = step.groups[group]
                RULES[rule].fused_step(config, lr, step.count, lists)


def _ranges(pages: Index) -> Iterator[slice]:
    """Stretches of neighbouring numbers. pages: ascending"""
    for part in np.split(pages, np.flatnonzero(np.diff(pages) > 1) + 1):
        yield slice(int(part[0]), int(part[-1]) + 1)
