"""The trainer: one trial's model, optimizer and random state, an epoch at a time.

N is the mini-batch. Six epochs in one go, and three epochs, a saved state and three more in another
process, give the same numbers bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.early_stopping import EarlyStopping, PlateauTracker
from raytune_hpo.training.evaluation import evaluate, evaluate_tensors, tensors_of
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, check_keys, resolve
from raytune_hpo.training.losses import loss_of
from raytune_hpo.training.lr_schedules import LRSchedule
from raytune_hpo.training.optimizers import build_optimizer, restore_optimizer
from raytune_hpo.training.outputs import check_outputs, highest_class
from raytune_hpo.training.random_states import (
    get_random_states,
    preserved_random_states,
    seed_everything,
    set_random_states,
)
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.task import Task

__all__ = ["SupervisedTrainer", "Trainer", "evaluate", "fit"]

# How often the running loss is looked at: on a GPU each look waits for the device.
FINITE_CHECK_STEPS = 32


class TooFewSamplesError(TrialError):
    """An epoch would have no step."""


class Trainer(ABC):
    """One trial, whoever drives it: a Ray actor, a fused lane, a test, a script without Ray."""

    @abstractmethod
    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        """Start over with `config`. All randomness comes from `seed`, an int in [0, 2**31)."""

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train one epoch and validate. Returns plain floats."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """A snapshot: later epochs do not change it. Only what `load_state` can read back."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a snapshot, after `setup`; the hyperparameters stay those of `setup`'s config.

        Raises TrialError where the snapshot does not fit the config's model.
        """

    @property
    @abstractmethod
    def epoch(self) -> int:
        """Epochs trained so far."""

    @property
    def should_stop(self) -> bool:
        """Whether the trainer's own early stopping has ended the trial."""
        return False


class SupervisedTrainer(Trainer):
    """Trains a task's model on a task's data. The data stay on the device whole.

    Metrics of an epoch: `train_loss` (the mean over the epoch, with label smoothing),
    `validation_loss`, the task's metrics (`validation_accuracy`, ...), and `lr` (of the epoch's last
    step). A training loss that is not finite ends the epoch, and its losses and metrics are then NaN:
    a diverged trial is a result, not a failure.

    `device` None is the GPU where there is one. `max_epochs` is the length of a cosine schedule.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRSchedule

    def __init__(
        self,
        task: Task,
        data: TrialData,
        *,
        max_epochs: int,
        device: str | None = None,
        early_stopping: EarlyStopping | None = None,
    ) -> None:
        self.task = task
        self._measured = task.measured()
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._x, self._y = tensors_of(data.train, task.kind, self.device)
        self._validation = tensors_of(data.validation, task.kind, self.device)
        self._highest = highest_class(self._y, self._validation[1])

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        """See `Trainer`. Raises ExperimentError for a bad config, TrialError for an impossible one."""
        known = {**TRAINER_HYPERPARAMETERS, **self.task.model_hyperparameters()}
        check_keys(config, known)
        self.config = resolve(config, known)
        self._epoch = 0
        # On the CPU whatever the device is, so that a trial sees the same batches everywhere.
        self._order = torch.Generator().manual_seed(derive_seed(seed, "data order"))
        self._tracker = PlateauTracker(self.early_stopping) if self.early_stopping else None
        with preserved_random_states():
            seed_everything(seed)
            self.model = self.task.build_model(self.config).to(self.device)
            self._random = get_random_states()
        self.optimizer = build_optimizer(self.model.parameters(), self.config)
        self._set_up_precision()
        self._set_up_steps()
        self.schedule = LRSchedule(self.config, max_epochs=self.max_epochs, steps_per_epoch=self._steps_per_epoch)

    def _set_up_precision(self) -> None:
        precision = self.config["precision"] if self.device.type == "cuda" else "float32"
        self._autocast_dtype = None if precision == "float32" else getattr(torch, precision)
        # Only float16 can underflow; a disabled scaler passes everything through.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    def _set_up_steps(self) -> None:
        used, steps = steps_of_epoch(self.model, len(self._x), self.config["batch_size"])
        self._samples_per_epoch, self._steps_per_epoch = used, steps

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def should_stop(self) -> bool:
        return self._tracker is not None and self._tracker.should_stop

    def train_epoch(self) -> dict[str, float]:
        with preserved_random_states():
            set_random_states(self._random)
            metrics = self._train_and_validate()
            self._random = get_random_states()
        self._epoch += 1
        self.schedule.end_epoch(metrics["validation_loss"])
        if self._tracker is not None:
            self._tracker.update(self._watched(metrics))
        return metrics

    def _watched(self, metrics: Mapping[str, float]) -> float:
        assert self._tracker is not None
        name = self._tracker.objective.metric
        if name not in metrics:
            raise TrialError(f"early stopping watches {name!r}; the trainer reports {', '.join(metrics)}")
        return metrics[name]

    def _train_and_validate(self) -> dict[str, float]:
        self.model.train()
        N = self.config["batch_size"]
        order = torch.randperm(len(self._x), generator=self._order).to(self.device)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        for step in range(self._steps_per_epoch):
            batch = order[step * N : (step + 1) * N]
            self._set_lr(self.schedule.lr_at(self._epoch, step))
            loss_sum += self._train_step(self._x[batch], self._y[batch]).double() * len(batch)
            if step % FINITE_CHECK_STEPS == FINITE_CHECK_STEPS - 1 and not torch.isfinite(loss_sum):
                break
        train_loss = loss_sum.item() / self._samples_per_epoch
        lr = float(self.optimizer.param_groups[0]["lr"])
        if math.isfinite(train_loss):
            validation = evaluate_tensors(self.model, *self._validation, self._measured)
        else:
            train_loss, validation = math.nan, {metric.name: math.nan for metric in self._measured}
        reported = {f"validation_{name}": value for name, value in validation.items()}
        return {"train_loss": train_loss, **reported, "lr": lr}

    def _train_step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One optimizer step on x: [N, ...], y: [N] or [N, d]. Returns the mean loss, shape []."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            outputs = self.model(self.task.augment(x))
            check_outputs(outputs, y, self._highest)
            loss = loss_of(outputs, y, self.task.kind, self.config["label_smoothing"])
        # torch's own methods below lack annotations.
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.config["clip_norm"] > 0:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_norm"])
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return loss.detach()

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast_dtype)

    def _set_lr(self, lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        live = {
            "epoch": self._epoch,
            "model": self.model.state_dict(),
            "optimizer_name": self.config["optimizer"],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "early_stopping": None if self._tracker is None else self._tracker.state_dict(),
            "order": self._order.get_state(),
            "random": self._random,
        }
        copied: dict[str, Any] = _on_cpu(live)
        return copied

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            # Another optimizer's moments mean nothing here; this one then starts with fresh ones.
            if state["optimizer_name"] == self.config["optimizer"]:
                restore_optimizer(RULES[self.config["optimizer"]], self.optimizer, state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if state["scaler"] and self._scaler.is_enabled():
                self._scaler.load_state_dict(state["scaler"])
            if state["early_stopping"] is not None and self._tracker is not None:
                self._tracker.load_state_dict(state["early_stopping"])
            self._order.set_state(state["order"].cpu())
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrialError(f"the saved state does not fit this trial's config: {error}") from error
        self._random = state["random"]
        self._epoch = int(state["epoch"])


def steps_of_epoch(model: nn.Module, samples: int, batch_size: int) -> tuple[int, int]:
    """(samples that an epoch uses, its optimizer steps).

    Batch norm has no variance for one sample, so that such a last batch is left out. Raises TooFewSamplesError where
    that leaves nothing.
    """
    if samples == 0:
        raise TooFewSamplesError("there are no training samples")
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    leave_out = batch_norm and (samples % batch_size == 1 or batch_size == 1)
    if leave_out and 1 in (batch_size, samples):
        raise TooFewSamplesError(
            f"{samples} training samples in batches of {batch_size}: batch norm needs 2 in a batch"
        )
    used = samples - 1 if leave_out else samples
    return used, math.ceil(used / batch_size)


def _on_cpu(value: Any) -> Any:
    """A deep copy with every tensor on the CPU, of the plain containers that `load_state` reads."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value


def fit(trainer: Trainer, max_epochs: int, early_stopping: EarlyStopping | None = None) -> Iterator[dict[str, float]]:
    """Train up to `max_epochs` in all, without Ray, and yield each epoch's metrics.

    Call `trainer.setup` first. Stops early where the trainer or `early_stopping` says so; the
    latter counts from this call, and a patience that must outlive a checkpoint is the trainer's own.
    """
    tracker = PlateauTracker(early_stopping) if early_stopping else None
    while trainer.epoch < max_epochs and not trainer.should_stop:
        metrics = trainer.train_epoch()
        yield metrics
        if tracker is not None and tracker.update(metrics[tracker.objective.metric]):
            return
