"""Learning-rate schedules: a linear warm-up per step, then a decay per epoch.

    lr(epoch, step) = lr * warmup(epoch, step) * decay(epoch) * plateau_factor

With e = epochs since the end of the warm-up (whole epochs, counted from 0):

    constant     1
    step         lr_decay ** (e // lr_step_epochs)
    exponential  lr_decay ** (e / lr_step_epochs)
    cosine       (1 + cos(pi * e / (max_epochs - warmup_epochs))) / 2     Loshchilov & Hutter 2017
    plateau      1, and plateau_factor *= lr_decay when more than `lr_patience` epochs in a row had
                 a validation loss no better than the best before them

Only plateau has state; everything else is a function of epoch and step, so a resumed trial, or one
whose learning rate a scheduler has changed, needs nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve


def warmup_factor(step: int, warmup_steps: float) -> float:
    """Linear from 1/warmup_steps at step 0 (counted from the start of training) to 1."""
    if warmup_steps <= 0:
        return 1.0
    return min(1.0, (step + 1) / warmup_steps)


def decay_factor(schedule: str, epoch: float, *, total_epochs: float, lr_decay: float, lr_step_epochs: int) -> float:
    """The decay after `epoch` epochs since the warm-up, out of `total_epochs`."""
    if schedule == "step":
        return float(lr_decay ** (epoch // lr_step_epochs))
    if schedule == "exponential":
        return float(lr_decay ** (epoch / lr_step_epochs))
    if schedule == "cosine":
        done = min(1.0, epoch / total_epochs) if total_epochs > 0 else 1.0
        return (1.0 + math.cos(math.pi * done)) / 2.0
    return 1.0


class LRSchedule:
    """The learning rate of a trial at any (epoch, step within the epoch), both counted from 0."""

    def __init__(self, config: Mapping[str, Any], *, max_epochs: int, steps_per_epoch: int) -> None:
        c = resolve(config, TRAINER_HYPERPARAMETERS)
        self.lr: float = c["lr"]
        self.schedule: str = c["lr_schedule"]
        self.lr_decay: float = c["lr_decay"]
        self.lr_step_epochs: int = c["lr_step_epochs"]
        self.lr_patience: int = c["lr_patience"]
        self.warmup_epochs: float = c["warmup_epochs"]
        self.max_epochs = max_epochs
        self.steps_per_epoch = steps_per_epoch
        self._best = math.inf
        self._bad_epochs = 0
        self._plateau_factor = 1.0

    def lr_at(self, epoch: int, step: int = 0) -> float:
        """The learning rate of that step."""
        warmup = warmup_factor(epoch * self.steps_per_epoch + step, self.warmup_epochs * self.steps_per_epoch)
        decay = decay_factor(
            self.schedule,
            max(0.0, math.floor(epoch - self.warmup_epochs)),
            total_epochs=self.max_epochs - self.warmup_epochs,
            lr_decay=self.lr_decay,
            lr_step_epochs=self.lr_step_epochs,
        )
        return self.lr * warmup * decay * self._plateau_factor

    def lrs_of_epoch(self, epoch: int) -> list[float]:
        """The learning rate of each step of an epoch."""
        if epoch >= self.warmup_epochs:
            return [self.lr_at(epoch)] * self.steps_per_epoch
        return [self.lr_at(epoch, step) for step in range(self.steps_per_epoch)]

    def end_epoch(self, validation_loss: float) -> None:
        """Tell the schedule an epoch's validation loss; only plateau listens. NaN is no better."""
        if self.schedule != "plateau":
            return
        if validation_loss < self._best:
            self._best = validation_loss
            self._bad_epochs = 0
            return
        self._bad_epochs += 1
        if self._bad_epochs > self.lr_patience:
            self._plateau_factor *= self.lr_decay
            self._bad_epochs = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers; the learning rate itself is the config's and is not in it."""
        return {
            "best": self._best,
            "bad_epochs": self._bad_epochs,
            "plateau_factor": self._plateau_factor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best = float(state["best"])
        self._bad_epochs = int(state["bad_epochs"])
        self._plateau_factor = float(state["plateau_factor"])
