"""A stack: the weights of lanes of one group on one device, and one epoch of all of them.

L: lanes, P: weights of a lane. Rows are [L, P], so that an optimizer's update, a snapshot and a copy from lane to
lane are each a few operations over whole rows. Lanes that come or go make new rows, once an epoch at most.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.chunks import ChunkSize
from raytune_hpo.training.lanes.lane import Lane
from raytune_hpo.training.lanes.layers import LaneView, Tensor, runs_of
from raytune_hpo.training.lanes.mapped import Mapped
from raytune_hpo.training.lanes.optimizers import Updates, clip
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.rows import RowState, aligned, places_of
from raytune_hpo.training.losses import has_unscored, lane_losses
from raytune_hpo.training.outputs import check_outputs, check_tensor, highest_class
from raytune_hpo.training.rules.rule import Rows
from raytune_hpo.training.scores import Scores
from raytune_hpo.training.task import Task

VALIDATION_BATCH = 256  # samples a pass; the same for any number of lanes, since a sum rounds by its parts


@dataclass(frozen=True)
class DeviceData:
    """Training and validation tensors on the device: x [n, ...], y [n] or [n, d]."""

    x: Tensor
    y: Tensor
    validation_x: Tensor
    validation_y: Tensor


class Stack:
    """Lanes of one group. chunk: how many of them a forward and backward pass takes."""

    def __init__(self, task: Task, data: DeviceData, example: Lane, chunk: ChunkSize) -> None:
        self.task, self.data, self.chunk = task, data, chunk
        self._measured = task.measured()
        self._highest = highest_class(data.y, data.validation_y)
        self._unscored = has_unscored(data.y)
        self.device = data.x.device
        #: Why its lanes are trained one by one, if they are.
        self.unfusable: str | None = None
        self.structure = example.described.structure
        self.places = places_of(self.structure)
        self._trained = [place for place in self.places if place.row == "weights"]
        self._unused = [shape.name for shape in self.structure.shapes if shape.unused]
        self.lanes: list[Lane] = []
        self._rows = RowState(*(torch.empty(0) for _ in range(5)))
        self._augments = type(task).augment is not Task.augment
        # Only these may draw from torch's global generator instead of their lanes' own, or work in place.
        self._has_modules = any(isinstance(layer, Mapped) for layer in self.structure.layers)
        N, precision = example.config["batch_size"], example.config["precision"]
        self.batch_size, self.samples = N, example.samples
        self._autocast = getattr(torch, precision) if precision != "float32" and self.device.type == "cuda" else None
        if self._has_modules:
            self.unfusable = self._refusal(example)
        if self.unfusable is not None:
            self.chunk = ChunkSize(self.device, fixed=1)

    def _refusal(self, example: Lane) -> str | None:
        """What vmap says to two lanes of weights that are 0, on two samples."""
        views = [LaneView(example.described.variants, torch.Generator(self.device), example.described.widths)] * 2
        x = self.data.x[:2].expand(2, *self.data.x[:2].shape).clone()
        try:
            weights = {
                shape.name: torch.zeros(2, *shape.padded, dtype=shape.dtype, device=self.device)
                for shape in self.structure.shapes
            }
            with torch.no_grad():
                for training in (True, False, True):  # again, for what a forward keeps for the next one
                    self.structure.run(x, weights, views, training=training)
        except Exception as error:  # vmap raises many unrelated types
            return f"{_innermost_module(error)} is not vmappable"
        return None

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
        lanes, N = self.lanes, self.batch_size
        n = len(self.data.x)
        order = torch.stack([torch.randperm(n, generator=lane.order) for lane in lanes]).to(self.device)
        lrs = np.array([lane.schedule.lrs_of_epoch(lane.epoch) for lane in lanes]).T
        steps = len(lrs)
        updates = self._updates(lrs)
        largest = self._column("clip_norm")
        smoothing = self._column("label_smoothing")
        loss_sum = torch.zeros(len(lanes), dtype=torch.float64, device=self.device)
        gradient = torch.empty_like(self._rows.weights)
        rows = Rows(self._rows.weights, gradient, self._rows.first, self._rows.second)

        def one_pass(at: slice) -> None:
            losses = self._gradients(at, batch[at], smoothing, gradient[at])
            loss_sum[at] += losses.double() * batch.shape[1]

        for step in range(steps):
            batch = order[:, step * N : (step + 1) * N]
            self.chunk.run(len(lanes), one_pass, self._undoable)
            if largest is not None:
                clip(gradient, largest)
            for update, start, end in updates:
                update.apply(step, rows.part(start, end))
        scores = self._validate()
        return [
            self._finish(lane, loss, float(lr), score)
            for lane, loss, lr, score in zip(lanes, loss_sum.tolist(), lrs[-1], scores, strict=True)
        ]

    @contextlib.contextmanager
    def _undoable(self, at: slice) -> Iterator[None]:
        """Let a forward and backward pass that raises leave no trace: it is tried again with fewer lanes."""
        drawn = [lane.generator.get_state() for lane in self.lanes[at]]
        buffers, counts = self._rows.buffers[at].clone(), self._rows.counts[at].clone()
        try:
            yield
        except BaseException:
            for lane, state in zip(self.lanes[at], drawn, strict=True):
                lane.generator.set_state(state)
            self._rows.buffers[at], self._rows.counts[at] = buffers, counts
            raise

    def _updates(self, lrs: np.ndarray[Any, Any]) -> list[tuple[Updates, int, int]]:
        out = []
        for optimizer, start, end in runs_of([lane.config["optimizer"] for lane in self.lanes]):
            own = self.lanes[start:end]
            done = [lane.steps for lane in own]
            like = self._rows.weights
            out.append((Updates(optimizer, [x.config for x in own], lrs[:, start:end], done, like), start, end))
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

    def _gradients(self, at: slice, batch: Tensor, smoothing: Tensor | None, gradient: Tensor) -> Tensor:
        """Fill `gradient`, [l, P], for the lanes `at` on their samples `batch`, [l, N]. The losses, [l]."""
        lanes, (L, N) = self.lanes[at], batch.shape
        index = batch.reshape(-1)
        x = self.data.x.index_select(0, index).view(L, N, *self.data.x.shape[1:])
        y = self.data.y.index_select(0, index).view(L, N, *self.data.y.shape[1:])
        if self._augments:
            for i, lane in enumerate(lanes):
                with lane.as_global_generator(self.device):
                    x[i] = self.task.augment(x[i])
        weights = self._weights(at, train=True)
        with torch.enable_grad():
            outputs = self._run(x, weights, lanes, training=True)
            check_outputs(outputs, y[0], self._highest, lanes=True)
            some = None if smoothing is None or self.task.kind == "regression" else smoothing[at, 0]
            losses = lane_losses(outputs, y, self.task.kind, some, unscored=self._unscored)
        leaves = [weights[place.name] for place in self._trained]
        found = torch.autograd.grad(losses.sum(), leaves + [weights[name] for name in self._unused], allow_unused=True)
        if any(g is None for g in found[: len(leaves)]) or any(g is not None for g in found[len(leaves) :]):
            raise NotFusableError("the model has weights that its outputs do not depend on at every step")
        for place in self.places:
            if place.dtype:  # a copy, which a forward may have written to
                place.of(getattr(self._rows, place.row)[at]).copy_(weights[place.name])
        parts = []
        for g, place in zip(found, self._trained, strict=False):
            parts.append(g.reshape(L, -1))
            if aligned(place.end) > place.end:
                parts.append(g.new_zeros(L, aligned(place.end) - place.end))
        torch.cat(parts, dim=1, out=gradient)
        return losses.detach()

    def _run(self, x: Tensor, weights: dict[str, Tensor], lanes: Sequence[Lane], *, training: bool) -> Tensor:
        views = [lane.view for lane in lanes]
        with contextlib.ExitStack() as stack:
            if self._autocast is not None and training:
                stack.enter_context(torch.autocast(self.device.type, self._autocast))
            if len(lanes) == 1 and self._has_modules and training:
                stack.enter_context(lanes[0].as_global_generator(self.device))
            # By itself a lane runs its own model: also what its forward does not read may differ from its neighbours'.
            structure = lanes[0].described.structure if len(lanes) == 1 else self.structure
            outputs = structure.run(x, weights, views, training=training)
        check_tensor(outputs, lanes=True)
        return outputs.to(self._rows.weights.dtype)  # losses are never computed in half precision

    @torch.no_grad()
    def _validate(self) -> list[dict[str, float]]:
        scores = Scores(self._measured, len(self.lanes))
        x, y = self.data.validation_x, self.data.validation_y

        def one_pass(at: slice) -> None:
            lanes, weights = self.lanes[at], self._weights(at, train=False)
            scores.begin(at)
            for start in range(0, len(x), VALIDATION_BATCH):
                part = x[start : start + VALIDATION_BATCH]
                own = part.expand(len(lanes), *part.shape)
                if self._has_modules:
                    own = own.clone()  # a module of the user's may work in place, on an array that others read
                outputs, targets = self._run(own, weights, lanes, training=False), y[start : start + VALIDATION_BATCH]
                check_outputs(outputs, targets, self._highest, lanes=True)
                scores.add(outputs, targets, at)

        self.chunk.run(len(self.lanes), one_pass)
        return scores.results()

    def _finish(self, lane: Lane, loss_sum: float, lr: float, scores: dict[str, float]) -> dict[str, float]:
        lane.epoch += 1
        lane.steps += lane.schedule.steps_per_epoch
        train_loss = loss_sum / lane.samples
        if not math.isfinite(train_loss):
            scores = dict.fromkeys(scores, math.nan)
            train_loss = math.nan
        lane.schedule.end_epoch(scores["loss"])
        reported = {f"validation_{name}": value for name, value in scores.items()}
        return {"train_loss": train_loss, **reported, "lr": lr}


def _innermost_module(error: BaseException) -> str:
    """The class of the module in whose forward an error was raised."""
    name, trace = "the model", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if isinstance(module, torch.nn.Module):
            name = type(module).__name__
        trace = trace.tb_next
    return name
