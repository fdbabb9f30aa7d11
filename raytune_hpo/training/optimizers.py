"""Optimizers by name, from torch.optim."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve


def build_optimizer(params: Iterable[torch.nn.Parameter], config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that `config` names, with its missing keys at their defaults.

    `nesterov` asks for a momentum above 0 and is ignored without one: a search that draws both
    need not exclude the pair. Raises ExperimentError for an illegal value.
    """
    c = resolve(config, TRAINER_HYPERPARAMETERS)
    lr, decay, momentum, eps = c["lr"], c["weight_decay"], c["momentum"], c["eps"]
    betas = (c["beta1"], c["beta2"])
    match c["optimizer"]:
        case "sgd":
            nesterov = c["nesterov"] and momentum > 0
            return torch.optim.SGD(params, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
        case "adagrad":
            return torch.optim.Adagrad(params, lr, weight_decay=decay, eps=eps)
        case "adadelta":
            return torch.optim.Adadelta(params, lr, rho=c["beta2"], weight_decay=decay, eps=eps)
        case "rmsprop":
            return torch.optim.RMSprop(params, lr, alpha=c["beta2"], momentum=momentum, weight_decay=decay, eps=eps)
        case "adam":
            return torch.optim.Adam(params, lr, betas=betas, weight_decay=decay, eps=eps)
        case "adamw":
            return torch.optim.AdamW(params, lr, betas=betas, weight_decay=decay, eps=eps)
    raise AssertionError(c["optimizer"])  # resolve() has refused every other name


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments of `state` and keep the hyperparameters that `optimizer` was built with.

    A population-based scheduler copies a trial's weights into a trial with another config; torch's
    own `load_state_dict` would bring the other trial's momentum and weight decay along.
    """
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    # Copied, since torch would go on updating the tensors of `state` in place.
    optimizer.load_state_dict(copy.deepcopy(dict(state)))
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)
        if isinstance(optimizer, torch.optim.RMSprop) and group["momentum"] > 0:
            # A state that was saved with momentum 0 has no buffers, and torch makes them only at the first step.
            for parameter in group["params"]:
                if parameter in optimizer.state:
                    optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
