"""An optimizer over parameters that belong to no task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, resolve
from raytune_hpo.training.rules import RULES


def build_optimizer(params: Iterable[torch.nn.Parameter], config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer that `config` names, with its missing keys at their defaults."""
    resolved = resolve(config, TRAINER_HYPERPARAMETERS)
    return RULES[resolved["optimizer"]].torch_optimizer([(params, resolved)])
