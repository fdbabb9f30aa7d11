"""The metrics of a model on one split. Used for validation and, once, for the test."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from raytune_hpo.training.data import Array, Kind, Split
from raytune_hpo.training.metrics import Metric
from raytune_hpo.training.outputs import check_outputs, highest_class
from raytune_hpo.training.scores import Scores
from raytune_hpo.training.task import Task

EVALUATION_BATCH = 4096
"""Samples per forward pass of an evaluation: large enough that the pass is not all overhead."""


def tensors_of(split: Split, kind: Kind, device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """x: [n, ...] float32; y: [n] int64 classes or [n, d] float32 targets, on `device`.

    In place of float32, torch's default type where that is another one.

    On a CPU the tensors share the arrays' memory where the types agree: many trials on one node
    then read one copy. Such an array may be read-only, so these tensors must never be written to.
    """
    real = np.float64 if torch.get_default_dtype() is torch.float64 else np.float32
    x = _tensor(split.x, real)
    y = _tensor(split.y, np.int64 if kind == "classification" else real)
    if kind == "regression" and y.ndim == 1:
        y = y[:, None]  # [n] against an output of [n, 1] would broadcast to [n, n]
    return x.to(device), y.to(device)


def _tensor(array: Array, dtype: type[np.generic]) -> torch.Tensor:
    with warnings.catch_warnings():
        # torch warns that writing to a read-only array is undefined; nothing here writes.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))


def evaluate(model: nn.Module, split: Split, task: Task, batch: int = EVALUATION_BATCH) -> dict[str, float]:
    """The loss and the task's metrics of a model on one split, by name.

    The loss is without label smoothing, so that configs compare. The model runs on the device it
    is on, in float32, and is left in the mode it was in.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, y = tensors_of(split, task.kind, device)
    return evaluate_tensors(model, x, y, task.measured(), batch)


def evaluate_tensors(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, metrics: Sequence[Metric], batch: int = EVALUATION_BATCH
) -> dict[str, float]:
    """`evaluate` for data that is on the model's device already. x: [n, ...]; y: as `tensors_of`.

    Raises TrialError for outputs that do not fit the targets.
    """
    was_training = model.training
    model.eval()
    scores, highest = Scores(metrics), highest_class(y)
    try:
        with torch.no_grad():
            for start in range(0, len(x), batch):
                # A copy, since a model that works in place must not write to a shared array.
                outputs, targets = model(x[start : start + batch].clone()), y[start : start + batch]
                check_outputs(outputs, targets, highest)
                scores.add(outputs, targets)
    finally:
        model.train(was_training)
    return scores.results()[0]
