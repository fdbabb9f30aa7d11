"""A stack: the weights of lanes of one group on one device, and one epoch of all of them.

L: lanes, P: weights of a lane. Rows are [L, P], so that an optimizer's update, a snapshot and a copy from lane to
lane are each a few operations over whole rows. Lanes that come or go make new rows, once an epoch at most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.batches import augmented
from raytune_hpo.training.drawing import COUNTED_BATCH, MEASURED, drawing, step_number
from raytune_hpo.training.lanes.chunks import ChunkSize
from raytune_hpo.training.lanes.lane import Lane
from raytune_hpo.training.lanes.lane_data import LaneData
from raytune_hpo.training.lanes.layers import Tensor, runs_of
from raytune_hpo.training.lanes.optimizers import Updates, clip
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.rows import RowState, aligned, places_of, stretches_of
from raytune_hpo.training.lanes.vmappable import refusal
from raytune_hpo.training.rules.rule import Rows
from raytune_hpo.training.scores import Scores
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import mapped


class Stack:
    """Lanes of one group. chunk: how many of them a forward and backward pass takes."""

    def __init__(self, task: Task, data: LaneData, example: Lane, chunk: ChunkSize) -> None:
        self.task, self.data, self.chunk = task, data, chunk
        self.device = data.train.device
        self.structure = example.described.structure
        self.places = places_of(self.structure)
        self._stretches = stretches_of(self.structure)
        self._trained = sorted((place for place in self.places if place.row == "weights"), key=lambda p: p.start)
        self._unused = [shape.name for shape in self.structure.shapes if shape.unused]
        self.lanes: list[Lane] = []
        self._rows = RowState(*(torch.empty(0) for _ in range(5)))
        self._augments = type(task).augment is not Task.augment
        self._counts = self.structure.counting
        precision = example.config["precision"]
        self._autocast = getattr(torch, precision) if precision != "float32" and self.device.type == "cuda" else None
        self._program = data.program(self.structure)
        #: Why its lanes are trained one by one, if they are.
        self.unfusable: str | None = None
        if self.structure.is_mapped:
            two = data.train.at(torch.arange(min(2, len(data.train))))
            self.unfusable = refusal(self._program, example.described, example.config, example.own, two, self._autocast)
        if self.unfusable is not None:
            self.chunk = ChunkSize(self.device, fixed=1)

    # Who is in ------------------------------------------------------------------------------------

    def hold(self, lanes: Sequence[Lane]) -> None:
        """Be the stack of these lanes: take those that are parked, park those that are not among them."""
        wanted = sorted(lanes, key=lambda lane: lane.order_in_stack)
        if wanted == self.lanes:
            return
        staying = {id(lane) for lane in wanted}
        for i, lane in enumerate(self.lanes):
            if id(lane) not in staying and not lane.gone:
                lane.parked = self.row(i)
        new = [lane.parked.tensors() for lane in wanted if lane.parked is not None]
        at = {id(lane): i for i, lane in enumerate(self.lanes)}
        at |= {id(lane): len(at) + i for i, lane in enumerate(lane for lane in wanted if lane.parked is not None)}
        index = torch.tensor([at[id(lane)] for lane in wanted], dtype=torch.int64, device=self.device)
        entering = [torch.stack(column) for column in zip(*new, strict=True)]
        rows = []
        for i, old in enumerate(self._rows.tensors()):
            both = [t for t in (old if self.lanes else None, entering[i] if entering else None) if t is not None]
            rows.append(torch.cat(both).index_select(0, index) if both else old)
        self._rows = RowState(*rows)
        for lane in wanted:
            lane.parked = None
        self.lanes = wanted

    def forget(self, lane: Lane) -> None:
        """A lane has left. Its row goes with the next change, or at once if it was the last."""
        lane.gone = True
        if self.lanes and all(other.gone for other in self.lanes):
            self.hold([])

    def row(self, index: int) -> RowState:
        """A copy of a lane's rows."""
        return RowState(*(t[index].clone() for t in self._rows.tensors()))

    def rows(self, lanes: Sequence[Lane]) -> RowState:
        """Copies of the rows of some lanes, parked or not, [l, ...] each, in their order."""
        at = {id(lane): i for i, lane in enumerate(self.lanes)}
        if all(lane.parked is None for lane in lanes):
            index = torch.tensor([at[id(lane)] for lane in lanes], device=self.device)
            return RowState(*(t.index_select(0, index) for t in self._rows.tensors()))
        picked = [self.row(at[id(lane)]) if lane.parked is None else lane.parked for lane in lanes]
        return RowState(*(torch.stack(column) for column in zip(*(r.tensors() for r in picked), strict=True)))

    # An epoch -------------------------------------------------------------------------------------

    def train_epoch(self) -> list[dict[str, float]]:
        """One epoch of every lane; the metrics of each, as `SupervisedTrainer.train_epoch` gives them."""
        lanes = self.lanes
        lrs = np.array([lane.schedule.lrs_of_epoch(lane.epoch) for lane in lanes]).T
        updates = self._updates(lrs)
        largest = self._column("clip_norm")
        smoothing = self._column("label_smoothing") if self.task.kind == "classification" else None
        loss_sum = torch.zeros(len(lanes), dtype=torch.float64, device=self.device)
        gradient = torch.empty_like(self._rows.weights)
        rows = Rows(self._rows.weights, gradient, self._rows.first, self._rows.second)
        self._begin_drawing()
        samples = batch = 0
        for step, batches in enumerate(self._stepwise()):
            size = sum(index.shape[1] for index in batches)
            for number, index in enumerate(batches):
                share = index.shape[1] / size
                added = number > 0

                def one_pass(at: slice) -> None:
                    losses = self._gradients(at, index, batch, smoothing, gradient[at], share, added)  # noqa: B023
                    loss_sum[at] += losses.double() * index.shape[1]  # noqa: B023

                self.chunk.run(len(lanes), one_pass, self._undoable)
                batch += 1
            samples += size
            if largest is not None:
                clip(gradient, largest)
            for update, start, end, (first, last) in updates:
                update.apply(step, rows.part(start, end, first, last))
        scores = self._validate()
        return [
            lane.finished(loss / samples, float(lr), score)
            for lane, loss, lr, score in zip(lanes, loss_sum.tolist(), lrs[-1], scores, strict=True)
        ]

    def _stepwise(self) -> Iterator[list[Tensor]]:
        """Of each step of an epoch, the samples of its batches, [L, N] each."""
        drawn = [lane.order.report() for lane in self.lanes]  # lanes that train together are at one place of their pass
        sizes = drawn[0][1]
        samples = torch.from_numpy(np.stack([own for own, _ in drawn])).to(self.device)
        batches = iter(torch.split(samples, [size for step in sizes for size in step], 1))
        for step in sizes:
            yield [next(batches) for _ in step]

    def _begin_drawing(self) -> None:
        """The counters of an epoch that starts."""
        self._keys = torch.tensor([lane.key for lane in self.lanes], dtype=torch.int64)
        self._first_steps = torch.tensor([step_number(lane.epoch, 0) for lane in self.lanes], dtype=torch.int64)

    def _drawing(self, at: slice, batch: int) -> contextlib.AbstractContextManager[Any]:
        """What models draw in the pass of a batch of the epoch, from 0."""
        keys, steps = self._keys[at], self._first_steps[at] + batch
        if len(keys) == 1:
            return drawing(int(keys[0]), int(steps[0]), counting=self._counts)
        return drawing(keys, steps, counting=self._counts)

    @contextlib.contextmanager
    def _undoable(self, at: slice) -> Iterator[None]:
        """Let a forward and backward pass that raises leave no trace: it is tried again with fewer lanes."""
        drawn = [(lane.generator.get_state(), lane.random) for lane in self.lanes[at]]
        buffers, counts = self._rows.buffers[at].clone(), self._rows.counts[at].clone()
        try:
            yield
        except BaseException:
            for lane, (state, random) in zip(self.lanes[at], drawn, strict=True):
                lane.generator.set_state(state)
                lane.random = random
            self._rows.buffers[at], self._rows.counts[at] = buffers, counts
            raise

    def _updates(self, lrs: np.ndarray[Any, Any]) -> list[tuple[Updates, int, int, tuple[int, int]]]:
        """Of lanes of one optimizer and of one group of parameters: the lanes from start to end, the stretch of their
        weights. lrs: [steps, L]."""
        out = []
        for optimizer, start, end in runs_of([lane.config["optimizer"] for lane in self.lanes]):
            own = self.lanes[start:end]
            done = [lane.steps for lane in own]
            for group, stretch in zip(self.structure.groups, self._stretches, strict=True):
                configs = [group.config(lane.config) for lane in own]
                rates = lrs[:, start:end]
                if any(not group.moves("lr", lane.config) for lane in own):
                    rates = rates / [lane.schedule.lr for lane in own] * [config["lr"] for config in configs]
                out.append((Updates(optimizer, configs, rates, done, self._rows.weights), start, end, stretch))
        return out

    def _column(self, name: str) -> Tensor | None:
        """[L, 1]; None where no lane uses it."""
        values = [lane.config[name] for lane in self.lanes]
        return torch.tensor(values, device=self.device).to(self._rows.weights)[:, None] if any(values) else None

    def _weights(self, at: slice, *, train: bool) -> dict[str, Tensor]:
        out = {}
        for place in self.places:
            tensor = place.typed(place.of(getattr(self._rows, place.row)[at])).detach()
            trained = place.row == "weights" or place.name in self._unused
            out[place.name] = tensor.requires_grad_() if train and trained else tensor
        return out

    def _gradients(
        self,
        at: slice,
        index: Tensor,
        batch: int,
        smoothing: Tensor | None,
        gradient: Tensor,
        share: float,
        added: bool,
    ) -> Tensor:
        """Fill `gradient`, [l, P], for the lanes `at` on their samples, index[at], [l, N]; or add to it. The losses.

        share: of the step's samples that the batch is. batch: which one of the epoch.
        """
        lanes = self.lanes[at]
        found_batch = self._batch_of(lanes, index[at])
        weights = self._weights(at, train=True)
        some = None if smoothing is None else smoothing[at, 0]
        with torch.enable_grad(), self._drawing(at, batch):
            losses = self._program.losses(weights, found_batch, lanes, self._autocast, some)
            if losses.shape != (len(lanes),) or not losses.requires_grad:
                raise NotFusableError("its loss does not depend on the weights of each lane")
        leaves = [weights[place.name] for place in self._trained]
        total = losses.sum() if share == 1 else losses.sum() * share
        found = torch.autograd.grad(total, leaves + [weights[name] for name in self._unused], allow_unused=True)
        if any(g is None for g in found[: len(leaves)]) or any(g is not None for g in found[len(leaves) :]):
            raise NotFusableError("the model has weights that its outputs do not depend on at every step")
        for place in self.places:
            if place.dtype:  # a copy, which a forward may have written to
                place.of(getattr(self._rows, place.row)[at]).copy_(weights[place.name])
        parts = []
        for g, place in zip(found, self._trained, strict=False):
            parts.append(g.reshape(len(lanes), -1))
            if aligned(place.end) > place.end:
                parts.append(g.new_zeros(len(lanes), aligned(place.end) - place.end))
        if added:
            gradient += torch.cat(parts, dim=1)
        else:
            torch.cat(parts, dim=1, out=gradient)
        return losses.detach()

    def _batch_of(self, lanes: Sequence[Lane], index: Tensor) -> Any:
        """The samples `index`, [L, N], as a batch of tensors [L, N, ...], augmented."""
        L, N = index.shape
        batch = mapped(lambda t: t.view(L, N, *t.shape[1:]), self.data.train.at(index.reshape(-1)))
        if not self._augments:
            return batch
        each = []
        for i, lane in enumerate(lanes):
            with lane.as_global_generator(self.device):
                each.append(augmented(self.task, mapped(lambda t: t[i], batch)))  # noqa: B023
        return mapped(lambda *of_lanes: torch.stack(of_lanes), *each)

    @torch.no_grad()
    def _validate(self) -> list[dict[str, float]]:
        scores = Scores(self.data.criterion.measured, len(self.lanes))
        source = self.data.validation
        measured = torch.full((len(self.lanes),), MEASURED, dtype=torch.int64)

        def one_pass(at: slice) -> None:
            lanes, weights = self.lanes[at], self._weights(at, train=False)
            scores.begin(at)
            for number, start in enumerate(range(0, len(source), COUNTED_BATCH)):
                batch = source.part(start, start + COUNTED_BATCH)
                if self._counts:
                    batch = mapped(torch.clone, batch)  # which code of the user's may write to
                keys = measured[at] if len(lanes) > 1 else MEASURED
                with drawing(keys, number, counting=self._counts):
                    losses = self._program.measured_losses(weights, batch, lanes)
                with drawing(keys, number, counting=self._counts):  # the same numbers, as of one trial
                    outputs, targets = self._program.measured(weights, batch, lanes)
                scores.add(outputs, targets, at, losses=losses, samples=source.size(batch))

        self.chunk.run(len(self.lanes), one_pass)
        return scores.results()
