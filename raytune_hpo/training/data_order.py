"""The order of a trial's samples: a permutation a pass, cut into batches, batches into the steps of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch


class DataOrder:
    """samples: there are. used: of a pass, at most `samples`. batch_size: of a batch, the last of a pass may be
    smaller. accumulate: batches of an optimizer step, the last of a pass may have fewer. steps: of a report; None is
    a pass.

    A report of fewer steps than a pass has goes on where the one before ended. On the CPU whatever the device is, so
    that a trial sees the same batches everywhere.
    """

    def __init__(
        self, seed: int, samples: int, *, used: int, batch_size: int, accumulate: int = 1, steps: int | None = None
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._samples, self.used, self._batch_size, self._accumulate = samples, used, batch_size, accumulate
        self.steps_of_pass = math.ceil(math.ceil(used / batch_size) / accumulate)
        self.steps = steps or self.steps_of_pass
        self._position = 0  # steps taken of the present pass; 0: it is not begun
        self._begun = self._generator.get_state()  # before the present pass was drawn
        self._across = self.steps != self.steps_of_pass  # whether a report may end within a pass
        self._pass: list[torch.Tensor] = []

    def epoch(self) -> Iterator[list[torch.Tensor]]:
        """The batches of each step of a report, int64 [N] each."""
        for _ in range(self.steps):
            if self._position == 0:
                self._draw()
            start = self._position * self._accumulate
            self._position = (self._position + 1) % self.steps_of_pass
            yield self._pass[start : start + self._accumulate]

    def _draw(self) -> None:
        if self._across:
            self._begun = self._generator.get_state()
        order = torch.randperm(self._samples, generator=self._generator)
        self._pass = list(torch.split(order[: self.used], self._batch_size))

    @property
    def position(self) -> int:
        """Steps taken of the present pass, of orders whose reports are no passes."""
        return self._position

    def state_dict(self) -> dict[str, Any]:
        if not self._position:
            return {"order": self._generator.get_state()}
        return {"order": self._begun, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError and RuntimeError for what is no state of this."""
        self._generator.set_state(state["order"].cpu())
        position = int(state.get("position", 0)) % self.steps_of_pass
        if position:
            self._across = True  # as of a donor whose passes are of other lengths
            self._draw()
        self._position = position
