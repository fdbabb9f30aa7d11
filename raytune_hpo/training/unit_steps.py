"""Which hyperparameters a hypergradient moves, and how far: pure Python, no torch.

Each is moved in its parameter's own scale, the unit coordinate u of `raytune_hpo.space.parameters`: a step of
0.04 in u is the same factor everywhere in a log scale, and the same factor of 1 - value in a reverse log.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space.parameters import Float, Parameter
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS
from raytune_hpo.training.rules import RULES

#: All that can be moved, in the order of the config's keys; a trial moves what its own optimizer uses.
MOVABLE = tuple(
    name
    for name in TRAINER_HYPERPARAMETERS
    if name == "label_smoothing" or any(name in rule.movable for rule in RULES.values())
)


def moved_parameters(settings: Hypergradient, parameters: Mapping[str, Parameter]) -> dict[str, Float]:
    """The parameters of a space (path -> Parameter) that `settings` moves.

    Raises ExperimentError where one that it names is not there, no Float or not movable, or none is left.
    """
    if settings.parameters is None:
        found = {n: p for n, p in parameters.items() if n in MOVABLE and isinstance(p, Float) and p.step is None}
        if not found:
            expected = f"the space has no Float among {', '.join(MOVABLE)} to move; one with a step stays"
            raise ExperimentError("hypergradient.parameters", None, expected)
        return found
    for name in settings.parameters:
        checks.one_of("hypergradient.parameters", name, MOVABLE)
        parameter = parameters.get(name)
        if not isinstance(parameter, Float):
            raise ExperimentError("hypergradient.parameters", name, "must be a Float of the space")
        if parameter.step is not None:
            expected = f"has values {parameter.step:g} apart, between which no gradient moves it: leave out step"
            raise ExperimentError("hypergradient.parameters", name, expected)
    return {n: p for n, p in parameters.items() if n in settings.parameters and isinstance(p, Float)}


def slope(parameter: Float, value: float) -> float:
    """d value / d u at `value`."""
    if parameter.scale == "log":
        return value * (math.log(parameter.high) - math.log(parameter.low))
    if parameter.scale == "reverse_log":
        return (1 - value) * (math.log1p(-parameter.low) - math.log1p(-parameter.high))
    return parameter.high - parameter.low


def shifted(parameter: Float, value: float, change: float) -> float:
    """The value `change` away from `value` in unit coordinates, clipped to the parameter's bounds."""
    return parameter.from_unit(min(max(parameter.to_unit(value) + change, 0.0), 1.0))


class UnitAdam:
    """The direction in which each coordinate goes: Adam's (Kingma & Ba 2015), within [-1, 1].

    Adam for hyperparameters is Chandra et al. 2022, arXiv:1909.13371. Hypergradients differ by orders of
    magnitude between the first epoch and the last; only their sign and its constancy count here.
    """

    def __init__(self, names: Iterable[str], beta1: float = 0.8, beta2: float = 0.95) -> None:
        self.beta1, self.beta2 = beta1, beta2
        self._moments = {name: [0.0, 0.0, 0] for name in names}  # mean, mean square, count

    def direction(self, name: str, gradient: float) -> float:
        """Which way, and how surely, the loss falls: the coordinate goes by a step times this."""
        mean, square, count = self._moments[name]
        mean = self.beta1 * mean + (1 - self.beta1) * gradient
        square = self.beta2 * square + (1 - self.beta2) * gradient**2
        count += 1
        self._moments[name] = [mean, square, count]
        if square == 0:
            return 0.0
        ratio: float = mean / (1 - self.beta1**count) / math.sqrt(square / (1 - self.beta2**count))
        return max(-1.0, min(1.0, -ratio))

    def state_dict(self) -> dict[str, Any]:
        return {name: list(moments) for name, moments in self._moments.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Coordinates that `state` lacks start afresh."""
        self._moments.update((name, list(state[name])) for name in self._moments if name in state)
