"""torch.optim's update rules with every hyperparameter a number a lane. L: lanes, P: a lane's weights.

The weights of a lane are one row of [L, P], and an optimizer's state is at most two more rows:

    optimizer      first                second
    sgd            momentum_buffer
    adagrad        sum
    adadelta       square_avg           acc_delta
    rmsprop        square_avg           momentum_buffer
    adam, adamw    exp_avg              exp_avg_sq

Formulas: torch.optim's single-tensor ones, against which tests/training/lanes/test_lane_optimizers.py checks them.
A weight that is padding is 0 with a gradient of 0, and stays 0 under each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Tensor = torch.Tensor

#: Optimizer -> torch's names of what the two rows hold.
STATE_NAMES: dict[str, tuple[str, ...]] = {
    "sgd": ("momentum_buffer",),
    "adagrad": ("sum",),
    "adadelta": ("square_avg", "acc_delta"),
    "rmsprop": ("square_avg", "momentum_buffer"),
    "adam": ("exp_avg", "exp_avg_sq"),
    "adamw": ("exp_avg", "exp_avg_sq"),
}

#: Rows that an update takes at a time on a CPU: what it touches then stays in the cache.
CPU_ROWS = 16


@dataclass(frozen=True)
class Rows:
    """What an update changes, [L, P] each, in place; `gradient` is used up."""

    weights: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor

    def part(self, start: int, end: int) -> Rows:
        return Rows(*(t[start:end] for t in (self.weights, self.gradient, self.first, self.second)))


class Updates:
    """The updates of one epoch for neighbouring lanes of one optimizer.

    configs: resolved ones. lrs: [steps, L], a learning rate for every step. done: [L], optimizer steps taken before.
    """

    def __init__(
        self,
        optimizer: str,
        configs: Sequence[Mapping[str, Any]],
        lrs: np.ndarray[Any, Any],
        done: Sequence[int],
        like: Tensor,
    ) -> None:
        self.optimizer = optimizer
        self._like = like

        def row(name: str) -> np.ndarray[Any, Any]:
            return np.array([float(c[name]) for c in configs])

        self.momentum, self.nesterov = self._column(row("momentum")), self._column(row("nesterov"))
        self.any_nesterov = bool((row("nesterov") * row("momentum") > 0).any())
        self.any_momentum = bool((row("momentum") > 0).any())
        self.decay = self._column(row("weight_decay")) if (row("weight_decay") > 0).any() else None
        beta1, beta2 = row("beta1"), row("beta2")
        self.beta2, self.eps = self._column(beta2), self._column(row("eps"))
        self.rest1, self.rest2 = self._column(1 - beta1), self._column(1 - beta2)
        self.lr = self._column(lrs)
        if optimizer in ("adam", "adamw"):
            count = np.arange(1, len(lrs) + 1)[:, None] + np.array(done)[None, :]
            self.step_size = self._column(lrs / (1 - beta1**count))
            self.correction = self._column(np.sqrt(1 - beta2**count))
        if optimizer == "adamw" and self.decay is not None:
            self.shrink = self._column(1 - lrs * row("weight_decay"))

    def _column(self, values: np.ndarray[Any, Any]) -> Tensor:
        """[..., L, 1], in the weights' own precision and place."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._like)[..., None]

    def apply(self, step: int, rows: Rows) -> None:
        """The update of the epoch's step `step` (from 0)."""
        count = len(rows.weights)
        size = CPU_ROWS if self._like.device.type == "cpu" else count
        update = getattr(self, f"_{self.optimizer}")
        for start in range(0, count, size):
            end = min(start + size, count)
            update(step, rows.part(start, end), slice(start, end))

    def _add_decay(self, r: Rows, at: slice) -> None:
        if self.decay is not None:
            r.gradient.addcmul_(r.weights, self.decay[at])

    def _sgd(self, step: int, r: Rows, at: slice) -> None:
        self._add_decay(r, at)
        change = r.gradient
        if self.any_momentum:
            r.first.mul_(self.momentum[at]).add_(r.gradient)
            change = r.first
            if self.any_nesterov:
                ahead = r.gradient + self.momentum[at] * r.first
                change = torch.where(self.nesterov[at] > 0, ahead, r.first)
        r.weights.addcmul_(change, -self.lr[step, at])

    def _adagrad(self, step: int, r: Rows, at: slice) -> None:
        self._add_decay(r, at)
        r.first.addcmul_(r.gradient, r.gradient)
        scale = r.first.sqrt().add_(self.eps[at])
        r.weights.addcdiv_(r.gradient.mul_(-self.lr[step, at]), scale)

    def _adadelta(self, step: int, r: Rows, at: slice) -> None:
        self._add_decay(r, at)
        eps = self.eps[at]
        r.first.mul_(self.beta2[at]).addcmul_(r.gradient, r.gradient * self.rest2[at])
        delta = (r.second + eps).sqrt_().div_((r.first + eps).sqrt_()).mul_(r.gradient)
        r.second.mul_(self.beta2[at]).addcmul_(delta, delta * self.rest2[at])
        r.weights.addcmul_(delta, -self.lr[step, at])

    def _rmsprop(self, step: int, r: Rows, at: slice) -> None:
        self._add_decay(r, at)
        r.first.mul_(self.beta2[at]).addcmul_(r.gradient, r.gradient * self.rest2[at])
        change = r.gradient.div_(r.first.sqrt().add_(self.eps[at]))
        if self.any_momentum:
            change = r.second.mul_(self.momentum[at]).add_(change)
        r.weights.addcmul_(change, -self.lr[step, at])

    def _adam(self, step: int, r: Rows, at: slice) -> None:
        self._add_decay(r, at)
        self._adam_step(step, r, at)

    def _adamw(self, step: int, r: Rows, at: slice) -> None:
        if self.decay is not None:
            r.weights.mul_(self.shrink[step, at])
        self._adam_step(step, r, at)

    def _adam_step(self, step: int, r: Rows, at: slice) -> None:
        r.first.lerp_(r.gradient, self.rest1[at])
        r.second.mul_(self.beta2[at]).addcmul_(r.gradient, r.gradient * self.rest2[at])
        scale = r.second.sqrt().div_(self.correction[step, at]).add_(self.eps[at])
        r.weights.addcdiv_(r.first * -self.step_size[step, at], scale)


def clip(gradient: Tensor, largest: Tensor) -> None:
    """Scale each row of [L, P] down to the norm `largest`, [L, 1]; 0 leaves it. As torch's clip_grad_norm_."""
    norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    gradient.mul_(torch.where(largest > 0, factor, torch.ones_like(factor)))
