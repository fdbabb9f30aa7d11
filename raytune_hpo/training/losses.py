"""The loss that training minimizes, of one model's batch and of those of many lanes. L: lanes, N: a mini-batch."""

from __future__ import annotations

import torch
from torch.nn import functional

from raytune_hpo.training.data import Kind

Tensor = torch.Tensor

VECTOR = 16  # numbers that one instruction takes, at most


def loss_of(
    outputs: Tensor, y: Tensor, kind: Kind, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """The mean loss of a batch: cross entropy in nats, or the mean squared error. Shape: [].

    weights: of classes, at most [C], those beyond weigh 1; or of each label's yes, [K].
    """
    if kind == "classification":
        if weights is not None:
            weights = functional.pad(weights.to(outputs.dtype), (0, outputs.shape[1] - len(weights)), value=1.0)
        return functional.cross_entropy(outputs, y, weights, label_smoothing=label_smoothing)
    if kind == "multilabel":
        positive = None if weights is None else weights.to(outputs.dtype)
        return functional.binary_cross_entropy_with_logits(outputs, y, pos_weight=positive)
    return functional.mse_loss(outputs, y)


def lane_losses(outputs: Tensor, y: Tensor, kind: Kind, smoothing: Tensor | None = None) -> Tensor:
    """The mean loss of each lane's batch, [L], as `loss_of` gives it.

    outputs: [L, N, C] or [L, N, d]; y: [L, N] classes or [L, N, d] targets. smoothing: [L], None is 0 for all.
    """
    if kind == "regression":
        return functional.mse_loss(outputs, y, reduction="none").flatten(1).mean(1)
    _, N, C = outputs.shape
    # The classes first: a softmax over a short last axis does not fill the processor's vectors. Whole vectors for each
    # lane: the rest of one is computed by other instructions, and would round by where in the stack a lane is.
    logits = functional.pad(outputs.permute(2, 0, 1), (0, -N % VECTOR))
    log_p = functional.log_softmax(logits.contiguous(), dim=0)[..., :N]
    loss = log_p.gather(0, y[None])[0].mean(1).neg()
    if smoothing is None:
        return loss
    uniform = log_p.sum(0).mean(1).neg()
    return (1 - smoothing) * loss + smoothing / C * uniform
