"""Loss and accuracy or RMSE of a model on one split. Used for validation and, once, for the test."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raytune_hpo.training.task import Array, Split

Kind = Literal["classification", "regression"]

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


def loss_of(outputs: torch.Tensor, y: torch.Tensor, kind: Kind, label_smoothing: float = 0.0) -> torch.Tensor:
    """The mean loss of a batch: cross entropy in nats, or the mean squared error. Shape: []."""
    if kind == "classification":
        return functional.cross_entropy(outputs, y, label_smoothing=label_smoothing)
    return functional.mse_loss(outputs, y)


def score_name(kind: Kind) -> str:
    """The second metric's name: accuracy or rmse."""
    return "accuracy" if kind == "classification" else "rmse"


def evaluate(model: nn.Module, split: Split, kind: Kind, batch: int = EVALUATION_BATCH) -> dict[str, float]:
    """`loss` and `accuracy` (a share in [0, 1]) or `rmse` (in the units of `split.y`).

    The loss is without label smoothing, so that configs compare. The model runs on the device it
    is on, in float32, and is left in the mode it was in.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x, y = tensors_of(split, kind, device)
    return evaluate_tensors(model, x, y, kind, batch)


def evaluate_tensors(
    model: nn.Module, x: torch.Tensor, y: torch.Tensor, kind: Kind, batch: int = EVALUATION_BATCH
) -> dict[str, float]:
    """`evaluate` for data that is on the model's device already. x: [n, ...]; y: as `tensors_of`."""
    was_training = model.training
    model.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=x.device)
    correct = torch.zeros((), dtype=torch.int64, device=x.device)
    try:
        with torch.no_grad():
            for start in range(0, len(x), batch):
                # A copy, since a model that works in place must not write to a shared array.
                outputs = model(x[start : start + batch].clone())
                target = y[start : start + batch]
                loss_sum += loss_of(outputs, target, kind).double() * len(target)
                if kind == "classification":
                    correct += (outputs.argmax(1) == target).sum()
    finally:
        model.train(was_training)
    loss = loss_sum.item() / len(x) if len(x) else math.nan
    if kind == "regression":
        return {"loss": loss, "rmse": math.sqrt(loss) if math.isfinite(loss) else math.nan}
    return {"loss": loss, "accuracy": correct.item() / len(x) if len(x) else math.nan}
