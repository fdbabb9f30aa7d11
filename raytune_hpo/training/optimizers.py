"""Optimizers by name, from torch.optim, over a task's groups of parameters."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from raytune_hpo.training.parameter_groups import Group
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Rule


def optimizer_of(groups: Sequence[Group], model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that `config`, resolved, names. groups: of the model's parameters, as of `groups_of`."""
    parameters = dict(model.named_parameters())
    found = [([parameters[name] for name in group.parameters], group.config(config)) for group in groups]
    return RULES[config["optimizer"]].torch_optimizer(found)


def restore_optimizer(rule: Rule | None, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments of `state` and keep the hyperparameters that `optimizer` was built with. rule: whose it is, None
    of a task's own.

    A population-based scheduler copies a trial's weights into a trial with another config; torch's
    own `load_state_dict` would bring the other trial's momentum and weight decay along.
    """
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    # Copied, since torch would go on updating the tensors of `state` in place.
    optimizer.load_state_dict(copy.deepcopy(dict(state)))
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    if rule is not None:
        rule.complete_state(optimizer)
