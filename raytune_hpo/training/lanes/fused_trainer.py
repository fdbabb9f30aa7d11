"""The fused trainer: trials by name, which enter, train side by side, are copied and leave between two epochs."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.batches import ArraySource, source_of
from raytune_hpo.training.criterion import criterion_of
from raytune_hpo.training.data import STREAMED, TrialData
from raytune_hpo.training.lanes.chunks import ChunkSize
from raytune_hpo.training.lanes.fingerprint import differences
from raytune_hpo.training.lanes.lane import Lane, changed_lane, kept_rows, make_lane
from raytune_hpo.training.lanes.lane_data import LaneData
from raytune_hpo.training.lanes.lane_state import facts_of, load_state, shared_of, state_of, tensors_of_lanes
from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.mixed_stack import MixedStack, can_mix, fits
from raytune_hpo.training.lanes.mixed.placement import padded
from raytune_hpo.training.lanes.mixed.template import Template
from raytune_hpo.training.lanes.reading import Reading
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.rows import RowState, stretches_of
from raytune_hpo.training.lanes.stack import Stack
from raytune_hpo.training.lanes.structure import Structure
from raytune_hpo.training.task import Task

Group = tuple[Any, ...]


@dataclass(frozen=True)
class LaneSnapshot:
    """What `storage.lane_files.write` takes. tensors: [lanes, ...] each; facts: a JSON text a lane."""

    tensors: dict[str, np.ndarray[Any, Any]]
    shared: dict[str, Any]
    facts: list[str]


class FusedTrainer:
    """Trains many configs of a task, each as `SupervisedTrainer` would train it alone.

    Lanes of one structure, batch size and precision are trained as one stacked model; the others take turns.
    device: None is the GPU where there is one. chunk: lanes of a pass; None finds the fastest by timing. Raises
    NotFusableError for data that are read in a stream.
    """

    def __init__(
        self,
        task: Task,
        data: TrialData,
        *,
        max_epochs: int,
        device: str | None = None,
        chunk: int | None = None,
        template: Template | None = None,
    ) -> None:
        self.task = task
        self.max_epochs = max_epochs
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if task.has_own_step:
            raise NotFusableError("this task takes its steps itself")
        train, validation = (source_of(task, data, split, self.device) for split in ("train", "validation"))
        if not isinstance(train, ArraySource) or not isinstance(validation, ArraySource):
            raise NotFusableError(STREAMED)
        self._order_seed = data.order_seed
        criterion = criterion_of(task, data.train, data.validation, self.device)
        self._reading = Reading(train, criterion)
        self._data = LaneData(train, validation, criterion, whole=self._reading.whole)
        self._chunk = chunk
        self._lanes: dict[str, Lane] = {}
        self._stacks: dict[Group, Stack] = {}
        self._mixed: dict[Group, MixedStack] = {}
        self._epochs = 0
        can = not self._reading.whole and can_mix(task, self._data)
        self._shape = tuple(data.train.x.shape[1:]) if can else ()
        self._mixes: Callable[[Chain], bool] = lambda chain: (
            can and fits(chain, self._data) and self._template.fits(chain)
        )
        self._template = template or Template.of(self.device.type)

    # Coming and going -------------------------------------------------------------------------------

    def enter(self, name: str, config: Mapping[str, Any], seed: int, state: Mapping[str, Any] | None = None) -> None:
        """Let a trial in, at epoch 0 or where `state` (of either trainer) is. In place of a lane of that name.

        Raises ExperimentError for a bad config, TrialError for an impossible one or a state that does not fit,
        NotFusableError for a model that lanes cannot train.
        """
        lane = make_lane(
            *(name, self.task, config, seed),
            samples=len(self._data.train),
            max_epochs=self.max_epochs,
            device=self.device,
            reading=self._reading,
            mixes=self._mixes,
            order_seed=self._order_seed,
        )
        if state is not None:
            load_state(lane, state, self.device)
        self._put(lane)

    def copy(self, donor: str, name: str, config: Mapping[str, Any]) -> None:
        """Let `name` go on from where `donor` is, with another config: a copy of its rows on the device.

        Raises TrialError where the config needs another structure.
        """
        source = self._lanes[donor]
        assert not self.in_mid_epoch(donor), "what is copied is the state of an epoch"
        samples, epochs = len(self._data.train), self.max_epochs
        lane = changed_lane(
            *(name, source, self.task, config),
            samples=samples,
            max_epochs=epochs,
            reading=self._reading,
            mixes=self._mixes,
        )
        lane.parked = RowState(*(t.to(self.device) for t in self._rows(source).tensors()))
        groups = source.described.structure.groups
        lane.parked.forget_all_but(kept_rows(source.config, groups), stretches_of(source.described.structure))
        self._put(lane)

    def leave(self, name: str) -> None:
        """Let a trial go; its lane costs nothing from the next epoch of its group on."""
        self._remove(name)

    def _put(self, lane: Lane) -> None:
        self._remove(lane.name)
        if lane.chain is not None:
            lane.share = self._template.share(padded(lane, self._template), self._shape)
            taken: defaultdict[int, float] = defaultdict(float)
            for other in self._lanes.values():
                if other.chain is not None and bool(other.chain.convolutions) == bool(lane.chain.convolutions):
                    taken[other.number] += other.share
            lane.number = next(i for i in itertools.count() if taken[i] + lane.share <= 1 + 1e-9)
        self._lanes[lane.name] = lane

    def _remove(self, name: str) -> None:
        lane = self._lanes.pop(name, None)
        if lane is not None and (stack := self._stacks.get(lane.group) or self._mixed.get(lane.group)) is not None:
            stack.forget(lane)

    def _stack(self, lane: Lane) -> Stack:
        stack = self._stacks.get(lane.group)
        if stack is None:
            chunk = ChunkSize(self.device, self._chunk)
            stack = self._stacks[lane.group] = Stack(self.task, self._data, lane, chunk)
        return stack

    def _mixed_stack(self, lane: Lane) -> MixedStack:
        stack = self._mixed.get(lane.group)
        if stack is None:
            stack = self._mixed[lane.group] = MixedStack(self.task, self._data, self._template)
        return stack

    def _rows(self, lane: Lane) -> RowState:
        """Copies of one lane's rows."""
        if lane.chain is not None:
            return self._mixed_stack(lane).rows([lane])[0]
        return self._stack(lane).rows([lane]).first_row()

    def bytes_of(self, name: str) -> int:
        """What a trial's own tensors take: weights, gradient, the optimizer's state, running statistics."""
        lane = self._lanes[name]
        if lane.chain is not None:
            return self._mixed_stack(lane).bytes_of(lane)
        rows = lane.parked if lane.parked is not None else self._rows(lane)
        sizes = [t.numel() * t.element_size() for t in rows.tensors()]
        return sum(sizes) + sizes[0]

    @property
    def unfusable(self) -> str | None:
        """Why some of its lanes are trained one by one; None while none is."""
        return next((s.unfusable for s in self._stacks.values() if s.unfusable is not None), None)

    @property
    def apart(self) -> list[str]:
        """Why lanes of like structure do not share a stack, a line each: their forwards, or their loss, read other
        values."""
        alike: dict[Any, dict[Any, Structure]] = {}
        read: dict[Any, dict[str, dict[Any, None]]] = {}
        for lane in self._lanes.values():
            structure = lane.described.structure
            alike.setdefault(structure.outline, {}).setdefault(structure.key, structure)
            for name, value in lane.own.fixed:
                read.setdefault(structure.key, {}).setdefault(name, {})[value] = None
        forwards = [
            f"lanes of {one.name} do not share a stack: {difference}"
            for structures in alike.values()
            for one in list(structures.values())[:1]
            for difference in differences([structure.reads for structure in structures.values()])
        ]
        losses = [
            f"lanes do not share a stack: {type(self.task).__name__}.loss reads {name!r}, which differs"
            for names in read.values()
            for name, values in names.items()
            if len(values) > 1
        ]
        return [*forwards, *losses]

    # Training ---------------------------------------------------------------------------------------

    def __contains__(self, name: str) -> bool:
        return name in self._lanes

    def epoch(self, name: str) -> int:
        return self._lanes[name].epoch

    def group(self, name: str) -> Group:
        """Trials of equal groups train in one stack, at the same time."""
        lane = self._lanes[name]
        return lane.group, None if lane.chain is not None else lane.order.position

    def train_epoch(self, names: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """One epoch of each of these trials (default: of all), group after group. Metrics by name."""
        wanted = list(self._lanes if names is None else names)
        groups: dict[Group, list[str]] = {}
        for name in wanted:
            groups.setdefault(self.group(name), []).append(name)
        out: dict[str, dict[str, float]] = {}
        for members in groups.values():
            while left := [name for name in members if name not in out]:
                out |= self.advance(left)
        return {name: out[name] for name in wanted}

    def advance(self, names: Sequence[str]) -> dict[str, dict[str, float]]:
        """Train trials of one group until one of them or more end an epoch; the metrics of these by name.

        Where lanes of a group end their epochs together, these are all of them.
        """
        lanes = [self._lanes[name] for name in names]
        if lanes[0].chain is not None:
            found = {lane.name: metrics for lane, metrics in self._mixed_stack(lanes[0]).advance(lanes)}
        else:
            stack = self._stack(lanes[0])
            stack.hold(lanes)
            found = {lane.name: metrics for lane, metrics in zip(stack.lanes, stack.train_epoch(), strict=True)}
        self._epochs += len(found)
        return found

    def shares(self, names: Sequence[str]) -> list[float]:
        """Of what the last `advance` of these took, how much was whose."""
        lanes = [self._lanes[name] for name in names]
        if lanes[0].chain is None:
            return [1 / len(lanes)] * len(lanes)
        return self._mixed_stack(lanes[0]).shares(lanes)

    def in_mid_epoch(self, name: str) -> bool:
        """Whether a trial is between two of its epochs' ends: its state is then none that was reported."""
        lane = self._lanes[name]
        return lane.chain is not None and self._mixed_stack(lane).in_mid_epoch(lane)

    def ticks(self) -> int:
        """Steps of mixed stacks so far, each of all their lanes."""
        return sum(stack.ticks for stack in self._mixed.values())

    def progress(self) -> float:
        """Epochs trained so far by all lanes that ever were, those under way in part."""
        return self._epochs + sum(stack.under_way for stack in self._mixed.values())

    def progress_of(self, name: str) -> float:
        """A trial's epochs so far, the one under way in part."""
        lane = self._lanes[name]
        return lane.epoch + (self._mixed_stack(lane).under_way_of(lane) if lane.chain is not None else 0.0)

    # State ------------------------------------------------------------------------------------------

    def state_dict(self, name: str) -> dict[str, Any]:
        """A snapshot of one trial, which either trainer can go on from."""
        lane = self._lanes[name]
        return state_of(lane, RowState(*(t.cpu()[None] for t in self._rows(lane).tensors())))

    def snapshots(self, names: Sequence[str]) -> list[tuple[list[str], LaneSnapshot]]:
        """Snapshots of trials of one group, as files of lanes hold them: a file for each structure. Later epochs do not
        change them."""
        lanes = [self._lanes[name] for name in names]
        if lanes[0].chain is None:
            rows = self._stack(lanes[0]).rows(lanes)
            return [(list(names), _snapshot(lanes, RowState(*(t.cpu() for t in rows.tensors()))))]
        found: dict[Any, list[tuple[Lane, RowState]]] = {}
        for lane, own in zip(lanes, self._mixed_stack(lanes[0]).rows(lanes), strict=True):
            structure = lane.described.structure
            found.setdefault((structure.key, structure.groups, lane.order.counted), []).append((lane, own))
        out = []
        for members in found.values():
            together = RowState(*(torch.stack(t) for t in zip(*(own.tensors() for _, own in members), strict=True)))
            out.append(([lane.name for lane, _ in members], _snapshot([lane for lane, _ in members], together)))
        return out


def _snapshot(lanes: Sequence[Lane], rows: RowState) -> LaneSnapshot:
    return LaneSnapshot(
        tensors_of_lanes(lanes, rows), shared_of(lanes[0]), [json.dumps(facts_of(lane)) for lane in lanes]
    )
