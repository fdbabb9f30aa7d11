"""Ticks as CUDA graphs: when one is captured. What a graph computes is for a GPU to show (test_devices)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from raytune_hpo.training.lanes.mixed.capturing import MEASURED, WARM, Captured, Costs
from raytune_hpo.training.lanes.mixed.operations import Operations


@dataclass
class Card:
    """One whose ticks take as long as is said. done: the steps taken, l(aunched) or r(eplayed)."""

    launched: float
    replayed: float
    capture: float = 1.0
    now: float = 0.0
    captures: int = 0
    done: list[str] = field(default_factory=list)

    def placement(self, costs: Costs, *, refuses: bool = False) -> Captured:
        operations = Operations()
        operations.add(self._step, "l", self.launched)

        def capture(given: Operations) -> Callable[[], None]:
            assert given is operations
            self.now += self.capture
            self.captures += 1
            if refuses:
                raise RuntimeError("operation not permitted when stream is capturing")
            return lambda: self._step("r", self.replayed)

        return Captured(operations, costs, capture, wait=lambda: None, clock=lambda: self.now)

    def _step(self, kind: str, seconds: float) -> None:
        self.done.append(kind)
        self.now += seconds


def test_every_step_is_taken_once_and_a_graph_is_tried_out() -> None:
    card, costs = Card(launched=0.1, replayed=0.01), Costs()
    placement = card.placement(costs)
    for ticks in (1, 2, 5, 1, 20):
        placement.run(ticks)
    assert card.done == ["l"] * (WARM + MEASURED) + ["r"] * (29 - WARM - MEASURED)
    assert costs.worth == pytest.approx(1.0 / 0.09)


def test_a_placement_rents_until_it_would_have_paid_to_buy() -> None:
    card, costs = Card(launched=0.1, replayed=0.0599), Costs()
    card.placement(costs).run(40)
    assert math.ceil(costs.worth) == 25
    card.done.clear()
    second = card.placement(costs)
    second.run(24)
    assert "r" not in card.done
    second.run(10)
    assert card.done == ["l"] * 25 + ["r"] * 9


def test_a_graph_that_is_no_faster_is_tried_once() -> None:
    card, costs = Card(launched=0.1, replayed=0.1), Costs()
    for _ in range(3):
        card.placement(costs).run(100)
    assert costs.worth == math.inf
    assert card.captures == 1


def test_what_cannot_be_captured_is_launched() -> None:
    card, costs = Card(launched=0.1, replayed=0.01), Costs()
    for _ in range(2):
        card.placement(costs, refuses=True).run(30)
    assert card.captures == 1
    assert card.done == ["l"] * 60
    assert costs.refused == "operation not permitted when stream is capturing"
