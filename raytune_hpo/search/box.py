"""Box: a part of a search space, drawn from as the whole space is, and shrunk round the best of what was drawn.

Each parameter's interval lies in unit coordinates, so in its own scale. Of an unordered Choice the box holds a
set of options instead.

How a box is shrunk, parameter by parameter:

- A number, or an ordered Choice. It matters if the losses rise with the distance from the elite: if Spearman's rank
  correlation of both, over all trials, is above GATE standard errors, 1 / sqrt(n - 1). If not, the interval stays.
- If it matters, and the elite's standard deviation is a share r < 1 of an even spread's, side / sqrt(12), the new side
  is r^2 of the old one, but at least `shrink` of it and at least a cell. (Squared, since the elite is the best in
  all parameters together: it lies closer round the optimum than it would by each one alone is spread. Measured, r^2
  gave the lower regrets.) Two good regions far apart, or a valley across the box, leave a parameter wide.
- The new interval is centred on the elite's mean, if need be beyond the old box, never outside the cube.
- An unordered Choice loses an option if none of the elite has it, and that would happen by chance, were all options
  the same, with a probability of at most CHANCE (hypergeometric).
- A parameter that fewer than FEWEST of the elite have active stays as it is: an inactive coordinate says nothing.

Notations
    D      the number of parameters
    n, m   the number of trials; of the elite, which are the first m of them
    units  [n, D] unit coordinates of the trials, the best first; NaN where inactive
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.space import SearchSpace, Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Parameter

GATE = 1.0
CHANCE = 0.1
FEWEST = 3


@dataclass(frozen=True)
class Box:
    """low, high: [D], 0 <= low < high <= 1. options: path -> the indices that are left of an unordered Choice."""

    space: SearchSpace
    low: Vector
    high: Vector
    options: Mapping[str, tuple[int, ...]]

    @classmethod
    def whole(cls, space: SearchSpace) -> Box:
        options = {path: tuple(range(p.categories)) for path, p in space.parameters.items() if p.categories}
        return cls(space, np.zeros(len(space)), np.ones(len(space)), options)

    def config(self, point: Vector) -> Config:
        """The config at `point` [D] in [0, 1): the cube is mapped onto the box."""
        units = self.low + point * (self.high - self.low)
        for path, left in self.options.items():
            column, parameter = self.space.paths.index(path), self.space.parameters[path]
            assert isinstance(parameter, Choice)
            units[column] = (left[int(point[column] * len(left))] + 0.5) / parameter.n
        return self.space.from_unit(units)

    def values(self) -> dict[str, list[Any]]:
        """path -> [lowest, highest value], or the options that are left, as JSON data."""
        out: dict[str, list[Any]] = {}
        for column, (path, parameter) in enumerate(self.space.parameters.items()):
            first, last = self.low[column], math.nextafter(self.high[column], 0.0)
            if path in self.options:
                assert isinstance(parameter, Choice)
                out[path] = [parameter.value_at(i) for i in self.options[path]]
            elif isinstance(parameter, Choice):
                out[path] = [
                    parameter.value_at(i) for i in range(int(first * parameter.n), int(last * parameter.n) + 1)
                ]
            else:
                out[path] = [parameter.from_unit(float(u)) for u in (first, last)]
        return out

    def shrunk(self, units: Vector, m: int, shrink: float) -> Box:
        """The box round the elite, each of its sides at least `shrink` of what it was."""
        low, high, options = self.low.copy(), self.high.copy(), dict(self.options)
        for column, (path, parameter) in enumerate(self.space.parameters.items()):
            active = ~np.isnan(units[:, column])
            coordinates, elite = units[active, column], int(active[:m].sum())
            if elite < FEWEST:
                continue
            if path in options:
                options[path] = _options_left(parameter, options[path], coordinates, elite)
            else:
                old = float(low[column]), float(high[column])
                low[column], high[column] = _interval(parameter, old, coordinates, elite, shrink)
        return dataclasses.replace(self, low=low, high=high, options=options)


def _interval(
    parameter: Parameter, old: tuple[float, float], coordinates: Vector, m: int, shrink: float
) -> tuple[float, float]:
    """coordinates: [n], the best trial's first."""
    best, side = coordinates[:m], old[1] - old[0]
    middle = float(best.mean())
    # A value of an Int or ordered Choice stands for all of its cell.
    cell_squared = float(np.mean([parameter.cell_length(parameter.from_unit(float(u))) ** 2 for u in best]))
    ratio = math.sqrt(12 * best.var(ddof=1) + cell_squared) / side
    if ratio >= 1 or rank_correlation(np.abs(coordinates - middle)) * math.sqrt(len(coordinates) - 1) < GATE:
        return old
    new = min(max(ratio**2 * side, shrink * side, math.sqrt(cell_squared)), side)
    middle = min(max(middle, new / 2), 1 - new / 2)
    return max(middle - new / 2, 0.0), min(middle + new / 2, 1.0)


def rank_correlation(values: Vector) -> float:
    """Spearman's correlation of values [n] with their positions; 0 if all are equal.

    (Here, as scipy.stats takes 1.7 s to import.)
    """
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(counts) == 1:
        return 0.0
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def _options_left(parameter: Parameter, left: tuple[int, ...], coordinates: Vector, m: int) -> tuple[int, ...]:
    """coordinates: [n], the best trial's first."""
    assert parameter.n is not None
    drawn = [int(u * parameter.n) for u in coordinates]
    n, kept = len(drawn), []
    for option in left:
        by_chance = math.comb(n - drawn.count(option), m) / math.comb(n, m)
        if option in drawn[:m] or by_chance > CHANCE:
            kept.append(option)
    return tuple(kept)
