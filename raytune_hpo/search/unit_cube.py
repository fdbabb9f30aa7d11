"""CubeEncoding: a search space as a Gaussian process sees it, computed for many points at once.

Notations
    D, n      the number of parameters, of points
    E         the number of columns of the encoding, E >= D
    units     [n, D] unit coordinates, in the order of `space.paths`
    snapped   [n, D] as `space.to_unit(space.from_unit(units))`: every Int and Choice at the middle of
              its cell, every inactive coordinate at 0.5
    codes     [n, E] snapped, but an unordered Choice with k > 2 options as k columns of 0 and 1/sqrt(2):
              two different options are at distance 1, and no option lies between two others

Points that are the same config are the same row, so a kernel over codes knows that they have the same
value (Garrido-Merchan & Hernandez-Lobato, "Dealing with categorical and integer-valued variables in
Bayesian Optimization with Gaussian processes", 2020).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from raytune_hpo.space import SearchSpace, Vector
from raytune_hpo.space.conditions import Condition

Mask = np.ndarray[Any, np.dtype[np.bool_]]


class CubeEncoding:
    """The encoding of one space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._column = {path: i for i, path in enumerate(space.paths)}
        parameters = [space.parameters[path] for path in space.paths]
        #: [D] the width of a cell of an Int or a Choice (of a log Int: the mean); 0 for a Float
        self.cells: Vector = np.array([1 / p.n if p.n else 0.0 for p in parameters])
        #: [D] the number of options of an unordered Choice with more than two, else 0
        self.categories: list[int] = [p.categories if p.categories > 2 else 0 for p in parameters]
        self.width: int = sum(k or 1 for k in self.categories)

    def snap(self, units: Vector) -> Vector:
        """units [n, D] -> snapped [n, D]."""
        snapped = np.array(units, dtype=np.float64)
        for path, column in self._column.items():
            snapped[:, column] = self.space.parameters[path].snap(snapped[:, column])
        active = self.active(snapped)
        for path, column in self._column.items():
            if path in active:
                snapped[~active[path], column] = 0.5
        return snapped

    def active(self, units: Vector) -> dict[str, Mask]:
        """path -> [n], for the parameters that have conditions: `space.is_active` of many points at once."""
        active: dict[str, Mask] = {}
        for path in self.space.order:
            conditions = self.space.parameters[path].conditions
            if conditions:
                holds = np.ones(len(units), dtype=bool)
                for condition in conditions:
                    holds &= self._holds(condition, units[:, self._column[condition.parent]])
                    if condition.parent in active:
                        holds &= active[condition.parent]
                active[path] = holds
        return active

    def _holds(self, condition: Condition, coordinates: Vector) -> Mask:
        # Snapped coordinates of a discrete parent repeat: each distinct one is decided once.
        parent = self.space.parameters[condition.parent]
        distinct, where = np.unique(coordinates, return_inverse=True)
        return np.array([condition.holds(parent.from_unit(float(u))) for u in distinct], dtype=bool)[where]

    def encode(self, snapped: Vector) -> Vector:
        """snapped [n, D] -> codes [n, E]. An inactive category is the centre of its options."""
        columns = []
        for column, k in enumerate(self.categories):
            if not k:
                columns.append(snapped[:, column : column + 1])
                continue
            one_hot = np.eye(k)[indices(snapped[:, column], k)]
            path = self.space.paths[column]
            if self.space.parameters[path].conditions:
                one_hot[~self.active(snapped)[path]] = 1 / k
            columns.append(one_hot / math.sqrt(2))
        return np.concatenate(columns, axis=1)


def indices(units: Vector, k: int) -> Any:
    """The index of the option of a Choice of k options at each of its unit coordinates."""
    return np.floor(units * k).astype(int).clip(0, k - 1)
