"""Optimizers by name, from torch.optim."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve

#: What torch decorates so that torch.compile leaves it alone.
DECORATED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")


@functools.cache
def eager(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """`kind` of torch.optim, with its methods as they are below their decorators.

    The decorators import torch's compiler with the first optimizer that is made: 4 s of CPU and 150 MB of a process
    that will compile nothing. Step hooks and closures are left out, the arithmetic is torch's.
    """
    step_of = inspect.unwrap(kind.step)

    @torch.no_grad()
    def step(self: torch.optim.Optimizer) -> None:
        step_of(self)

    step.hooked = True  # type: ignore[attr-defined]  # torch adds its hooks to a step without this mark
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in DECORATED}
    return type(kind.__name__, (kind,), {**methods, "step": step})


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
            return eager(torch.optim.SGD)(params, lr, momentum=momentum, nesterov=nesterov, weight_decay=decay)
        case "adagrad":
            return eager(torch.optim.Adagrad)(params, lr, weight_decay=decay, eps=eps)
        case "adadelta":
            return eager(torch.optim.Adadelta)(params, lr, rho=c["beta2"], weight_decay=decay, eps=eps)
        case "rmsprop":
            options = {"alpha": c["beta2"], "momentum": momentum, "weight_decay": decay, "eps": eps}
            return eager(torch.optim.RMSprop)(params, lr, **options)
        case "adam":
            return eager(torch.optim.Adam)(params, lr, betas=betas, weight_decay=decay, eps=eps)
        case "adamw":
            return eager(torch.optim.AdamW)(params, lr, betas=betas, weight_decay=decay, eps=eps)
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
