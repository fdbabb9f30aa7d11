"""Which hyperparameters a hypergradient moves, and how far: pure Python, no torch.

Each is moved in its parameter's own scale, the unit coordinate u of `raytune_hpo.parameters`: a step of
0.05 in u is the same factor everywhere in a log scale, and the same factor of 1 - value in a reverse log.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.parameters import Float, Parameter
from raytune_hpo.settings import Hypergradient

#: Optimizer -> the hyperparameters of its update that are continuous.
OF_OPTIMIZER = {
    "sgd": ("lr", "momentum", "weight_decay"),
    "adagrad": ("lr", "weight_decay"),
    "adadelta": ("lr", "weight_decay", "beta2"),
    "rmsprop": ("lr", "momentum", "weight_decay", "beta2"),
    "adam": ("lr", "weight_decay", "beta1", "beta2"),
    "adamw": ("lr", "weight_decay", "beta1", "beta2"),
}
MOVABLE = ("lr", "momentum", "weight_decay", "beta1", "beta2", "label_smoothing")


def moved_parameters(settings: Hypergradient, parameters: Mapping[str, Parameter]) -> dict[str, Float]:
    """The parameters of a space (path -> Parameter) that `settings` moves.

    Raises ExperimentError where one that it names is not there, not a Float or not movable, or none is left.
    """
    names = settings.parameters
    if names is None:
        found = {n: p for n, p in parameters.items() if n in MOVABLE and isinstance(p, Float)}
        if not found:
            raise ExperimentError(
                "hypergradient.parameters", None, f"the space has no Float among {', '.join(MOVABLE)} to move"
            )
        return found
    for name in names:
        checks.one_of("hypergradient.parameters", name, MOVABLE)
        if not isinstance(parameters.get(name), Float):
            raise ExperimentError("hypergradient.parameters", name, "must be a Float of the space")
    return {n: p for n, p in parameters.items() if n in names and isinstance(p, Float)}


def slope(parameter: Float, value: float) -> float:
    """d value / d u at `value`."""
    if parameter.scale == "log":
        return value * (math.log(parameter.high) - math.log(parameter.low))
    if parameter.scale == "reverse_log":
        return (1 - value) * (math.log1p(-parameter.low) - math.log1p(-parameter.high))
    return parameter.high - parameter.low


class UnitAdam:
    def __init__(self, names, beta1=0.8, beta2=0.95):
        self.beta1, self.beta2 = beta1, beta2
        self.mean = dict.fromkeys(names, 0.0)
        self.square = dict.fromkeys(names, 0.0)
        self.count = dict.fromkeys(names, 0)

    def direction(self, name: str, gradient: float) -> float:
        self.mean[name] = self.beta1 * self.mean[name] + (1 - self.beta1) * gradient
        self.square[name] = self.beta2 * self.square[name] + (1 - self.beta2) * gradient**2
        self.count[name] += 1
        mean = self.mean[name] / (1 - self.beta1 ** self.count[name])
        square = self.square[name] / (1 - self.beta2 ** self.count[name])
        return max(-1.0, min(1.0, mean / math.sqrt(square))) if square > 0 else 0.0
