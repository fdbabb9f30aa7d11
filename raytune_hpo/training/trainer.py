"""The trainer: one trial's model, optimizer and random state, an epoch at a time.

N is the mini-batch. Six epochs in one go, and three epochs, a saved state and three more in another
process, give the same numbers bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.batches import augmented, source_of
from raytune_hpo.training.criterion import criterion_of
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.data_order import order_of
from raytune_hpo.training.drawing import counts, drawing, dropouts_of, masking, step_number, training_key
from raytune_hpo.training.early_stopping import EarlyStopping, PlateauTracker
from raytune_hpo.training.evaluation import evaluate
from raytune_hpo.training.lr_schedules import LRSchedule
from raytune_hpo.training.optimizers import optimizer_of, restore_optimizer
from raytune_hpo.training.parameter_groups import groups_of
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

    def close(self) -> None:  # noqa: B027  (optional)
        """The trial is over, or pauses: end the processes that it has started. It may go on afterwards."""


class SupervisedTrainer(Trainer):
    """Trains a task's model on a task's data.

    An epoch is a pass over the training data, or `Task.validate_every` steps of the optimizer. Its metrics:
    `train_loss` (the mean over the epoch's samples, as it is minimized), `validation_loss`, the task's
    metrics (`validation_accuracy`, ...), and `lr` (of the epoch's last step). A training loss that is not finite
    ends the epoch, and its losses and metrics are then NaN: a diverged trial is a result, not a failure.

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
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._train = source_of(task, data, "train", self.device)
        self._shared_seed = data.order_seed
        self._validation = source_of(task, data, "validation", self.device)
        self._criterion = criterion_of(task, data.train, data.validation, self.device)
        self._augments = type(task).augment is not Task.augment

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        """See `Trainer`. Raises ExperimentError for a bad config, TrialError for an impossible one."""
        self.config = self.task.checked_config(config)
        self._epoch, self._batch, self._seed = 0, 0, seed
        self._order_seed = seed if self._shared_seed is None else self._shared_seed
        self._tracker = PlateauTracker(self.early_stopping) if self.early_stopping else None
        with preserved_random_states():
            seed_everything(seed)
            self.model = self.task.build_model(self.config).to(self.device)
            self._random = get_random_states()
        self._counting = counts(self.task, self.model)
        self._dropouts = dropouts_of(self.task, self.model)
        self._key = training_key(seed)
        self._set_up_optimizer()
        self._set_up_precision()
        self._set_up_steps()
        self.schedule = LRSchedule(self.config, max_epochs=self.max_epochs, steps_per_epoch=self._steps_per_epoch)

    def _set_up_optimizer(self) -> None:
        self._groups = groups_of(self.task, self.model, self.config)
        self.optimizer = optimizer_of(self._groups, self.model, self.config)
        # Of the groups that have a learning rate of their own.
        self._own_lrs = [None if g.moves("lr", self.config) else g.config(self.config)["lr"] for g in self._groups]

    def _set_up_precision(self) -> None:
        precision = self.config["precision"] if self.device.type == "cuda" else "float32"
        self._autocast_dtype = None if precision == "float32" else getattr(torch, precision)
        # Only float16 can underflow; a disabled scaler passes everything through.
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    def _set_up_steps(self) -> None:
        N, n = self._train.batch_size(self.config), len(self._train)
        whole = self._train.in_batches
        self._order = order_of(self.task, self.model, N, n, self.config, self._order_seed, in_batches=whole)
        self._steps_per_epoch = self._order.steps

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def should_stop(self) -> bool:
        return self._tracker is not None and self._tracker.should_stop

    def close(self) -> None:
        self._train.close()
        self._validation.close()

    def train_epoch(self) -> dict[str, float]:
        with preserved_random_states():
            set_random_states(self._random)
            metrics = self._train_and_validate()
            self._random = get_random_states()
        self._epoch += 1
        self.schedule.end_epoch(metrics.get("validation_loss", math.nan))
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
        self._batch = 0  # of the epoch
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        samples = 0
        for step, (batches, sizes) in enumerate(self._stepwise()):
            self._set_lr(self.schedule.lr_at(self._epoch, step))
            loss_sum += self._train_step(batches, sizes).double() * sum(sizes)
            samples += sum(sizes)
            if step % FINITE_CHECK_STEPS == FINITE_CHECK_STEPS - 1 and not torch.isfinite(loss_sum):
                loss_sum.fill_(math.nan)
                break
        train_loss = loss_sum.item() / max(1, samples)
        if math.isfinite(train_loss):
            validation = self._evaluate()
        else:
            train_loss, validation = math.nan, {metric.name: math.nan for metric in self._criterion.measured}
        reported = {f"validation_{name}": value for name, value in validation.items()}
        return {"train_loss": train_loss, **reported, "lr": float(self._lr)}

    def _evaluate(self) -> dict[str, float]:
        return self._criterion.evaluate(self.model, self._validation, self.config, counting=self._counting)

    def _stepwise(self) -> Iterator[tuple[list[Any], list[int]]]:
        """The batches of each step of an epoch, and their samples."""
        steps = list(self._order.epoch())
        seed = derive_seed(self._order_seed, "epoch", self._epoch)
        found = self._train.epoch([index for step in steps for index in step], seed)
        for step in steps:
            pairs = [next(found) for _ in step]
            yield [batch for batch, _ in pairs], [size for _, size in pairs]

    def _train_step(self, batches: Sequence[Any], sizes: Sequence[int]) -> torch.Tensor:
        """One optimizer step on the mean over `batches`, of these many samples. Returns the mean loss, shape []."""
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for batch, size in zip(batches, sizes, strict=True):
            seen = augmented(self.task, batch) if self._augments else batch
            losses.append(self._add_gradients(seen, size / sum(sizes)))
        if self.config["clip_norm"] > 0:
            self._scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_norm"])
        self._scaler.step(self.optimizer)
        self._scaler.update()
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _add_gradients(self, batch: Any, weight: float) -> torch.Tensor:
        """Of a batch's mean loss, times its share of the step's samples. Returns that, shape []."""
        with self._autocast(), self._drawing():
            loss = self._criterion.loss(self.model, batch, self.config)
            if weight != 1:
                loss = loss * weight
        # torch's own methods lack annotations.
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _drawing(self) -> contextlib.AbstractContextManager[Any]:
        """What the model draws in the pass of the next batch."""
        self._batch += 1
        if self._dropouts:
            return masking(self._dropouts, self._key, step_number(self._epoch, self._batch - 1))
        return drawing(self._key, step_number(self._epoch, self._batch - 1), counting=self._counting)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self._autocast_dtype)

    def _set_lr(self, lr: float) -> None:
        self._lr = lr
        for group, own in zip(self.optimizer.param_groups, self._own_lrs, strict=True):
            group["lr"] = lr if own is None else own * (lr / self.schedule.lr)

    def state_dict(self) -> dict[str, Any]:
        live = {
            "epoch": self._epoch,
            "model": self.model.state_dict(),
            "optimizer_name": self.config["optimizer"],
            "optimizer": self._optimizer_state(),
            "schedule": self.schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "early_stopping": None if self._tracker is None else self._tracker.state_dict(),
            **self._order.state_dict(),
            "key": self._key,
            "random": self._random,
        }
        copied: dict[str, Any] = _on_cpu(live)
        return copied

    def _optimizer_state(self) -> Any:
        return self.optimizer.state_dict()

    def _load_optimizer(self, state: Mapping[str, Any]) -> None:
        restore_optimizer(RULES[self.config["optimizer"]], self.optimizer, state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            # Another optimizer's moments mean nothing here; this one then starts with fresh ones.
            if state["optimizer_name"] == self.config["optimizer"]:
                self._load_optimizer(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if state["scaler"] and self._scaler.is_enabled():
                self._scaler.load_state_dict(state["scaler"])
            if state["early_stopping"] is not None and self._tracker is not None:
                self._tracker.load_state_dict(state["early_stopping"])
            self._order.load_state_dict(state)
            self._key = int(state.get("key", self._key))
            if "key" not in state:  # of before chains drew from counters: as it began
                self._dropouts = []
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrialError(f"the saved state does not fit this trial's config: {error}") from error
        self._random = state["random"]
        self._epoch = int(state["epoch"])


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
