"""A mixed stack: chains of any depth, width and batch size, which take their steps side by side and end their epochs
when their samples are used, each at its own tick.

    lanes that come --Held--> Placement --Tick, again and again--> an epoch ends --measured--> its metrics

A lane that has ended its epoch stands still where it is until it goes on, or until a placement is made without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raytune_hpo.training.counters import words_by_numpy
from raytune_hpo.training.drawing import step_number
from raytune_hpo.training.lanes.lane import Lane
from raytune_hpo.training.lanes.lane_data import LaneData
from raytune_hpo.training.lanes.mixed.capturing import Costs
from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.lane_rows import numbers_of_lane
from raytune_hpo.training.lanes.mixed.layout import Padded
from raytune_hpo.training.lanes.mixed.measured import measured
from raytune_hpo.training.lanes.mixed.placement import Placement, Samples, chain_of_lane, padded
from raytune_hpo.training.lanes.mixed.steps import AHEAD, PLAIN, Plan
from raytune_hpo.training.lanes.mixed.template import Template, image_elements
from raytune_hpo.training.lanes.rows import RowState
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Epoch
from raytune_hpo.training.task import Task

#: Lanes that wait for a place, as a share of those under way, before a placement is made for them; and ticks that any
#: waits.
WAITING_SHARE, WAITING_TICKS = 1 / 16, 16


@dataclass(eq=False)
class _Epoch:
    """An epoch under way. sizes: samples of each step. lrs: of each step. taken: steps so far, laid: laid out."""

    sizes: list[int]
    lrs: list[float]
    taken: int = 0
    laid: int = 0


class MixedStack:
    """template: what its lanes are padded to."""

    def __init__(self, task: Task, data: LaneData, template: Template) -> None:
        self.task, self.data, self.template = task, data, template
        self.device = data.train.device
        every = data.train.part(0, len(data.train))
        self._samples = Samples(every.x.flatten(1), every.y, tuple(every.x.shape[1:]))
        self._placed: Placement | None = None
        self._under_way: dict[int, _Epoch] = {}
        self._waiting: dict[int, int] = {}  # id of a lane -> the tick since which it does
        self._work: dict[int, float] = {}
        self._sizes: dict[int, tuple[Padded, int]] = {}
        self._costs = Costs()
        self._fits: int | None = None  # lanes, after an out-of-memory error
        #: Steps of all lanes so far.
        self.ticks = 0

    # Who is in ------------------------------------------------------------------------------------

    def forget(self, lane: Lane) -> None:
        """A lane has left. Its place goes with the next placement."""
        lane.gone = True
        self._under_way.pop(id(lane), None)
        self._waiting.pop(id(lane), None)
        self._sizes.pop(id(lane), None)
        if self._placed is not None and lane in self._placed:
            self._placed.steps.stand_still(self._placed.number[id(lane)])
            if all(other.gone for other in self._placed.lanes):
                self._placed = None

    @property
    def under_way(self) -> float:
        """Epochs, of those that are begun and not ended."""
        return sum(epoch.taken / len(epoch.sizes) for epoch in self._under_way.values())

    def under_way_of(self, lane: Lane) -> float:
        """How much of its epoch a lane has trained; 0 between two."""
        epoch = self._under_way.get(id(lane))
        return 0.0 if epoch is None else epoch.taken / len(epoch.sizes)

    def in_mid_epoch(self, lane: Lane) -> bool:
        return id(lane) in self._under_way

    def rows(self, lanes: Sequence[Lane]) -> list[RowState]:
        """Copies, on the CPU, of the rows of lanes, placed or parked."""
        placed = [lane for lane in lanes if lane.parked is None]
        found: dict[int, RowState] = {}
        if placed:
            assert self._placed is not None
            found = {id(lane): rows for lane, rows in zip(placed, self._placed.rows(placed), strict=True)}
        parked = {id(lane): lane.parked for lane in lanes if lane.parked is not None}
        found |= {key: RowState(*(t.cpu() for t in rows.tensors())) for key, rows in parked.items()}
        return [found[id(lane)] for lane in lanes]

    def bytes_of(self, lane: Lane) -> int:
        """What a lane takes: its weights and their gradients, the optimizer's state, its activations."""
        own, numbers = self._size(lane)
        chain = own.chain
        images = image_elements(chain, self._samples.shape)
        activations = 9 * own.batch * (images + chain.depth * own.width)
        return self._samples.x.element_size() * (4 * numbers + activations)

    def _size(self, lane: Lane) -> tuple[Padded, int]:
        """(what it is padded to, the numbers of its weights)."""
        found = self._sizes.get(id(lane))
        if found is None:
            own = padded(lane, self.template)
            found = self._sizes[id(lane)] = own, numbers_of_lane(own)
        return found

    def _step_work(self, lane: Lane) -> float:
        """Of a step, in products of two numbers or so: of its samples with its weights, and of the update."""
        own, numbers = self._size(lane)
        again = 0  # what kernels do at more than one place
        for block, (size, _) in zip(own.chain.blocks, own.chain.sizes(self._samples.shape), strict=False):
            again += math.prod(block.weight_shape) * (math.prod(size) - 1)
        return numbers * (own.batch + 8.0) + again * own.batch

    def shares(self, lanes: Sequence[Lane]) -> list[float]:
        """Of what the last `advance` took: by the work of a step, for those that took steps."""
        work = [self._work.get(id(lane), 0.0) for lane in lanes]
        return [one / sum(work) for one in work]

    # Ticks ----------------------------------------------------------------------------------------

    def advance(self, lanes: Sequence[Lane]) -> list[tuple[Lane, dict[str, float]]]:
        """Train these until at least one of them ends its epoch; those that do, with their metrics.

        The others go on where they are the next time. Some may still wait for a place.
        """
        placed = self._place(lanes)
        running = []
        for lane in lanes:
            if lane in placed:
                epoch = self._under_way.get(id(lane)) or self._begin(placed, lane)
                number = placed.number[id(lane)]
                if epoch.laid == epoch.taken or placed.steps.stands_still(number):
                    self._lay_out(placed, lane, epoch)
                running.append((number, lane, epoch))
        self._work = {id(lane): self._step_work(lane) for _, lane, _ in running}
        wanted = {id(lane) for lane in lanes}
        for lane in placed.lanes:
            if id(lane) in self._under_way and id(lane) not in wanted:
                placed.steps.stand_still(placed.number[id(lane)])
        while True:
            count = min(epoch.laid - epoch.taken for _, _, epoch in running)
            placed.run(count)
            self.ticks += count
            ended = []
            for number, lane, epoch in running:
                epoch.taken += count
                if epoch.taken == len(epoch.sizes):
                    ended.append(lane)
                    placed.steps.stand_still(number)
                elif epoch.taken == epoch.laid:
                    self._lay_out(placed, lane, epoch)
            if ended:
                return self._ended(placed, ended)

    def _ended(self, placed: Placement, lanes: list[Lane]) -> list[tuple[Lane, dict[str, float]]]:
        numbers = [placed.number[id(lane)] for lane in lanes]
        losses = placed.orders.losses[torch.tensor(numbers, device=self.device)].tolist()
        with torch.no_grad():
            scores = measured(placed.arena, numbers, self.data)
        out = []
        for lane, loss, score in zip(lanes, losses, scores, strict=True):
            epoch = self._under_way.pop(id(lane))
            out.append((lane, lane.finished(loss / sum(epoch.sizes), epoch.lrs[-1], score)))
        return out

    def _begin(self, placed: Placement, lane: Lane) -> _Epoch:
        samples, sizes = lane.order.report()
        epoch = _Epoch([size for (size,) in sizes], lane.schedule.lrs_of_epoch(lane.epoch))
        self._under_way[id(lane)] = epoch
        placed.orders.begin(placed.number[id(lane)], samples)
        return epoch

    def _lay_out(self, placed: Placement, lane: Lane, epoch: _Epoch) -> None:
        """The numbers of a lane's next steps."""
        first, last = epoch.taken, min(epoch.taken + AHEAD, len(epoch.sizes))
        lrs = np.array(epoch.lrs[first:last])[:, None]
        updates, configs, of_groups = [], [], []
        for group in lane.described.structure.groups:
            config = group.config(lane.config)
            rates = lrs if group.moves("lr", lane.config) else lrs / lane.schedule.lr * config["lr"]
            rule, of_one = RULES[config["optimizer"]], Epoch([config], rates, [lane.steps + first])
            if rule.is_of_moments:
                found = PLAIN | rule.moments(of_one)
            else:
                found = {f"other {name}": values for name, values in ({"momentum": 0.0} | rule.columns(of_one)).items()}
            configs.append(config)
            of_groups.append(rates)
            updates.append({name: np.ravel(values) for name, values in found.items()})
        sizes = np.array(epoch.sizes[first:last], dtype=np.float64)
        rows = placed.steps.rows(updates, sizes, lane.config["label_smoothing"], lane.config["clip_norm"])
        words = None
        if draws := len(chain_of_lane(lane).dropouts):
            passes = np.arange(last - first, dtype=np.uint64) + np.uint64(step_number(lane.epoch, first))
            words = words_by_numpy(np.array(lane.key % 2**64, dtype=np.uint64), passes, 0, draws).transpose(1, 0, 2)
        plan = Plan(configs, np.concatenate(of_groups, axis=1), lane.steps + first + 1)
        placed.steps.lay_out(placed.number[id(lane)], rows, words, plan)
        epoch.laid = last

    # Places ---------------------------------------------------------------------------------------

    def _place(self, lanes: Sequence[Lane]) -> Placement:
        """The placement that these, or enough of them, are in."""
        for lane in lanes:
            if self._placed is None or lane not in self._placed:
                self._waiting.setdefault(id(lane), self.ticks)
        if self._placed is not None and not self._asks_for_another(self._placed, lanes):
            return self._placed
        before = self._placed
        wanted = {id(lane) for lane in lanes}
        there = [] if before is None else [lane for lane in before.lanes if not lane.gone]
        still = [lane for lane in there if id(lane) not in wanted and id(lane) not in self._under_way]
        if len(still) > len(lanes) // 4:  # a few stay where they are: they may go on at once
            assert before is not None
            for lane, rows in zip(still, before.rows(still), strict=True):
                lane.parked = RowState(*(t.to(self.device) for t in rows.tensors()))
            there = [lane for lane in there if lane.parked is None]
        known = {id(lane) for lane in there}
        members = there + [lane for lane in lanes if id(lane) not in known]
        made = self._made(members[: self._fits], before)
        if made is None:
            assert before is not None
            return before
        self._placed = placed = made
        self._waiting = {key: since for key, since in self._waiting.items() if key not in placed.number}
        if before is not None:
            for lane in placed.go_on([lane for lane in there if id(lane) in self._under_way], before):
                epoch = self._under_way[id(lane)]
                epoch.laid = epoch.taken
        return placed

    def _made(self, members: Sequence[Lane], before: Placement | None) -> Placement | None:
        """A placement of as many of these as fit; None where only those that are there already do.

        Raises torch.OutOfMemoryError where one alone does not.
        """
        while True:
            try:
                return Placement(self.task, members, self.template, self._samples, before, self._costs)
            except torch.OutOfMemoryError:
                if len(members) == 1 and not self._under_way:
                    raise
            if self.device.type == "cuda":  # only here: with the error its frames are gone, which hold tensors
                torch.cuda.empty_cache()
            self._fits = len(self._under_way) or len(members) // 2
            if self._under_way:
                return None
            members = members[: self._fits]

    def _asks_for_another(self, placed: Placement, lanes: Sequence[Lane]) -> bool:
        going = sum(lane in placed for lane in lanes)
        if not going:
            return True
        if self._fits is not None and going >= self._fits:
            return False
        if len(self._waiting) >= max(1.0, WAITING_SHARE * going):
            return True
        if any(self.ticks - since >= WAITING_TICKS for since in self._waiting.values()):
            return True
        return len(placed.lanes) > 2 * going  # most stand still


def fits(chain: Chain, data: LaneData) -> bool:
    """Whether a chain takes the data's inputs and gives what its targets are compared with. Where it does not, a trial
    fails by itself, in a stack of its own."""
    one = data.train.at(torch.arange(1))
    outputs, highest = chain.blocks[-1].outputs, data.criterion.highest
    fitting = highest is None or highest < outputs if one.y.ndim == 1 else one.y.shape[1] == outputs
    return bool(fitting and chain.takes(one.x.shape[1:]))


def can_mix(task: Task, data: LaneData) -> bool:
    """Whether a task's chains can be trained side by side in one program: nothing is drawn but masks and orders, each
    sample has one target, or one row of them, and all lie in memory and are numbers."""
    if (
        type(task).augment is not Task.augment
        or task.missing_values
        or task.kind not in ("classification", "regression", "multilabel")
    ):
        return False
    if not len(data.train) or not data.train.in_memory or data.unscored:
        return False
    one = data.train.at(torch.arange(1))
    real = torch.get_default_dtype()
    axes = 1 if task.kind == "classification" else 2
    return bool(one.x.dtype == real and one.y.ndim == axes and (axes == 1 or one.y.dtype == real))
