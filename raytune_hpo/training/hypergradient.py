"""Gradient-based tuning while a trial trains: hyperparameters follow the validation loss's own gradient.

Every `every` steps the trainer looks a few optimizer steps ahead from where it stands (training.unrolled),
differentiates the validation loss at their end by the hyperparameters in force, and moves each of these a
little, in its parameter's own scale. The steps looked at are not taken: the trial trains as
`SupervisedTrainer` does.

    hypergradient through unrolled steps   Maclaurin et al. 2015, arXiv:1502.03492
    updating while training                Franceschi et al. 2017, arXiv:1703.01785; Baydin et al. 2018,
                                           arXiv:1703.04782 (one step ahead, the training loss)
    Adam on the hyperparameters            Chandra et al. 2022, arXiv:1909.13371

Two things go wrong with short unrolls. They prefer a low learning rate, as its gain shows at once and its
cost later (Wu et al. 2018, arXiv:1803.02021); so the largest step falls to 0 over the epochs, and only the
sign's constancy counts, not the size. And where training is unstable the gradient means nothing (Metz et al. 2019,
arXiv:1810.10180); so lower learning rates are tried out before the first step, the learning rate does not
rise while a lookahead makes the loss worse, and goes down where it makes it much worse.

The hypergradient sees validation samples: as in any search, the best validation metric is optimistic.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space.parameters import Parameter
from raytune_hpo.training.batches import ArraySource, Source
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Slots
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer
from raytune_hpo.training.unit_steps import UnitAdam, moved_parameters, shifted, slope
from raytune_hpo.training.unrolled import optimizer_slots, validation_loss_after

MUCH_WORSE = 1.5
"""A lookahead that multiplies the validation loss by more than this has no gradient worth following."""
LOOKS = 4
"""So often an update looks ahead, each time from a learning rate one step lower, before it gives up."""
REHEARSAL_STRIDE = 0.1
REHEARSAL_PATIENCE = 2
REHEARSAL_MARGIN = 0.05
"""In unit coordinates: the rehearsed rates lie a stride apart; two that are no better than the best end the
rehearsals; training starts a margin below the best, which the longer run would find too high."""


@dataclass(frozen=True)
class _Lookahead:
    """Where an update looks from: batches [K], their learning-rate factors [K], a validation batch."""

    slots: Mapping[str, Slots]
    batches: list[Any]
    lr_factors: list[float]
    validation: Any


class HypergradientTrainer(SupervisedTrainer):
    """A `SupervisedTrainer` whose continuous hyperparameters move while it trains.

    hypergradient: what is moved, how often and how far. space_parameters: the parameters of the space, path
    -> Parameter, whose scales and bounds hold. Moved are those that the config sets and its optimizer uses.
    Each epoch's metrics hold the values in force at its end, by name, besides `lr` (of the last step, with
    the schedule). A snapshot holds the values in force: loaded into a trial of the same config it goes on
    exactly; a value that the config has differently (population-based training) starts from the config's.

    The lookahead computes in float32 whatever the precision, and needs a model with second derivatives.
    Raises ExperimentError where `hypergradient` names what cannot be moved.
    """

    def __init__(
        self,
        task: Task,
        data: TrialData,
        *,
        max_epochs: int,
        device: str | None = None,
        early_stopping: EarlyStopping | None = None,
        hypergradient: Hypergradient,
        space_parameters: Mapping[str, Parameter],
    ) -> None:
        super().__init__(task, data, max_epochs=max_epochs, device=device, early_stopping=early_stopping)
        self.hypergradient = hypergradient
        self.parameters = moved_parameters(hypergradient, space_parameters)

    def setup(self, config: Mapping[str, Any], seed: int) -> None:
        super().setup(config, seed)
        self._rule = RULES[self.config["optimizer"]]
        movable = {*self._rule.movable}
        if self.task.kind == "classification" and not self.task.has_own_loss:
            movable.add("label_smoothing")
        self.values = {n: float(self.config[n]) for n in self.parameters if n in config and n in movable}
        self._start = dict(self.values)
        self._adam = UnitAdam(self.values)
        # Apart from the data order: the trial sees the batches that it would see without hypergradients.
        self._draws = torch.Generator().manual_seed(derive_seed(seed, "hypergradient"))
        self._steps = 0
        self._epoch_steps = 0

    def train_epoch(self) -> dict[str, float]:
        self._epoch_steps = 0
        metrics = super().train_epoch()
        return {**metrics, **{name: value for name, value in self.values.items() if name != "lr"}}

    def _train_step(self, batches: Sequence[Any], sizes: Sequence[int]) -> torch.Tensor:
        if self.values and self._steps % self.hypergradient.every == 0:
            if self._steps == 0 and self.hypergradient.rehearsal and "lr" in self.values:
                self._rehearse()
            self._update(self._lookahead(batches[0], self.hypergradient.unroll))
            self._set_lr(self.schedule.lr_at(self._epoch, self._epoch_steps))
        self._steps += 1
        self._epoch_steps += 1
        return super()._train_step(batches, sizes)

    def _lookahead(self, first: Any, steps: int) -> _Lookahead:
        N = self.config["batch_size"]
        factor = self.schedule.lr_at(self._epoch, self._epoch_steps) / self.schedule.lr
        return _Lookahead(
            slots=optimizer_slots(self.model, self.optimizer),
            batches=[first, *(self._drawn(self._train, N) for _ in range(steps - 1))],
            lr_factors=[factor] * steps,
            validation=self._drawn(self._validation, self.hypergradient.validation_samples),
        )

    def _drawn(self, source: Source, n: int) -> Any:
        if not isinstance(source, ArraySource):
            raise TrialError("hypergradients draw samples of their own, and these data are read in a stream")
        return source.at(torch.randperm(len(source), generator=self._draws)[:n])

    def _loss(self, ahead: _Lookahead, hyper: Mapping[str, torch.Tensor | float]) -> torch.Tensor:
        config = {**self.config, **self._rule.fixed_when_built(self.optimizer)}
        return validation_loss_after(
            self.model,
            ahead.slots,
            config,
            hyper,
            ahead.batches,
            ahead.lr_factors,
            ahead.validation,
            self._criterion,
            self._groups,
        )

    def _rehearse(self) -> None:
        """Lower learning rates on the same batches: the start is a margin below the best of them."""
        parameter, value = self.parameters["lr"], self.values["lr"]
        ahead = self._lookahead(self._drawn(self._train, self.config["batch_size"]), self.hypergradient.rehearsal)
        best, best_value, no_better = math.inf, value, 0
        while True:
            loss = self._loss(ahead, {"lr": value}).item()
            if loss < best:
                best, best_value, no_better = loss, value, 0
            elif best < math.inf:
                no_better += 1
            if no_better == REHEARSAL_PATIENCE or value == parameter.low:
                break
            value = shifted(parameter, value, -REHEARSAL_STRIDE)
        self._put("lr", shifted(parameter, best_value, -REHEARSAL_MARGIN))

    def _update(self, ahead: _Lookahead) -> None:
        """Move every value once, or only the learning rate, down, where looking ahead shows instability."""
        before = self._loss(replace(ahead, batches=[], lr_factors=[]), {}).item()
        for _ in range(LOOKS):
            hyper = {name: torch.tensor(value, requires_grad=True) for name, value in self.values.items()}
            loss = self._loss(ahead, hyper)
            after = loss.item()
            if after <= MUCH_WORSE * before:  # False for NaN
                self._follow(hyper, loss, worse=after > before)
                return
            if "lr" not in self.values:
                return
            self._put("lr", shifted(self.parameters["lr"], self.values["lr"], -self.hypergradient.step))

    def _follow(self, hyper: Mapping[str, torch.Tensor], loss: torch.Tensor, *, worse: bool) -> None:
        step = self.hypergradient.step * max(0.0, 1.0 - self._epoch_now / self.max_epochs)
        found = torch.autograd.grad(loss, list(hyper.values()), allow_unused=True)
        gradients = {name: g.item() for name, g in zip(hyper, found, strict=True) if g is not None}
        for name, gradient in gradients.items():
            parameter, value = self.parameters[name], self.values[name]
            by_unit = gradient * slope(parameter, value)
            if not math.isfinite(by_unit):
                continue
            direction = self._adam.direction(name, by_unit)
            if name == "lr" and worse:
                direction = min(direction, 0.0)
            self._put(name, shifted(parameter, value, step * direction))

    @property
    def _epoch_now(self) -> float:
        done: float = self._epoch_steps / self._steps_per_epoch
        return self._epoch + done

    def _put(self, name: str, value: float) -> None:
        """Bring a value into force."""
        self.values[name] = self.config[name] = value
        if name == "lr":
            self.schedule.lr = value
        elif name != "label_smoothing":
            moved = [group.moves(name, self.config) for group in self._groups]
            self._rule.set_hyperparameter(self.optimizer, name, value, moved)

    def state_dict(self) -> dict[str, Any]:
        own = {
            "start": dict(self._start),
            "values": dict(self.values),
            "adam": self._adam.state_dict(),
            "steps": self._steps,
            "draws": self._draws.get_state(),
        }
        return {**super().state_dict(), "hypergradient": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        own = state.get("hypergradient")
        if own is None:  # of a trial without hypergradients: the config's values hold
            return
        kept = [name for name in self.values if own["start"].get(name) == self._start[name]]
        self._adam.load_state_dict({name: own["adam"][name] for name in kept})
        for name in self.values:
            self._put(name, own["values"][name] if name in kept else self._start[name])
        self._steps = int(own["steps"])
        self._draws.set_state(own["draws"].cpu())
