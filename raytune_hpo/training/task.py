"""A task: the data, the model, the loss and the metrics that an experiment tunes. No torch is imported here.

A task is a frozen dataclass; its fields are its options (`Digits(validation_fraction=0.2)`), plain
JSON values, so that a run directory can hold it. The methods import torch when they are called.

Data flow: `load(seed)` -> `Splits` (once per node) -> `Splits.for_trials()` (no test split in it)
-> `SupervisedTrainer`. Only `results.winner` ever touches `Splits.test`. docs/tasks.md has a batch's way.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode
from raytune_hpo.space.named import Objects, described, is_json, text_for, with_objects
from raytune_hpo.training.data import Kind, Splits, TrialData
from raytune_hpo.training.kinds import default_metrics, loss_metric
from raytune_hpo.training.metrics import Metric

if TYPE_CHECKING:
    import torch

    from raytune_hpo.training.hyperparameters import Hyperparameter
    from raytune_hpo.training.trainer import Trainer


#: Of these kinds the first metric is the default, of others the loss.
_BY_METRIC = ("classification", "multilabel")


@dataclass(frozen=True)
class Task(ABC):
    """Base of every task. Subclasses are frozen dataclasses whose fields are JSON values.

    `load` and `build_model` are needed; what else a task does not override is the house's (docs/tasks.md).
    """

    #: What the targets are, and with it the loss, the metrics and the checks of a task that does not bring its own.
    kind: ClassVar[Kind] = "classification"
    #: Names of the groups that `parameter_groups` answers.
    groups: ClassVar[tuple[str, ...]] = ()
    #: Optimizer steps between two reports; None is a pass over the training data.
    validate_every: ClassVar[int | None] = None
    #: Bytes of a map-style data set's samples, decoded, up to which they are kept in memory, of each split.
    decode_bytes: ClassVar[int] = 2 << 30
    #: Processes that read a map-style data set that is not.
    loader_workers: ClassVar[int] = 2
    #: Whether training and validation samples may change places, as in cross-validation.
    exchangeable: ClassVar[bool] = True
    #: Whether NaN in x is a missing value, which the model takes; otherwise data that hold any are refused.
    missing_values: ClassVar[bool] = False
    #: Of the space that it is tuned in, what the texts in configs stand for (`with_objects`).
    _objects: ClassVar[Objects] = {}
    #: What a regression predicts, in words and with its unit: the axes of a plot.
    target: ClassVar[str] = "y"

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for name in ("metrics", "model_hyperparameters"):  # which may be constants in place of methods
            constant = vars(cls).get(name)
            if isinstance(constant, Mapping | list | tuple):
                setattr(cls, name, _answering(constant))
        # A step of its own compares what it likes; with another kind it says what.
        if "train_step" in vars(cls) and all("kind" not in vars(base) for base in cls.__mro__ if base is not Task):
            cls.kind = "other"

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
        """What `load` answers, its data sets decoded (`training.decoding`), checked (`training.checked_data`). Raises
        ExperimentError."""
        from raytune_hpo.training.checked_data import check_type, checked_splits

        field = f"{type(self).__name__}.load"
        found = check_type(field, self.load(seed))
        if self.has_own_trainer:  # which may make of the data what it likes
            return found
        if found.has_data_sets:
            from raytune_hpo.training.decoding import decoded  # which imports torch

            found = decoded(self, found, field)
        return checked_splits(field, found, self.kind, missing_values=self.missing_values)

    @final
    def resolved(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` with the trainer's and the model's defaults filled in, checked: what `build_model` takes.

        Raises ExperimentError for an illegal value.
        """
        from raytune_hpo.training.hyperparameters import resolve

        return resolve(with_objects(config, self._objects), self.hyperparameters())

    @final
    def with_objects(self, objects: Objects) -> Self:
        """The task of an experiment in whose space objects stand: `resolved` takes them for the texts in configs."""
        if not objects:
            return self
        own = copy.copy(self)
        object.__setattr__(own, "_objects", objects)
        return own

    @property
    def space_objects(self) -> Objects:
        """Hyperparameter -> text in configs -> object."""
        return self._objects

    @final
    def recorded_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Of a recorded config, for an export's document: `resolved_config`, with the defaults filled in, as JSON data,
        and `objects`, name -> text of those of its values that stand for objects."""

        def text(name: str, value: Any) -> Any:
            found = text_for(value, self._objects.get(name, {}))
            return found if is_json(found) else described(found)

        resolved = self.resolved(config)
        written = {name: text(name, value) for name, value in resolved.items()}
        texts = {name: found for name, found in written.items() if found is not resolved[name]}
        return {"resolved_config": written, "objects": texts}

    @final
    def checked_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`resolved`, and no key that is not known. Raises ExperimentError."""
        from raytune_hpo.training.hyperparameters import check_keys

        check_keys(config, self.hyperparameters())
        return self.resolved(config)

    @final
    def hyperparameters(self) -> dict[str, Hyperparameter]:
        """All that a config may hold, by name: the trainer's, the groups', the model's."""
        from raytune_hpo.training.hyperparameters import (
            TRAINER_HYPERPARAMETERS,
            as_hyperparameter,
            group_hyperparameters,
        )

        own = {name: as_hyperparameter(name, value) for name, value in self.model_hyperparameters().items()}
        return {**TRAINER_HYPERPARAMETERS, **group_hyperparameters(self.groups), **own}

    def trainer(self, data: TrialData, *, max_epochs: int, device: str | None) -> Trainer:
        """The trainer of one trial, not set up yet; here: the supervised one. device: None is the GPU if there is one.

        A task that brings its own trains in processes only. `data` is what trials may see.
        """
        from raytune_hpo.training.own_step import OwnStepTrainer
        from raytune_hpo.training.trainer import SupervisedTrainer

        kind = OwnStepTrainer if self.has_own_step else SupervisedTrainer
        return kind(self, data, max_epochs=max_epochs, device=device)

    @property
    def has_own_trainer(self) -> bool:
        """Whether `trainer` is the task's own: what is the supervised trainer's alone (lanes, hypergradients, range
        tests) cannot be had then."""
        return type(self).trainer is not Task.trainer

    # A batch's way ------------------------------------------------------------------------------------------

    def preprocess(self, x: Any, statistics: Mapping[str, torch.Tensor]) -> Any:
        """x as the model takes it, each sample by itself; here: as it is. Also done where an exported model predicts.

        x: a batch's x, [N, ...], on the model's device; of data that are no `Split` the batch. It is not to be written
        to. statistics: `Splits.statistics`, as tensors.
        """
        return x

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        """A training batch as the model is to see it; x: [N, ...], on the model's device. Here: as it is.

        torch's global generator, which the trainer keeps for each trial, is to be the only randomness. `x` is a copy
        of the data, so that it may be written to. Validation and test batches are never augmented. Of data that are
        no `Split` it is the whole batch.
        """
        return x

    def loss(self, model: torch.nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        """What training minimizes: the mean over a batch, shape []. Here: by `kind`, of `predict` and `targets`.

        config: with all defaults. `model.training` says whether it is a training batch. Gradients go through what
        this answers alone; to be a lane it must be made of operations on tensors, with no `.item()` and no branch
        on a tensor's value.
        """
        from raytune_hpo.training.criterion import default_loss

        return default_loss(self, model, batch, config)

    def predict(self, model: torch.nn.Module, batch: Any) -> Any:
        """The outputs that metrics compare with `targets`, [N, ...]; what an exported model answers. `batch.y` is not
        there where it does."""
        from raytune_hpo.training.criterion import called

        return called(self, model, batch)

    def targets(self, batch: Any) -> Any:
        """What outputs are compared with, [N, ...]."""
        from raytune_hpo.training.criterion import targets_of

        return targets_of(self, batch)

    def collate(self, samples: Sequence[Any]) -> Any:
        """A batch of a map-style data set's samples."""
        from torch.utils.data import default_collate

        return default_collate(list(samples))

    # How it is trained --------------------------------------------------------------------------------------

    def model_hyperparameters(self) -> Mapping[str, Any]:
        """The config keys that `build_model` and the other methods understand, on top of the trainer's own.

        By name: a Hyperparameter, or the default of one that has no bounds: of a plain value's type, or, of a class, a
        function or anything else, of any.
        """
        return {}

    def parameter_groups(
        self, model: torch.nn.Module, config: Mapping[str, Any]
    ) -> Mapping[str, torch.nn.Module | Iterable[torch.nn.Parameter]]:
        """The parameters of each of `groups`, by name; those in none have the hyperparameters without a suffix.

        Here: of the submodules of these names, or of the items of a ModuleDict.
        """
        from raytune_hpo.training.parameter_groups import submodules_of

        return submodules_of(self, model)

    def optimizers(self, model: torch.nn.Module, config: Mapping[str, Any]) -> Any:
        """What `train_step` is given: an optimizer of torch's, or a dict of them. Here: the one that config names, of
        each of `groups` by its name where there are any.

        The schedule moves the learning rates that they are made with.
        """
        from raytune_hpo.training.optimizers import optimizer_of
        from raytune_hpo.training.parameter_groups import groups_of

        found = groups_of(self, model, config)
        if not self.groups:
            return optimizer_of(found, model, config)
        named = {name: [group for group in found if group.name == name] for name in (*self.groups, "")}
        return {name: optimizer_of(own, model, config) for name, own in named.items() if own}

    def train_step(self, model: torch.nn.Module, batch: Any, optimizer: Any, config: Mapping[str, Any]) -> Any:
        """A step of the task's own: gradients and updates. Answers the loss, a tensor of shape [], or a dict of such,
        reported as train_NAME. Only in processes and inline."""
        raise NotImplementedError

    @property
    def has_own_loss(self) -> bool:
        return type(self).loss is not Task.loss

    @property
    def has_own_step(self) -> bool:
        return type(self).train_step is not Task.train_step

    @property
    def has_own_targets(self) -> bool:
        return type(self).targets is not Task.targets

    @property
    def has_own_predict(self) -> bool:
        return type(self).predict is not Task.predict

    @property
    def has_own_preprocess(self) -> bool:
        return type(self).preprocess is not Task.preprocess

    @property
    def has_own_batches(self) -> bool:
        """Whether loss, predict or targets are the task's own, and not one forward and a comparison with y."""
        return self.has_own_loss or self.has_own_targets or self.has_own_predict

    # What is measured ---------------------------------------------------------------------------------------

    def metrics(self) -> Sequence[Metric]:
        """What is measured besides the loss. Of classes the first is optimized where an experiment names no metric."""
        return default_metrics(self.kind)

    @final
    def measured(self) -> tuple[Metric, ...]:
        """All that is measured: the loss, if there is one, then the metrics."""
        loss = loss_metric(self.kind, own=self.has_own_loss)
        return (*(() if loss is None else (loss,)), *self.metrics())

    @final
    def reported(self) -> dict[str, Mode]:
        """The metrics by the names under which training reports them, each with its direction; the default first."""
        measured = self.measured()
        if not measured:  # of a step of its own that says nothing else
            return {"train_loss": "min"}
        ordered = sorted(measured, key=lambda m: m.name == "loss") if self.kind in _BY_METRIC else measured
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
        trainers = {"optimizer", "nesterov", "lr_schedule", "precision", "weight_decay_on"}
        return {*self.model_hyperparameters(), *trainers} - {"dropout"}

    def check(self) -> None:  # noqa: B027  (optional)
        """Cheap checks of the options before any process starts. Raises ExperimentError."""

    def prepare(self) -> None:  # noqa: B027  (optional)
        """Make sure that `load` will find its data, fetching it if need be, before a run is begun.

        Raises ExperimentError where the data cannot be had.
        """

    @final
    def check_is_described(self) -> None:
        """Raise ExperimentError where a run could not be described by the options, which are the fields."""
        for name in sorted({f.name for f in dataclasses.fields(self)} & vars(Task).keys()):
            if callable(vars(Task)[name]) or isinstance(vars(Task)[name], property):
                expected = f"is what a task's {name}() is: call the option otherwise"
                raise ExperimentError("task", f"{type(self).__name__}.{name}", expected)
        made_by_dataclass = type(self).__init__.__code__.co_filename == "<string>"
        more = sorted(vars(self).keys() - {f.name for f in dataclasses.fields(self)} - {"_objects"})
        if more and not made_by_dataclass:
            expected = "must be fields, or no run could be described: write @dataclass(frozen=True) and no __init__"
            raise ExperimentError("task", f"{type(self).__name__}.{', '.join(more)}", expected)

    def options(self) -> dict[str, Any]:
        """The options as plain JSON values."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: str(value) if isinstance(value, Path) else value for name, value in values}


def _answering(constant: Any) -> Any:
    def method(self: Task) -> Any:
        return constant

    return method
