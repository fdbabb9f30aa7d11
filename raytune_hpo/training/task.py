"""A task: the data, the model and the metrics that an experiment tunes. No torch is imported here.

A task is a frozen dataclass; its fields are its options (`Digits(validation_fraction=0.2)`), plain
JSON values, so that a run directory can hold it. The methods import torch when they are called.

Data flow: `load(seed)` -> `Splits` (once per node) -> `Splits.for_trials()` (no test split in it)
-> `SupervisedTrainer`. Only `results.winner` ever touches `Splits.test`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode
from raytune_hpo.training.data import Kind, Splits, TrialData
from raytune_hpo.training.metrics import Accuracy, CrossEntropy, MeanSquaredError, Metric, RootMeanSquaredError

if TYPE_CHECKING:
    import torch

    from raytune_hpo.training.hyperparameters import Hyperparameter
    from raytune_hpo.training.trainer import Trainer


@dataclass(frozen=True)
class Task(ABC):
    """Base of every task. Subclasses are frozen dataclasses whose fields are JSON values."""

    kind: ClassVar[Kind] = "classification"
    #: Whether training and validation samples may change places, as in cross-validation.
    exchangeable: ClassVar[bool] = True
    #: Whether NaN in x is a missing value, which the model takes; otherwise data that hold any are refused.
    missing_values: ClassVar[bool] = False
    #: What a regression predicts, in words and with its unit: the axes of a plot.
    target: ClassVar[str] = "y"

    @abstractmethod
    def load(self, seed: int) -> Splits:
        """Read and split the data; the split depends on `seed` alone.

        Raises ExperimentError where the data cannot be had.
        """

    @abstractmethod
    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        """An untrained model for `config`, with torch's global generator as its only randomness."""

    @final
    def splits(self, seed: int) -> Splits:
        """What `load` answers, checked (`training.checked_data`). Raises ExperimentError."""
        from raytune_hpo.training.checked_data import check_type, checked_splits

        field, found = f"{type(self).__name__}.load", self.load(seed)
        if self.has_own_trainer:  # which may make of the data what it likes
            return check_type(field, found)
        return checked_splits(field, found, self.kind, missing_values=self.missing_values)

    @final
    def resolved(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` with the trainer's and the model's defaults filled in, checked: what `build_model` takes.

        Raises ExperimentError for an illegal value.
        """
        from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve

        return resolve(config, {**TRAINER_HYPERPARAMETERS, **self.model_hyperparameters()})

    def trainer(self, data: TrialData, *, max_epochs: int, device: str | None) -> Trainer:
        """The trainer of one trial, not set up yet; here: the supervised one. device: None is the GPU if there is one.

        A task that brings its own trains in processes only. `data` is what trials may see.
        """
        from raytune_hpo.training.trainer import SupervisedTrainer

        return SupervisedTrainer(self, data, max_epochs=max_epochs, device=device)

    @property
    def has_own_trainer(self) -> bool:
        """Whether `trainer` is the task's own: what is the supervised trainer's alone (lanes, hypergradients, range
        tests) cannot be had then."""
        return type(self).trainer is not Task.trainer

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """A training batch as the model is to see it; x: [N, ...], on the model's device. Here: as it is.

        torch's global generator, which the trainer keeps for each trial, is to be the only randomness. `x` is a copy
        of the data, so that it may be written to. Validation and test batches are never augmented.
        """
        return x

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        """The config keys that `build_model` understands, on top of the trainer's own."""
        return {}

    def metrics(self) -> Sequence[Metric]:
        """What is measured besides the loss. Of classes the first is optimized where an experiment names no metric."""
        return (Accuracy(),) if self.kind == "classification" else (RootMeanSquaredError(),)

    @final
    def measured(self) -> tuple[Metric, ...]:
        """All that is measured: the loss, without which no report is, then the metrics."""
        return (CrossEntropy() if self.kind == "classification" else MeanSquaredError(), *self.metrics())

    @final
    def reported(self) -> dict[str, Mode]:
        """The metrics by the names under which training reports them, each with its direction; the default first."""
        loss, *metrics = self.measured()
        ordered = [*metrics, loss] if self.kind == "classification" else [loss, *metrics]
        return {f"validation_{metric.name}": metric.direction for metric in ordered}

    @final
    def default_metric(self) -> str:
        """What an experiment optimizes that names no metric."""
        return next(iter(self.reported()))

    @final
    def metric_reported_as(self, name: str) -> Metric | None:
        """The metric behind a reported name ("validation_loss"); None for a name that is not reported."""
        return next((metric for metric in self.measured() if f"validation_{metric.name}" == name), None)

    def structural_hyperparameters(self) -> set[str]:
        """The keys that may not change in mid-training: the model's or the optimizer's state would not fit."""
        return {*self.model_hyperparameters(), "optimizer", "nesterov", "lr_schedule", "precision"} - {"dropout"}

    def check(self) -> None:  # noqa: B027  (optional)
        """Cheap checks of the options before any process starts. Raises ExperimentError."""

    def prepare(self) -> None:  # noqa: B027  (optional)
        """Make sure that `load` will find its data, fetching it if need be, before a run is begun.

        Raises ExperimentError where the data cannot be had.
        """

    @final
    def check_is_described(self) -> None:
        """Raise ExperimentError where a run could not be described by the options, which are the fields."""
        made_by_dataclass = type(self).__init__.__code__.co_filename == "<string>"
        more = sorted(vars(self).keys() - {f.name for f in dataclasses.fields(self)})
        if more and not made_by_dataclass:
            expected = "must be fields, or no run could be described: write @dataclass(frozen=True) and no __init__"
            raise ExperimentError("task", f"{type(self).__name__}.{', '.join(more)}", expected)

    def options(self) -> dict[str, Any]:
        """The options as plain JSON values."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: str(value) if isinstance(value, Path) else value for name, value in values}
