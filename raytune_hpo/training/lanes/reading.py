"""Reading: what a model reads of its attributes, and a task's own loss of its config: both are run on two samples.

Values of the config that a loss reads are the same in all lanes of a stack, or, of floating-point numbers that it takes
as tensors too, numbers of the lane.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.training.batches import ArraySource, augmented
from raytune_hpo.training.criterion import Criterion, outputs_of
from raytune_hpo.training.data import Batch
from raytune_hpo.training.lanes.recording import copied
from raytune_hpo.training.lanes.value_keys import Keys, Same
from raytune_hpo.training.random_states import preserved_random_states
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import mapped

if TYPE_CHECKING:
    from raytune_hpo.training.lanes.structure import Structure

Config = Mapping[str, Any]


@dataclass(frozen=True)
class OwnValues:
    """What a task's own loss reads of a config. fixed: with the values, which lanes of a stack have in common. moving:
    the numbers that may differ."""

    fixed: tuple[tuple[str, Hashable], ...] = ()
    moving: tuple[str, ...] = ()


class Reading:
    """Of one task on its training data."""

    def __init__(self, source: ArraySource, criterion: Criterion) -> None:
        self.task, self.criterion = criterion.task, criterion
        self.two = mapped(lambda t: t.cpu(), source.at(torch.arange(min(2, len(source)))))
        #: Whether models are no chains, as functions of the task's are called with them.
        self.whole = self.task.has_own_batches or not _is_plain(self.two)
        self._reads: dict[Hashable, list[tuple[dict[str, Any], tuple[str, ...]]]] = {}
        self._takes_tensors: dict[Hashable, bool] = {}
        self._self = Same(object())

    def run(self, model: nn.Module, config: Config) -> Any:
        """A forward of two samples, in the mode that the model is in: see `structure.describe`."""
        batch = mapped(torch.clone, self.two)
        if model.training:
            batch = augmented(self.task, batch)
        if not self.whole:
            return model(batch.x)
        losses = [self.criterion.loss(model, batch, config)] if self.task.has_own_loss else []
        if self.criterion.compares or not losses:
            return [*losses, outputs_of(self.task, model, batch)]
        return losses

    def run_by(self, config: Config, own: OwnValues | None = None) -> Hashable:
        """What `run` depends on besides the model: the task's own functions, and what a loss reads of the config.

        own: that; before it is known, it is what the task has in the config that is no number.
        """
        if not self.whole and type(self.task).augment is Task.augment:
            return None
        if not self.task.has_own_loss:
            return self._self
        names = [n for n in self.task.model_hyperparameters() if type(config[n]) is not float]
        known = {name: _key(config[name]) for name in names}
        return self._self, frozenset((known | dict(() if own is None else own.fixed)).items())

    def own_values(
        self, structure: Structure, model: nn.Module, config: Config, takes: Callable[[tuple[str, ...]], bool]
    ) -> OwnValues:
        """takes: whether the loss runs where the numbers of these names are tensors."""
        if not self.task.has_own_loss:
            return OwnValues()
        names = self._names(structure.key, model, config)
        moving = tuple(name for name in names if type(config[name]) is float)
        if moving:
            key = (structure.key, moving)
            if key not in self._takes_tensors:
                self._takes_tensors[key] = takes(moving)
            if not self._takes_tensors[key]:  # it may branch on them, and read others then
                moving, names = (), self._names(structure.key, model, config, numbers=True)
        fixed = tuple((name, _key(config[name])) for name in names if name not in moving)
        return OwnValues(fixed, moving)

    def _names(self, key: Hashable, model: nn.Module, config: Config, *, numbers: bool = False) -> tuple[str, ...]:
        """What the loss reads: as of a model of that structure, for which all that decides was equal. numbers: of which
        a number may be, too."""
        known = self._reads.setdefault((key, numbers), [])
        for values, names in known:
            if all(_key(config[name]) == value for name, value in values.items()):
                return names
        noted = _Noted(config)
        with preserved_random_states():
            try:
                for training in (True, False):  # it may measure by others than it trains by
                    self.run(copied(model, lambda t: t.detach().clone()).train(training), noted)
            except Exception:  # it is to fail in training, with the user's own words
                noted.read.update(config)
        names = tuple(sorted(noted.read & config.keys()))
        decide = (name for name in names if numbers or type(config[name]) is not float)
        known.append(({name: _key(config[name]) for name in decide}, names))
        return names


class _Noted(dict[str, Any]):
    """A config that notes which of its keys are asked for."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self.read.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        self.read.update(super().keys())
        return super().values()

    def items(self) -> Any:
        self.read.update(super().keys())
        return super().items()


def _is_plain(batch: Any) -> bool:
    return isinstance(batch, Batch) and isinstance(batch.x, torch.Tensor) and isinstance(batch.y, torch.Tensor)


def _key(value: Any) -> Hashable:
    """Of a config's value, which may be an object of the space: arrays by their content."""
    return Keys({}, {}).of(value)
