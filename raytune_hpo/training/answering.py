"""What an exported model answers: `Task.preprocess`, then `Task.predict`, as one module of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raytune_hpo.journal.inputs import Inputs
from raytune_hpo.training.batches import preprocessed, statistics_of
from raytune_hpo.training.criterion import outputs_of
from raytune_hpo.training.inputs import batch_of
from raytune_hpo.training.task import Task


class Answering(nn.Module):
    """(the inputs that are needed, [N, ...] each, in their order) -> the outputs of `Task.predict`, [N, ...].

    model: in eval mode, on the CPU. statistics: as `Splits.statistics`; they move with the module.
    """

    def __init__(self, task: Task, model: nn.Module, inputs: Inputs, statistics: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs
        self.task = task
        self._statistics = {name: f"statistic_{i}" for i, name in enumerate(statistics)}
        for name, tensor in statistics_of(statistics, "cpu").items():
            self.register_buffer(self._statistics[name], tensor)

    @property
    def statistics(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, buffer) for name, buffer in self._statistics.items()}

    def forward(self, *given: torch.Tensor) -> Any:
        batch = batch_of(self.inputs, dict(zip(self.inputs.needed(), given, strict=True)))
        return outputs_of(self.task, self.model, preprocessed(self.task, batch, self.statistics))

    def example(self, samples: int = 2, value: int = 1) -> tuple[torch.Tensor, ...]:
        """Inputs of one value. An axis of any size has 3 entries."""
        shapes = {name: [3 if n is None else n for n in leaf.shape] for name, leaf in self.inputs.needed().items()}
        dtypes = {name: getattr(torch, leaf.dtype) for name, leaf in self.inputs.needed().items()}
        return tuple(torch.full((samples, *shapes[name]), value, dtype=dtypes[name]) for name in shapes)
