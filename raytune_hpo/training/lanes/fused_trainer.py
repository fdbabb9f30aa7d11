"""The fused trainer: trials by name, which enter, train side by side, are copied and leave between two epochs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
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
        self, task: Task, data: TrialData, *, max_epochs: int, device: str | None = None, chunk: int | None = None
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
        samples, epochs = len(self._data.train), self.max_epochs
        lane = changed_lane(name, source, self.task, config, samples=samples, max_epochs=epochs, reading=self._reading)
        lane.parked = self._stack(source).rows([source]).first_row()
        groups = source.described.structure.groups
        lane.parked.forget_all_but(kept_rows(source.config, groups), stretches_of(source.described.structure))
        self._put(lane)

    def leave(self, name: str) -> None:
        """Let a trial go; its lane costs nothing from the next epoch of its group on."""
        self._remove(name)

    def _put(self, lane: Lane) -> None:
        self._remove(lane.name)
        self._lanes[lane.name] = lane

    def _remove(self, name: str) -> None:
        lane = self._lanes.pop(name, None)
        if lane is not None and lane.group in self._stacks:
            self._stacks[lane.group].forget(lane)

    def _stack(self, lane: Lane) -> Stack:
        stack = self._stacks.get(lane.group)
        if stack is None:
            chunk = ChunkSize(self.device, self._chunk)
            stack = self._stacks[lane.group] = Stack(self.task, self._data, lane, chunk)
        return stack

    def bytes_of(self, name: str) -> int:
        """What a trial's own tensors take: weights, gradient, the optimizer's state, running statistics."""
        lane = self._lanes[name]
        rows = lane.parked if lane.parked is not None else self._stack(lane).rows([lane])
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
        return lane.group, lane.order.position

    def train_epoch(self, names: Collection[str] | None = None) -> dict[str, dict[str, float]]:
        """One epoch of each of these trials (default: of all), group after group. Metrics by name."""
        wanted = [self._lanes[name] for name in (self._lanes if names is None else names)]
        groups: dict[Group, list[Lane]] = {}
        for lane in wanted:
            groups.setdefault((lane.group, lane.order.position), []).append(lane)
        out: dict[str, dict[str, float]] = {}
        for lanes in groups.values():
            stack = self._stack(lanes[0])
            stack.hold(lanes)
            for lane, metrics in zip(stack.lanes, stack.train_epoch(), strict=True):
                out[lane.name] = metrics
        return {lane.name: out[lane.name] for lane in wanted}

    # State ------------------------------------------------------------------------------------------

    def state_dict(self, name: str) -> dict[str, Any]:
        """A snapshot of one trial, which either trainer can go on from."""
        lane = self._lanes[name]
        return state_of(lane, self._on_cpu([lane]))

    def snapshot(self, names: Sequence[str]) -> LaneSnapshot:
        """A snapshot of trials of one group, as files of lanes hold it. Later epochs do not change it."""
        lanes = [self._lanes[name] for name in names]
        facts = [json.dumps(facts_of(lane)) for lane in lanes]
        return LaneSnapshot(tensors_of_lanes(lanes, self._on_cpu(lanes)), shared_of(lanes[0]), facts)

    def _on_cpu(self, lanes: Sequence[Lane]) -> RowState:
        return RowState(*(t.cpu() for t in self._stack(lanes[0]).rows(lanes).tensors()))
