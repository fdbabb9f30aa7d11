"""Functional ANOVA of a random forest: which parameters, and which pairs, make its predictions vary.

Hutter, Hoos & Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014: a forest
is fitted to the trials, the variance of each tree over the whole space is split into main effects and
interactions, and the shares are averaged over the trees. The paper sums over the leaves' boxes, which holds where
parameters are independent; here, where a condition makes one parameter decide whether another counts, the same
shares are estimated by Monte Carlo (Sobol indices with frozen coordinates: Saltelli et al., "Variance based
sensitivity analysis of model output", Computer Physics Communications 181, 2010, table 2, estimator b).

Notations
    n, D      trials, parameters
    P         points of the Monte Carlo estimate
    T         trees
    U         [P, D] unit coordinates, independent and uniform: those of an inactive parameter change nothing
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.seeding import derive_seed, generator
from raytune_hpo.space import SearchSpace, Vector

TREES = 64
POINTS = 512


@dataclass(frozen=True)
class Share:
    """A share of the variance, averaged over the trees, and its standard deviation over them.

    Each tree saw its own bootstrap resample of the trials, so the deviation holds what the choice of trials
    does to one tree; that of the average is smaller.
    """

    share: float
    deviation: float


@dataclass(frozen=True)
class Anova:
    """r2: of each trial as predicted by the trees that did not see it (out of bag). main: by path; pairs: what two
    parameters do together beyond what each does alone."""

    r2: float
    main: dict[str, Share]
    pairs: dict[tuple[str, str], Share]


def forest_anova(space: SearchSpace, units: Vector, y: Vector, *, seed: int, pairs: bool = True) -> Anova:
    """units: [n, D] as `space.to_unit`; y: [n] finite values that are not all equal."""
    from scipy.stats import qmc
    from sklearn.ensemble import RandomForestRegressor

    encoding = CubeEncoding(space)
    D = len(space.paths)
    forest = RandomForestRegressor(TREES, oob_score=True, random_state=derive_seed(seed, "importance", "forest"))
    forest.fit(encoding.encode(encoding.snap(units)), y)
    rng = generator(seed, "importance", "points")
    U = qmc.Sobol(2 * D, rng=rng).random(POINTS)
    A, B = U[:, :D], U[:, D:]
    subsets: list[tuple[int, ...]] = [(j,) for j in range(D)]
    subsets += list(combinations(range(D), 2)) if pairs else []
    points = [A, B, *(_frozen(A, B, subset) for subset in subsets)]
    codes = encoding.encode(encoding.snap(np.concatenate(points))).astype(np.float32)
    trees = [tree.predict(codes).reshape(len(points), POINTS) for tree in forest.estimators_]
    closed = np.array([_closed_shares(values) for values in trees if np.ptp(values[:2]) > 0])  # [T, subsets]
    if not len(closed):
        closed = np.zeros((1, len(subsets)))
    by_subset = dict(zip(subsets, closed.T, strict=True))
    names = space.paths
    return Anova(
        r2=float(forest.oob_score_),
        main={names[j]: _share(by_subset[j,]) for j in range(D)},
        pairs={
            (names[i], names[j]): _share(by_subset[i, j] - by_subset[i,] - by_subset[j,])
            for i, j in (s for s in subsets if len(s) == 2)
        },
    )


def _frozen(A: Vector, B: Vector, subset: Sequence[int]) -> Vector:
    """B with the coordinates in `subset` from A."""
    mixed = B.copy()
    mixed[:, list(subset)] = A[:, list(subset)]
    return mixed


def _closed_shares(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """values: [2 + subsets, P] at A, B and the mixed points -> [subsets] the variance that a subset alone explains."""
    at_a, at_b, mixed = values[0], values[1], values[2:]
    both = values[:2]
    shares: np.ndarray[Any, Any] = ((at_a - both.mean()) * (mixed - at_b)).mean(1) / both.var()
    return shares


def _share(over_trees: np.ndarray[Any, Any]) -> Share:
    return Share(float(over_trees.mean()), float(over_trees.std()))
