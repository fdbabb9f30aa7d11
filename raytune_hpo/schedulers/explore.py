"""PBT's explore step, inside the space and in each parameter's own scale.

Ray Tune multiplies a value by 0.8 or 1.2 and walks out of the bounds (ray#5035); here a value moves
along its unit coordinate and is clipped there. Source of the method: Jaderberg et al. 2017,
"Population Based Training of Neural Networks", arXiv:1711.09846, appendix A.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import BELOW_ONE, Choice, Float, Parameter


def explore(
    space: SearchSpace,
    config: Mapping[str, Any],
    mutate: Collection[str],
    rng: np.random.Generator,
    *,
    resample_probability: float,
    perturbation: float,
) -> Config:
    """A perturbed copy of `config` that lies in the space.

    mutate: the paths that may change. A parameter that a change of its parent makes active is drawn
    afresh. perturbation: the distance moved, as a share of the parameter's scale.
    """
    values = space.values(config)
    for path in space.order:
        if path in mutate and path in values:
            parameter = space.parameters[path]
            if rng.random() < resample_probability:
                values[path] = parameter.from_unit(rng.random())
            else:
                values[path] = neighbour(parameter, values[path], rng, perturbation)
    # Every path gets a value, so that one that has just become active has one; `build` drops the rest.
    for path in space.paths:
        if path not in values:
            values[path] = space.parameters[path].from_unit(rng.random())
    return space.build(values)


def neighbour(parameter: Parameter, value: Any, rng: np.random.Generator, perturbation: float) -> Any:
    """A value beside `value`: one place on for ordered choices, `perturbation` of the scale for numbers.

    An unordered choice has no neighbours and stays (it changes when it is resampled).
    """
    up = bool(rng.integers(2))
    if isinstance(parameter, Choice):
        if not parameter.ordered:
            return value
        return parameter.value_at(min(max(parameter.index_of(value) + (1 if up else -1), 0), parameter.n - 1))
    u = parameter.to_unit(value)
    # A number of few values moves by one place at least, or small ranges would never move.
    step = perturbation if parameter.n is None else max(perturbation, 1.0 / parameter.n)
    if isinstance(parameter, Float):
        step = max(step, parameter.cell_length(value))
    return parameter.from_unit(min(max(u + (step if up else -step), 0.0), BELOW_ONE))
