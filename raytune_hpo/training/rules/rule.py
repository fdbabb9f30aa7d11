"""A rule: all that the house knows of one optimizer. Importable without torch, for names and defaults are asked early.

The same update stands several times in a rule, since each asks for something else: torch's own class for a trial that
trains alone; rows of many lanes in place, each lane with hyperparameters of its own; one lane's weights by a kernel; a
function without side effects, which a hypergradient is taken through. tests/training/test_rules.py holds them against
each other.

Notations
    L        the lanes
    P        a lane's weights, which are one row of [L, P]
    hyper    hyperparameter -> a scalar tensor [], which may require gradients, or a plain value
    slots    one weight's optimizer state, by torch.optim's own names ("exp_avg", "step", ...)
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]
Slots = dict[str, Any]
Columns = Mapping[str, "Tensor"]
"""Name -> [l, 1], for the lanes of an update, at its step."""


@dataclass(frozen=True)
class Rows:
    """What an update changes, [L, P] each, in place; `gradient` is used up."""

    weights: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor

    def part(self, start: int, end: int, first: int = 0, last: int | None = None) -> Rows:
        """The lanes from start to end, of their weights the stretch from first to last."""
        every = (self.weights, self.gradient, self.first, self.second)
        whole = first == 0 and last in (None, self.weights.shape[1])
        return Rows(*(t[start:end] if whole else t[start:end, first:last] for t in every))


@dataclass(frozen=True)
class Lists:
    """As `Rows`, of one lane: its weights as several tensors, and what belongs to each."""

    weights: list[Tensor]
    gradients: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]


@dataclass(frozen=True)
class Epoch:
    """What L lanes are to be trained with for an epoch.

    configs: [L], resolved. lr: [steps, L], for every step. done: [L], optimizer steps taken before.
    """

    configs: Sequence[Mapping[str, Any]]
    lr: Array
    done: Sequence[int]

    def of(self, name: str) -> Array:
        """A hyperparameter, [L]."""
        values: Array = np.array([float(c[name]) for c in self.configs])
        return values

    @functools.cached_property
    def count(self) -> Array:
        """[steps, L]: which of its optimizer's steps each is, from 1."""
        count: Array = np.arange(1, len(self.lr) + 1)[:, None] + np.array(self.done)[None, :]
        return count


class Rule(ABC):
    """An optimizer of torch.optim."""

    name: ClassVar[str]
    #: The continuous hyperparameters of its update: what a hypergradient may move.
    movable: ClassVar[tuple[str, ...]]
    #: What it reads besides.
    others: ClassVar[tuple[str, ...]] = ()
    #: The defaults that are not those of most optimizers.
    defaults: ClassVar[Mapping[str, Any]] = {}
    #: Our name of a hyperparameter -> torch's, where it is another.
    torch_names: ClassVar[Mapping[str, str]] = {}
    #: torch's names of what the rows `first` and `second` hold.
    state_names: ClassVar[tuple[str, ...]]
    #: Which of these torch keeps only with a momentum above 0.
    momentum_buffer: ClassVar[str | None] = None
    #: Whether torch's state has a "step".
    counts_steps: ClassVar[bool] = True

    # Alone, by torch --------------------------------------------------------------------------------------

    def torch_optimizer(
        self, groups: Sequence[tuple[Iterable[torch.nn.Parameter], Mapping[str, Any]]]
    ) -> torch.optim.Optimizer:
        """torch's own. groups: of parameters, each with its resolved config."""
        from raytune_hpo.training.rules.eager import eager

        kind: Any = self.torch_class()  # mypy looks for a hash among its objects' methods
        options = [{"lr": config["lr"], **self.torch_options(config)} for _, config in groups]
        named = [{"params": list(params), **own} for (params, _), own in zip(groups, options, strict=True)]
        return eager(kind)(named, **options[0])

    @abstractmethod
    def torch_class(self) -> type[torch.optim.Optimizer]: ...

    @abstractmethod
    def torch_options(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What torch's class is given besides the parameters and the learning rate."""

    def set_hyperparameter(
        self, optimizer: torch.optim.Optimizer, name: str, value: float, moved: Sequence[bool] | None = None
    ) -> None:
        """Change one of `movable` but the learning rate, which is the schedule's, in an optimizer in use. moved: for
        each group, whether it is its value, too; None is yes."""
        for i, group in enumerate(optimizer.param_groups):
            if moved is None or moved[i]:
                self.set_in_group(group, name, value)
        self.complete_state(optimizer)

    def set_in_group(self, group: dict[str, Any], name: str, value: float) -> None:
        group[self.torch_names.get(name, name)] = value

    def complete_state(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: B027  # most lack nothing
        """Add what the next step needs, and torch makes only at the first, where hyperparameters have changed."""

    def fixed_when_built(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The hyperparameters that stay as torch's class was built, whatever the config has become since."""
        return {}

    # Lanes, as rows ---------------------------------------------------------------------------------------

    def kept_rows(self, *, momentum: bool) -> dict[str, str]:
        """Row -> torch's name, of the rows that torch has too. momentum: whether it is above 0."""
        named = zip(("first", "second"), self.state_names, strict=False)
        return {row: name for row, name in named if momentum or name != self.momentum_buffer}

    @abstractmethod
    def columns(self, epoch: Epoch) -> dict[str, Array]:
        """What `update_rows` reads, once an epoch: [L], or [steps, L] where it changes from step to step."""

    @abstractmethod
    def update_rows(self, c: Columns, r: Rows) -> None:
        """One step, in place. A weight that is padding is 0 with a gradient of 0, and has to stay 0.

        By torch's single-tensor formulas, operation by operation, so that it rounds as they do.
        """

    #: Whether torch has a kernel of it for a CPU that takes many weights at once.
    is_fused: ClassVar[bool] = False

    def fused_step(self, config: Mapping[str, Any], lr: float, count: int, lists: Lists) -> None:
        """A step, in place, of one lane: the kernel that torch's class has with fused=True. count: of its steps, from
        1."""
        raise NotImplementedError

    #: Whether it is the update that `lanes.mixed.updating` writes.
    is_of_moments: ClassVar[bool] = False

    def moments(self, epoch: Epoch) -> dict[str, Array]:
        """The numbers of that update, [L] or [steps, L] each, but those that are as of plain gradient descent."""
        raise NotImplementedError

    # Differentiable ---------------------------------------------------------------------------------------

    @abstractmethod
    def differentiable(self, weight: Tensor, gradient: Tensor, slots: Slots, hyper: Values) -> tuple[Tensor, Slots]:
        """One step as a function: the new weight and its new slots. Slots that are missing are 0."""

    # Weight decay: an L2 penalty, but for a rule that decouples it ------------------------------------------

    def decay_columns(self, epoch: Epoch) -> dict[str, Array]:
        decay = epoch.of("weight_decay")
        return {"weight_decay": decay} if (decay > 0).any() else {}

    def decay_rows(self, c: Columns, r: Rows) -> None:
        if "weight_decay" in c:
            r.gradient.addcmul_(r.weights, c["weight_decay"])

    def decayed(self, weight: Tensor, gradient: Tensor, hyper: Values) -> tuple[Tensor, Tensor]:
        return weight, gradient + hyper["weight_decay"] * weight


def slot(slots: Slots, name: str, weight: Tensor) -> Tensor:
    """A weight's state; 0 before its first step."""
    import torch

    found: Tensor | None = slots.get(name)
    return torch.zeros_like(weight) if found is None else found


def root(square: Tensor) -> Tensor:
    """The square root, with slope 0 at 0, where autograd's is infinite.

    The weights of an input that is always 0 have exactly such a running square.
    """
    import torch

    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
