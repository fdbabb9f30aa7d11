"""A placement: lanes in their places, with the arena, the tables and the tick that are made for them.

It is made anew when lanes come that have none; those that were in the one before go on from there, in mid-epoch too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raytune_hpo.training.lanes.lane import Lane
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena, Held
from raytune_hpo.training.lanes.mixed.capturing import Captured, Costs
from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.lane_rows import held_of, rows_of
from raytune_hpo.training.lanes.mixed.layout import LanePages, Layout, Padded
from raytune_hpo.training.lanes.mixed.steps import Steps
from raytune_hpo.training.lanes.mixed.template import Template
from raytune_hpo.training.lanes.mixed.tick import Orders, Tick, slots_of
from raytune_hpo.training.lanes.rows import RowState, places_of
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.task import Task


@dataclass(frozen=True)
class Samples:
    """The training data: x [n, inputs], of samples of a shape, y [n, ...]."""

    x: Tensor
    y: Tensor
    shape: tuple[int, ...]


class Placement:
    """Of these lanes, of which those that `before` has no place for are parked. costs: of ticks, known so far."""

    def __init__(
        self,
        task: Task,
        lanes: Sequence[Lane],
        template: Template,
        data: Samples,
        before: Placement | None,
        costs: Costs,
    ) -> None:
        self._template, device = template, data.x.device
        outputs = chain_of_lane(lanes[0]).blocks[-1].outputs
        self.layout = layout = Layout(
            [padded(lane, template) for lane in lanes], data.shape, outputs, launches=template.launches
        )
        self.lanes = [lanes[i] for i in layout.order]
        self.number = {id(lane): i for i, lane in enumerate(self.lanes)}
        self.arena: Arena = Arena(
            layout,
            [self._entering(lane, before) for lane in self.lanes],
            device,
            None if before is None else before.arena,
        )
        rules = [RULES[lane.config["optimizer"]] for lane in self.lanes]
        self.steps = Steps(
            len(self.lanes),
            self._most(lambda lane: len(lane.described.structure.groups)),
            self._most(lambda lane: len(chain_of_lane(lane).dropouts)),
            device,
            others=not all(rule.is_of_moments for rule in rules),
        )
        most = self._most(lambda lane: lane.order.samples_of_report)
        self.orders = Orders(len(self.lanes), most, max(cell.batch for cell in layout.cells), data.x, data.y)
        slots = slots_of(layout, self._groups(), self.steps.groups)
        tick = Tick(layout, self.arena, self.steps, self.orders, task.kind, slots, self._used(task))

        captures = template.captures and device.type == "cuda"
        self._ticks = Captured(tick.operations, costs) if captures else tick.operations
        if device.type == "cuda":  # all lanes stand still: where memory does not suffice, nothing is lost
            self.run(1)

    def run(self, ticks: int) -> None:
        """So many steps of all lanes that do not stand still."""
        self.steps.publish()
        self.orders.publish()
        with torch.no_grad():
            self._ticks.run(ticks)
        self.steps.passed(ticks)

    def __contains__(self, lane: Lane) -> bool:
        return id(lane) in self.number

    def _entering(self, lane: Lane, before: Placement | None) -> Held | LanePages:
        if lane.parked is None:
            assert before is not None
            return before.arena.pages[before.number[id(lane)]]
        places = places_of(lane.described.structure)
        held = held_of(lane.parked, padded(lane, self._template), places, lane.shapes)
        lane.counts, lane.counted = lane.parked.counts.cpu(), lane.steps
        lane.parked = None
        return held

    def go_on(self, lanes: Sequence[Lane], before: Placement) -> list[Lane]:
        """Let these, in mid-epoch, be where they were. Answers those whose next steps are to be laid out again."""
        if not lanes:
            return []
        old = [before.number[id(lane)] for lane in lanes]
        new = [self.number[id(lane)] for lane in lanes]
        self.orders.take_over(new, before.orders, old)
        return [
            lane for lane, i, its in zip(lanes, new, old, strict=True) if not self.steps.take_over(i, before.steps, its)
        ]

    def rows(self, lanes: Sequence[Lane]) -> list[RowState]:
        """Copies of their rows, on the CPU."""
        if not lanes:
            return []
        out = []
        for lane, held in zip(lanes, self.arena.held([self.number[id(lane)] for lane in lanes]), strict=True):
            counts = lane.counts + (lane.steps - lane.counted)  # of the steps of its batch norms
            places = places_of(lane.described.structure)
            out.append(rows_of(held, counts, padded(lane, self._template), places, lane.shapes))
        return out

    def _groups(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """[L, blocks, 2]: the group of parameters of each block's matrix and of its vectors."""
        found = np.zeros((len(self.lanes), self._most(lambda lane: len(chain_of_lane(lane).blocks)), 2), np.int64)
        for i, lane in enumerate(self.lanes):
            groups = lane.described.structure.groups
            if len(groups) < 2:
                continue
            of = {name: k for k, group in enumerate(groups) for name in group.parameters}
            for block, own in enumerate(chain_of_lane(lane).blocks):
                found[i, block] = of[f"{own.name}.weight"], of[f"{own.name}.bias"]
        return found

    def _used(self, task: Task) -> set[str]:
        """What any lane has that takes operations of its own."""
        used = set()
        for lane in self.lanes:
            config = lane.config
            used |= {"clip"} if config["clip_norm"] > 0 else set()
            used |= {"smoothing"} if config["label_smoothing"] > 0 and task.kind == "classification" else set()
            used |= {"nesterov"} if config["optimizer"] == "sgd" and config["nesterov"] else set()
            if RULES[config["optimizer"]].is_of_moments and any(
                group.config(config)["weight_decay"] > 0 for group in lane.described.structure.groups
            ):
                used.add("shrink" if config["optimizer"] == "adamw" else "decay")
        return used

    def _most(self, value: Callable[[Lane], int]) -> int:
        return max(value(lane) for lane in self.lanes)


def chain_of_lane(lane: Lane) -> Chain:
    assert lane.chain is not None
    return lane.chain


def padded(lane: Lane, template: Template) -> Padded:
    return template.padded(chain_of_lane(lane), lane.config["batch_size"], lane.config["optimizer"])
