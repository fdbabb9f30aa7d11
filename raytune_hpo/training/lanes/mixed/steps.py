"""Steps: what changes from step to step of each lane, laid out for some steps ahead, so that a tick asks nobody.

A table's rows are steps of lanes, L times AHEAD of them and, for each lane, one in which it stands still. They are
written on the host, where a CPU's operations read them; to a GPU they are copied, of all lanes that changed at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.operations import Operations

#: Steps that are laid out at a time.
AHEAD = 32

#: Of a group of parameters, see `updating`; then of the lane.
UPDATE = ("decay", "shrink", "keep1", "new1", "keep2", "new2", "root", "rest", "ahead", "now")
OF_LANE = ("samples", "share", "unbias", "smoothing", "clip")
#: What changes nothing: a lane that stands still has a gradient of 0.
STILL = {"shrink": 1.0, "keep1": 1.0, "keep2": 1.0, "rest": math.inf, "ahead": 1.0}
#: The update of plain gradient descent, but for its step.
PLAIN = {"shrink": 1.0, "keep1": 0.0, "new1": 1.0, "keep2": 0.0, "ahead": 1.0}
#: What rules that are no such update read (`Rule.columns`), and what of them changes nothing.
OTHERS = {"lr": 0.0, "beta2": 1.0, "rest2": 0.0, "eps": 1.0, "weight_decay": 0.0, "momentum": 1.0}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Plan:
    """What a lane's steps that are laid out are made of. configs: of its groups of parameters; lrs: [steps, groups];
    first: the number of the first of these steps, from 1."""

    configs: Sequence[Mapping[str, Any]]
    lrs: Array
    first: int


@dataclass(frozen=True)
class Step:
    """A lane's step. groups: each with its config and learning rate; count: of its steps, from 1."""

    groups: Sequence[tuple[Mapping[str, Any], float]]
    count: int


class Steps:
    """groups: of parameters, at most. draws: masks that a lane draws a step, at most. others: whether any lane has a
    rule that is no update of moments."""

    def __init__(self, lanes: int, groups: int, draws: int, device: torch.device, *, others: bool) -> None:
        self.names = (*UPDATE, *(f"other {name}" for name in OTHERS)) if others else UPDATE
        self.lanes, self.groups, self.draws = lanes, groups, draws
        self._device = device
        numbers = STILL | {f"other {name}": value for name, value in OTHERS.items()}
        self._still = np.array([numbers.get(name, 0.0) for name in self.names] * groups + [0.0] * len(OF_LANE))
        real = torch.get_default_dtype()
        numpy_real = torch.zeros(0, dtype=real).numpy().dtype
        self._rows = np.tile(self._still.astype(numpy_real), (lanes, AHEAD + 1, 1))
        self._words = np.zeros((lanes, AHEAD + 1, max(1, 2 * draws)), np.int32)
        self._at = np.full(lanes, AHEAD)  # the row of each lane's next step; at first all stand still
        self._moves = np.zeros(lanes, np.int64)
        self._changed: set[int] = set()
        self._plans: list[Plan | None] = [None] * lanes
        self._of_device = [self._on(array) for array in (self._rows, self._words, self._at, self._moves)]
        rows, words, self._next, self._by = self._of_device
        self._table, self._word_table = rows.view(-1, rows.shape[2]), words.view(-1, words.shape[2])
        self._first = self._on(np.arange(lanes) * (AHEAD + 1))
        self._row = torch.zeros_like(self._first)
        self._now = torch.zeros(lanes, rows.shape[2], dtype=real, device=device)
        self._words_now = torch.zeros(lanes, words.shape[2], dtype=torch.int32, device=device)

    def _on(self, array: Array) -> Tensor:
        """On the CPU the array's own memory."""
        return torch.from_numpy(array).to(self._device)

    # On the host ------------------------------------------------------------------------------------

    def lay_out(self, lane: int, rows: Array, words: Array | None, plan: Plan) -> None:
        """The next steps of a lane. rows: [steps, numbers], see `rows`; at most AHEAD. words: [steps, draws, 2]."""
        self._plans[lane] = plan
        self._rows[lane, : len(rows)] = rows
        if words is not None:
            own = words.reshape(len(rows), -1)
            self._words[lane, : len(rows), : own.shape[1]] = own
        self._at[lane], self._moves[lane] = 0, 1
        self._changed.add(lane)

    def stand_still(self, lane: int) -> None:
        self._at[lane], self._moves[lane] = AHEAD, 0
        self._changed.add(lane)

    def stands_still(self, lane: int) -> bool:
        return not self._moves[lane]

    def taken(self, lane: int) -> Step | None:
        """On a CPU: the step of the tick that runs; None of a lane that stands still."""
        plan = self._plans[lane]
        if not self._moves[lane] or plan is None:
            return None
        row = int(self._at[lane]) - 1  # which `next` has gone past
        return Step(list(zip(plan.configs, plan.lrs[row].tolist(), strict=True)), plan.first + row)

    def take_over(self, lane: int, before: Steps, its: int) -> bool:
        """Be where a lane was in a table of before. False where that has other columns."""
        if (before.names, before.groups, before.draws) != (self.names, self.groups, self.draws):
            return False
        self._plans[lane] = before._plans[its]
        self._rows[lane], self._words[lane] = before._rows[its], before._words[its]
        self._at[lane], self._moves[lane] = before._at[its], before._moves[its]
        self._changed.add(lane)
        return True

    def rows(self, updates: Sequence[Mapping[str, Any]], samples: Array, smoothing: float, clip: float) -> Array:
        """[steps, numbers] of a lane. updates: of each of its groups, by `names`, [steps] or one number; what is
        missing is as where nothing changes. samples: [steps]."""
        out: Array = np.empty((len(samples), len(self._still)))
        out[:] = self._still
        for group, update in enumerate(updates):
            first = group * len(self.names)
            for i, name in enumerate(self.names, start=first):
                if name in update:
                    out[:, i] = update[name]
        samples_of = out[:, -len(OF_LANE) :]
        samples_of[:, 0] = samples
        np.divide(1.0, samples, out=samples_of[:, 1])
        np.divide(samples, np.maximum(samples - 1, 1), out=samples_of[:, 2])
        samples_of[:, 3], samples_of[:, 4] = smoothing, clip
        return out

    def passed(self, steps: int) -> None:
        """So many ticks were run: what the device counts by itself."""
        if self._device.type != "cpu":
            self._at += steps * self._moves

    def publish(self) -> None:
        """Let the device have what has changed."""
        if self._device.type == "cpu" or not self._changed:
            self._changed.clear()
            return
        lanes = np.array(sorted(self._changed))
        index = torch.from_numpy(lanes).to(self._device)
        arrays: tuple[Array, ...] = (self._rows, self._words, self._at, self._moves)
        for tensor, array in zip(self._of_device, arrays, strict=True):
            tensor.index_copy_(0, index, torch.from_numpy(array[lanes]).to(self._device))
        self._changed.clear()

    # On the device ----------------------------------------------------------------------------------

    def next(self, ops: Operations) -> None:
        """The numbers of this tick's step of each lane."""
        ops.add(torch.add, self._first, self._next, out=self._row)
        ops.add(self._next.add_, self._by)
        ops.add(torch.index_select, self._table, 0, self._row, out=self._now)
        if self.draws:
            ops.add(torch.index_select, self._word_table, 0, self._row, out=self._words_now)

    def of_lane(self, name: str) -> Tensor:
        """[L], of this tick."""
        return self._now[:, self.groups * len(self.names) + OF_LANE.index(name)]

    def of_groups(self) -> Tensor:
        """[L, G, numbers of an update], of this tick."""
        own = self._now[:, : self.groups * len(self.names)]
        return own.view(self.lanes, self.groups, len(self.names))

    def words(self) -> Tensor:
        """[L * draws, 2]"""
        return self._words_now.view(-1, 2)
