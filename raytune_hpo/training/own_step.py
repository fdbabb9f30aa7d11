"""The trainer of a task that takes its steps itself: `Task.train_step`, with one optimizer or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.batches import augmented
from raytune_hpo.training.trainer import SupervisedTrainer


class OwnStepTrainer(SupervisedTrainer):
    """A `SupervisedTrainer` whose steps are the task's. Reported besides: train_NAME of each loss that it names.

    The schedule multiplies the learning rates that the optimizers were made with. Gradient clipping, label smoothing,
    accumulation and mixed precision are the step's own affair.
    """

    def _set_up_optimizer(self) -> None:
        found = self.task.optimizers(self.model, self.config)
        self._own = found
        self._optimizers = dict(found) if isinstance(found, Mapping) else {"": found}
        for name, optimizer in self._optimizers.items():
            if not isinstance(optimizer, torch.optim.Optimizer):
                where = f"{type(self.task).__name__}.optimizers" + (f"[{name!r}]" if name else "")
                raise TrialError(f"{where} answers a {type(optimizer).__name__}: it must be an optimizer of torch's")
        if not self._optimizers:
            raise TrialError(
                f"{type(self.task).__name__}.optimizers answers none: it must answer one, or a dict of them"
            )
        self._lrs = {name: [g["lr"] for g in o.param_groups] for name, o in self._optimizers.items()}
        self.optimizer = next(iter(self._optimizers.values()))

    def _set_lr(self, lr: float) -> None:
        self._lr = lr
        for name, optimizer in self._optimizers.items():
            for group, own in zip(optimizer.param_groups, self._lrs[name], strict=True):
                group["lr"] = own * (lr / self.schedule.lr)

    def _train_and_validate(self) -> dict[str, float]:
        self._named: dict[str, torch.Tensor] = {}
        self._seen = 0
        metrics = super()._train_and_validate()
        more = {f"train_{n}": v.item() / max(1, self._seen) for n, v in self._named.items() if n != "loss"}
        return {"train_loss": metrics.pop("train_loss"), **more, **metrics}

    def _train_step(self, batches: Sequence[Any], sizes: Sequence[int]) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch, size in zip(batches, sizes, strict=True):
            seen = augmented(self.task, batch) if self._augments else batch
            with self._drawing():
                found = self.task.train_step(self.model, seen, self._own, self.config)
            losses = dict(found) if isinstance(found, Mapping) else {"loss": found}
            if not losses:
                raise TrialError(f"{type(self.task).__name__}.train_step answers no loss: it must name one")
            for name, loss in losses.items():
                value = self._number(name, loss)
                self._named[name] = self._named.get(name, 0.0) + value * size
            first = losses.get("loss", next(iter(losses.values())))
            total += self._number("loss", first) * size
            self._seen += size
        return total / sum(sizes)

    def _number(self, name: str, loss: Any) -> torch.Tensor:
        where = f"{type(self.task).__name__}.train_step"
        if not isinstance(loss, torch.Tensor | int | float):
            expected = "the loss, a tensor of shape [], or a dict of such"
            raise TrialError(f"{where} answers a {type(loss).__name__} for {name}: it must answer {expected}")
        value = torch.as_tensor(loss, dtype=torch.float64, device=self.device).detach()
        if value.shape != ():
            raise TrialError(f"{where} answers {name} of shape {list(value.shape)}: a loss must be one number")
        return value

    def _optimizer_state(self) -> Any:
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()}

    def _load_optimizer(self, state: Mapping[str, Any]) -> None:
        from raytune_hpo.training.optimizers import restore_optimizer

        for name, optimizer in self._optimizers.items():
            restore_optimizer(None, optimizer, state[name])
