"""The loss that training minimizes, of one model's batch and of those of many lanes. L: lanes, N: a mini-batch.

Targets of -100 are not scored, as torch's `ignore_index`: the mean is over the others.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from raytune_hpo.training.data import Kind
from raytune_hpo.training.metrics.scored import NOT_SCORED

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


def lane_losses(
    outputs: Tensor,
    y: Tensor,
    kind: Kind,
    smoothing: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    unscored: bool = False,
) -> Tensor:
    """The mean loss of each lane's batch, [L], as `loss_of` gives it; NaN of a lane without a scored target.

    outputs: [L, N, C], [L, N, C, ...] or [L, N, ...]; y: [L, N] or [L, N, ...] classes, or as outputs. smoothing: [L],
    None is 0 for all. weights: as of `loss_of`. unscored: whether y may hold -100 (`has_unscored`): without it the loss
    is the same to the bit, and faster by the passes that look for them.
    """
    if kind == "regression":
        return functional.mse_loss(outputs, y, reduction="none").flatten(1).mean(1)
    if kind == "multilabel":
        positive = None if weights is None else weights.to(outputs.dtype)
        each = functional.binary_cross_entropy_with_logits(outputs, y, pos_weight=positive, reduction="none")
        return each.flatten(1).mean(1)
    if weights is not None:
        return _weighted(outputs, y, weights, smoothing)
    return _of_classes(outputs, y, smoothing, unscored=unscored)


def _of_classes(outputs: Tensor, y: Tensor, smoothing: Tensor | None, *, unscored: bool) -> Tensor:
    if y.ndim > 2:
        outputs, y = outputs.movedim(2, -1).flatten(1, -2), y.flatten(1)
    _, N, C = outputs.shape
    # The classes first: a softmax over a short last axis does not fill the processor's vectors. Whole vectors for each
    # lane: the rest of one is computed by other instructions, and would round by where in the stack a lane is.
    logits = functional.pad(outputs.permute(2, 0, 1), (0, -N % VECTOR))
    log_p = functional.log_softmax(logits.contiguous(), dim=0)[..., :N]
    if not unscored:
        loss = log_p.gather(0, y[None])[0].mean(1).neg()
        if smoothing is None:
            return loss
        uniform = log_p.sum(0).mean(1).neg()
        return (1 - smoothing) * loss + smoothing / C * uniform
    scored = y != NOT_SCORED
    # 1 where all are scored, so that a lane's loss does not depend on what is in other lanes' batches.
    share = N / scored.sum(1, dtype=log_p.dtype)
    loss = torch.where(scored, log_p.gather(0, y.clamp(min=0)[None])[0], 0.0).mean(1).neg() * share
    if smoothing is None:
        return loss
    uniform = torch.where(scored, log_p.sum(0), 0.0).mean(1).neg() * share
    return (1 - smoothing) * loss + smoothing / C * uniform


def _weighted(outputs: Tensor, y: Tensor, weights: Tensor, smoothing: Tensor | None) -> Tensor:
    """Cross entropy with weights of classes, as torch has it: both means are over the weights of the targets.

    outputs: [L, N, C, ...]; y: [L, N, ...]; weights: at most [C].
    """
    C = outputs.shape[2]
    w = functional.pad(weights.to(outputs.dtype), (0, C - len(weights)), value=1.0)
    log_p = functional.log_softmax(outputs, dim=2)
    scored = y != NOT_SCORED
    own = torch.where(scored, w[y.clamp(min=0)], 0.0)
    total = own.flatten(1).sum(1)
    picked = log_p.gather(2, y.clamp(min=0).unsqueeze(2)).squeeze(2)
    loss = -(own * picked).flatten(1).sum(1) / total
    if smoothing is None:
        return loss
    spread = (log_p * w.view(1, 1, C, *(1 for _ in y.shape[2:]))).sum(2)
    uniform = -torch.where(scored, spread, 0.0).flatten(1).sum(1) / total
    return (1 - smoothing) * loss + smoothing / C * uniform


def has_unscored(*targets: Tensor) -> bool:
    """Whether any of these hold -100 for a class. Waits for the device: to be asked once of a split."""
    return any(bool((y == NOT_SCORED).any()) for y in targets if not y.is_floating_point())
