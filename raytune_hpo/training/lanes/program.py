"""Programs: how the lanes of a stack are run and compared with their batches. L: lanes, N: a mini-batch.

a model called with x, compared with y        -> ChainProgram: the structure's layers, losses by the task's kind
a loss, predictions or targets of the task's  -> OwnProgram: vmap over the model and these functions
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.training.criterion import Criterion, outputs_of
from raytune_hpo.training.lanes.layers import LaneView, Tensor, Weights
from raytune_hpo.training.lanes.mapped import Mapped
from raytune_hpo.training.losses import lane_losses
from raytune_hpo.training.outputs import check_outputs, check_tensor

if TYPE_CHECKING:
    from raytune_hpo.training.lanes.lane import Lane
    from raytune_hpo.training.lanes.structure import Structure


class Program(ABC):
    """criterion: of the task on the data. unscored: whether targets hold classes that are not scored."""

    def __init__(self, structure: Structure, criterion: Criterion, *, unscored: bool) -> None:
        self.structure, self.criterion, self.unscored = structure, criterion, unscored
        self.task = criterion.task

    def losses(
        self,
        weights: Weights,
        batch: Any,
        lanes: Sequence[Lane],
        autocast: torch.dtype | None,
        smoothing: Tensor | None,
    ) -> Tensor:
        """[L] the mean training loss of each lane's batch, with its gradient. batch: [L, N, ...]. smoothing: [L]."""
        with _autocast(weights, autocast):
            outputs, targets = self._compared(weights, batch, lanes)
        # Losses are never computed in half precision.
        outputs = outputs.to(torch.get_default_dtype()) if autocast is not None else outputs
        classes = self.criterion.weights_of(lanes[0].config)
        return lane_losses(outputs, targets, self.task.kind, smoothing, classes, unscored=self.unscored)

    def measured_losses(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> Tensor | None:
        """[L] of a loss of the task's own, None where it has none. batch: [N, ...], of all lanes."""
        return None

    @abstractmethod
    def measured(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Any, Any]:
        """(outputs [L, N, ...], targets [N, ...]), None each where no metric takes them. batch: as above."""

    @abstractmethod
    def _compared(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Tensor, Tensor]:
        """(outputs, targets) of training, [L, N, ...]."""


class ChainProgram(Program):
    """Of batches of one tensor x and one tensor y."""

    def _compared(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Tensor, Tensor]:
        outputs = self._run(batch.x, weights, lanes, training=True)
        check_outputs(outputs, batch.y[0], self.criterion.highest, lanes=True)
        return outputs, batch.y

    def measured(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Any, Any]:
        x = batch.x.expand(len(lanes), *batch.x.shape)
        if self.structure.counting:
            x = x.clone()  # a module of the user's may work in place, on an array that others read
        outputs = self._run(x, weights, lanes, training=False)
        check_outputs(outputs, batch.y, self.criterion.highest, lanes=True)
        return outputs, batch.y

    def _run(self, x: Tensor, weights: Weights, lanes: Sequence[Lane], *, training: bool) -> Tensor:
        # By itself a lane runs its own model: also what its forward does not read may differ from its neighbours'.
        structure = lanes[0].described.structure if len(lanes) == 1 else self.structure
        outputs = structure.run(x, weights, [lane.view for lane in lanes], training=training)
        check_tensor(outputs, lanes=True)
        return outputs


class OwnProgram(Program):
    """Of anything else: the model is one layer, and the task's functions are called with it."""

    def losses(
        self,
        weights: Weights,
        batch: Any,
        lanes: Sequence[Lane],
        autocast: torch.dtype | None,
        smoothing: Tensor | None,
    ) -> Tensor:
        if not self.task.has_own_loss:
            return super().losses(weights, batch, lanes, autocast, smoothing)
        with _autocast(weights, autocast):
            return self._own_losses(weights, batch, lanes, training=True, shared=False)

    def _own_losses(
        self, weights: Weights, batch: Any, lanes: Sequence[Lane], *, training: bool, shared: bool
    ) -> Tensor:
        config = lanes[0].config  # what the loss reads of it is the same in all lanes, but for what moves
        moving: dict[str, Tensor] = {}
        if len(lanes) > 1:
            moving = moving_values([lane.config for lane in lanes], lanes[0].own.moving, weights)

        def loss(model: nn.Module, own: Any, moved: Mapping[str, Tensor]) -> Tensor:
            return self.criterion.loss(model, own, {**config, **moved}, alone=len(lanes) == 1)

        found: Tensor = self._layer(lanes).each(
            loss, weights, (batch, moving), _views(lanes), training, shared=(shared, False)
        )
        return found

    def _compared(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = self._layer(lanes).each(
            self.criterion.compared, weights, (batch,), _views(lanes), training=True
        )
        return found

    def measured_losses(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> Tensor | None:
        if not self.task.has_own_loss:
            return None
        return self._own_losses(weights, batch, lanes, training=False, shared=True)

    def measured(self, weights: Weights, batch: Any, lanes: Sequence[Lane]) -> tuple[Any, Any]:
        if not self.criterion.compares:
            return None, None
        targets = self.task.targets(batch)

        def predicted(model: nn.Module, own: Any) -> Any:
            outputs = outputs_of(self.task, model, own)
            if self.task.kind != "other":
                check_outputs(outputs, targets, self.criterion.highest)
            return outputs

        outputs = self._layer(lanes).each(predicted, weights, (batch,), _views(lanes), training=False, shared=(True,))
        return outputs, targets

    def _layer(self, lanes: Sequence[Lane]) -> Mapped:
        structure = lanes[0].described.structure if len(lanes) == 1 else self.structure
        (layer,) = structure.layers
        assert isinstance(layer, Mapped)
        return layer


def moving_values(configs: Sequence[Mapping[str, Any]], names: Sequence[str], weights: Weights) -> dict[str, Tensor]:
    """The values of these names that are not the same in all configs, [L] each."""
    like = next(iter(weights.values()))
    real, found = torch.get_default_dtype(), {}
    for name in names:
        values = [float(config[name]) for config in configs]
        if len(set(values)) > 1:
            found[name] = torch.tensor(values, dtype=real, device=like.device)
    return found


def _views(lanes: Sequence[Lane]) -> list[LaneView]:
    return [lane.view for lane in lanes]


def _autocast(weights: Weights, dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(next(iter(weights.values())).device.type, dtype)
