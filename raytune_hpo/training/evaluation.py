"""The metrics of a model on one split. Used for validation and, once, for the test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from raytune_hpo.training.batches import source
from raytune_hpo.training.criterion import criterion_of
from raytune_hpo.training.task import Task


def evaluate(
    model: nn.Module,
    split: Any,
    task: Task,
    batch: int | None = None,
    *,
    config: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """The loss and the task's metrics of a model on one split, by name.

    The loss is without label smoothing and class weights, so that configs compare; of a task with a loss of its own it
    is that, with `config` (defaults where it is left out). statistics: the `Splits.statistics` that the task's
    `preprocess` takes. The model runs on the device it is on, in float32, and is left in the mode it was in.

    Raises TrialError for outputs that do not fit the targets.
    """
    device = device_of(model)
    samples = source(task, split, statistics or {}, device)
    resolved = task.resolved(config or {})
    try:
        return criterion_of(task, split, split, device).evaluate(model, samples, resolved, batch)
    finally:
        samples.close()


def device_of(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
