"""Losses and scores of many lanes at once. L: lanes, N: a mini-batch, K: classes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from raytune_hpo.training.evaluation import Kind, score_name

Tensor = torch.Tensor

VECTOR = 16  # numbers that one instruction takes, at most


def lane_losses(outputs: Tensor, y: Tensor, kind: Kind, smoothing: Tensor | None = None) -> Tensor:
    """The mean loss of each lane's batch, [L], as `evaluation.loss_of` gives it.

    outputs: [L, N, K] or [L, N, d]; y: [L, N] classes or [L, N, d] targets. smoothing: [L], None is 0 for all.
    """
    if kind == "regression":
        return functional.mse_loss(outputs, y, reduction="none").flatten(1).mean(1)
    _, N, K = outputs.shape
    # The classes first: a softmax over a short last axis does not fill the processor's vectors. Whole vectors for each
    # lane: the rest of one is computed by other instructions, and would round by where in the stack a lane is.
    logits = functional.pad(outputs.permute(2, 0, 1), (0, -N % VECTOR))
    log_p = functional.log_softmax(logits.contiguous(), dim=0)[..., :N]
    loss = log_p.gather(0, y[None])[0].mean(1).neg()
    if smoothing is None:
        return loss
    uniform = log_p.sum(0).mean(1).neg()
    return (1 - smoothing) * loss + smoothing / K * uniform


class LaneScores:
    """Loss and accuracy or RMSE of each lane, gathered over batches of the validation split."""

    def __init__(self, lanes: int, kind: Kind, device: torch.device) -> None:
        self.kind = kind
        self._loss = torch.zeros(lanes, dtype=torch.float64, device=device)
        self._correct = torch.zeros(lanes, dtype=torch.int64, device=device)

    def begin(self, at: slice) -> None:
        """Forget what was gathered of the lanes `at`: a pass that ran out of memory is done again."""
        self._loss[at], self._correct[at] = 0, 0

    def add(self, at: slice, outputs: Tensor, y: Tensor) -> None:
        """outputs: [l, n, ...] of the lanes `at`; y: [n, ...], the same for all."""
        shared = y.expand(len(outputs), *y.shape)
        self._loss[at] += lane_losses(outputs, shared, self.kind).double() * len(y)
        if self.kind == "classification":
            self._correct[at] += (outputs.argmax(2) == shared).sum(1)

    def results(self, samples: int) -> list[dict[str, float]]:
        """As `evaluation.evaluate` gives them, one a lane."""
        name = score_name(self.kind)
        out = []
        for loss_sum, correct in zip(self._loss.tolist(), self._correct.tolist(), strict=True):
            loss = loss_sum / samples if samples else math.nan
            if self.kind == "regression":
                score = math.sqrt(loss) if math.isfinite(loss) else math.nan
            else:
                score = correct / samples if samples else math.nan
            out.append({"loss": loss, name: score})
        return out
