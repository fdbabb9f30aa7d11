"""Optimizers by name, from torch.optim."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Rule


def build_optimizer(params: Iterable[torch.nn.Parameter], config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that `config` names, with its missing keys at their defaults.

    Raises ExperimentError for an illegal value.
    """
    resolved = resolve(config, TRAINER_HYPERPARAMETERS)
    return RULES[resolved["optimizer"]].torch_optimizer(params, resolved)


def restore_optimizer(rule: Rule, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments of `state` and keep the hyperparameters that `optimizer`, of `rule`, was built with.

    A population-based scheduler copies a trial's weights into a trial with another config; torch's
    own `load_state_dict` would bring the other trial's momentum and weight decay along.
    """
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    # Copied, since torch would go on updating the tensors of `state` in place.
    optimizer.load_state_dict(copy.deepcopy(dict(state)))
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
    rule.complete_state(optimizer)
