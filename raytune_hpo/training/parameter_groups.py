"""Groups of a model's parameters, each with a learning rate, a weight decay and a momentum.

    task.parameter_groups + weight_decay_on -> groups_of -> torch's param_groups; rows of lanes

A config holds a group's own values with its name for a suffix (`lr_head`); what it leaves unset is the value without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.training.hyperparameters import GROUP_HYPERPARAMETERS

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task


@dataclass(frozen=True)
class Group:
    """name: of the task's groups, "" for all other parameters. decays: whether weight decay is theirs. parameters:
    their names in the model, in its order."""

    name: str
    decays: bool
    parameters: tuple[str, ...]

    @property
    def key(self) -> tuple[str, bool]:
        return self.name, self.decays

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A resolved config with the group's own values in place."""
        own = dict(config)
        for name in GROUP_HYPERPARAMETERS if self.name else ():
            value = config.get(f"{name}_{self.name}")
            if value is not None:
                own[name] = value
        if not self.decays:
            own["weight_decay"] = 0.0
        return own

    def moves(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether a hyperparameter without a suffix is this group's."""
        if name == "weight_decay" and not self.decays:
            return False
        return not self.name or config.get(f"{name}_{self.name}") is None


def submodules_of(task: Task, model: nn.Module) -> dict[str, nn.Module]:
    """The submodules that a task's groups are named like. Raises TrialError where there is none of a name."""
    found = {}
    for name in task.groups:
        module = dict(model.named_modules()).get(name)
        if module is None:
            known = ", ".join(child for child, _ in model.named_children())
            where = f"{type(task).__name__}.groups: {name!r}"
            raise TrialError(
                f"{where} is no submodule of the model ({known}); write parameter_groups(self, model, config)"
            )
        found[name] = module
    return found


def groups_of(task: Task, model: nn.Module, config: Mapping[str, Any]) -> tuple[Group, ...]:
    """The groups that hold any parameter, those of the task first, in its order; frozen parameters are in one, too.

    Raises TrialError where `parameter_groups` answers what are not the model's parameters, one of them twice, or a
    group that is not named in `Task.groups`.
    """
    found = dict(task.parameter_groups(model, config)) if task.groups else {}
    where = f"{type(task).__name__}.parameter_groups"
    names = {id(p): name for name, p in model.named_parameters()}
    of: dict[str, str] = {}
    for group, parameters in found.items():
        if group not in task.groups:
            raise TrialError(f"{where}: {group!r} is not in groups = {task.groups}")
        for parameter in parameters.parameters() if isinstance(parameters, nn.Module) else parameters:
            if not isinstance(parameter, torch.Tensor) or id(parameter) not in names:
                kind = type(parameter).__name__
                raise TrialError(f"{where}: group {group!r} holds a {kind} that is no parameter of the model")
            name = names[id(parameter)]
            if of.setdefault(name, group) != group:
                raise TrialError(f"{where}: {name} is in two groups, {of[name]!r} and {group!r}")
    matrices = config["weight_decay_on"] == "matrices"
    members: dict[tuple[str, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        members.setdefault((of.get(name, ""), not matrices or parameter.ndim >= 2), []).append(name)
    order = [(group, decays) for group in (*task.groups, "") for decays in (True, False)]
    return tuple(Group(*key, tuple(members[key])) for key in order if key in members)
