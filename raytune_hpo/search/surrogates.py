"""Surrogates of Bayesian optimization: what believes where the good configs are, and how surely.

gp          a Gaussian process with a Matern 5/2 kernel, its variance and its length scales at the maximum
            of their posterior
sampled_gp  the same process under DRAWS kernels that slice sampling draws from that posterior, so that
            the acquisition is averaged over them: Spearmint's way (Snoek, Larochelle & Adams, "Practical
            Bayesian Optimization of Machine Learning Algorithms", 2012, arXiv:1206.2944)
forest      extremely randomized trees (scikit-learn's): SMAC's model (Hutter, Hoos & Leyton-Brown,
            "Sequential Model-Based Optimization for General Algorithm Configuration", 2011), with the
            random thresholds of scikit-optimize's forest_minimize, which vary between the points

A surrogate works in two steps. `learn` is the costly one, taken at certain numbers of finished trials only:
the hyperparameters of the kernel. `condition` is taken at every suggestion: a model of the targets, given
those. Neither keeps anything, and the randomness is an argument.

Notations: as in `unit_cube`, with
    targets   [n] to be maximized, of unit variance
    S         the number of models that an acquisition is averaged over: 1, for sampled_gp DRAWS
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from raytune_hpo.space import Vector

NOISE = 1e-4  # variance of the noise in the targets' units
PRIOR_LENGTH, PRIOR_SPREAD = 0.5, 1.0  # median and log-standard deviation of the prior on length scales
VARIANCES, LENGTHS = (0.05, 20.0), (0.03, 10.0)  # bounds
FIT_EVALUATIONS, FEWEST_EVALUATIONS, COLUMN_EVALUATIONS = 30, 6, 6000
DRAWS = 8  # kernels of sampled_gp
UPDATES = 6  # one-dimensional slice updates between two draws
SLICE = 1.5  # the first guess of a slice's width, in the logarithm of a hyperparameter
TREES = 30
LEAF = 1  # least number of trials in a leaf
SPLIT = 3

#: codes [m, E] -> mean [m], deviation [m]
Model = Callable[[Vector], tuple[Vector, Vector]]


class Surrogate(ABC):
    """One kind of model. observations, columns: as many finished trials, and columns of their codes, as it can afford
    in each suggestion."""

    observations: ClassVar[int] = 200
    columns: ClassVar[int] = 1000

    @abstractmethod
    def learn(self, codes: Vector, targets: Vector, rng: np.random.Generator) -> tuple[Any, ...]:
        """What is expensive to learn from codes [n, E] and targets [n]: for each of S models, its hyperparameters."""

    @abstractmethod
    def condition(self, learned: Any, codes: Vector, targets: Vector, rng: np.random.Generator) -> Model:
        """One model of codes [n, E] and targets [n], given what was learned."""

    def models(
        self, learned: tuple[Any, ...], codes: Vector, targets: Vector, pending: Vector, rng: np.random.Generator
    ) -> list[Model]:
        """The S models. Pending trials [p, E] are believed to turn out as each model predicts (the kriging
        believer of Ginsbourger, Le Riche & Carraro, 2010)."""
        made = []
        if not len(targets):
            return [_nothing_seen(pending)]
        for hyperparameters in learned:
            model = self.condition(hyperparameters, codes, targets, rng)
            if len(pending):
                believed = np.concatenate([targets, model(pending)[0]])
                model = self.condition(hyperparameters, np.concatenate([codes, pending]), believed, rng)
            made.append(model)
        return made


def _nothing_seen(pending: Vector) -> Model:
    """Of targets whose mean is 0, where all that is known is which ones will be known, [p, E]."""
    if not len(pending):
        return lambda points: (np.zeros(len(points)), np.ones(len(points)))
    theta = np.concatenate([[0.0], np.full(pending.shape[1], math.log(PRIOR_LENGTH))])
    return GaussianProcess().condition(theta, pending, np.zeros(len(pending)), np.random.default_rng(0))


class GaussianProcess(Surrogate):
    """A hyperparameter vector is theta = log [variance, length scale of each column], [1 + E]."""

    def learn(self, codes: Vector, targets: Vector, rng: np.random.Generator) -> tuple[Any, ...]:
        return (fit_theta(codes, targets),)

    def condition(self, learned: Any, codes: Vector, targets: Vector, rng: np.random.Generator) -> Model:
        from scipy.linalg import solve_triangular

        theta: Vector = learned
        factor, weights = solve(matern(theta, codes, codes), targets)
        inverse = solve_triangular(factor, np.eye(len(targets)), lower=True, check_finite=False)

        def predict(points: Vector) -> tuple[Vector, Vector]:
            cross = matern(theta, points, codes)
            explained = np.square(cross @ inverse.T).sum(axis=1)
            return cross @ weights, np.sqrt(np.maximum(math.exp(theta[0]) - explained, 0.0))

        return predict


class SampledGaussianProcess(GaussianProcess):
    """The chain starts at the maximum of the posterior, so that it needs no time to get there."""

    observations, columns = 100, 400

    def learn(self, codes: Vector, targets: Vector, rng: np.random.Generator) -> tuple[Any, ...]:
        def log_posterior(theta: Vector) -> float:
            return log_likelihood(theta, codes, targets) + log_prior(theta)[0]

        draws = [fit_theta(codes, targets)]
        low, high = np.log([VARIANCES, *[LENGTHS] * codes.shape[1]]).T
        for _ in range(DRAWS):
            draws.append(slice_sample(log_posterior, draws[-1], low, high, rng, UPDATES))
        return tuple(draws[1:])


class Forest(Surrogate):
    """Its variance is that of the trees' means and that within their leaves (Hutter et al. 2011, section 4.1)."""

    def learn(self, codes: Vector, targets: Vector, rng: np.random.Generator) -> tuple[Any, ...]:
        return (None,)

    def condition(self, learned: Any, codes: Vector, targets: Vector, rng: np.random.Generator) -> Model:
        from sklearn import config_context
        from sklearn.tree import ExtraTreeRegressor

        seeds = rng.integers(2**31, size=TREES)
        rows = np.asarray(codes, dtype=np.float32)
        # One by one: the ensemble's own way of making thirty small trees costs twice as much.
        with config_context(assume_finite=True, skip_parameter_validation=True):
            trees = [
                ExtraTreeRegressor(min_samples_leaf=LEAF, min_samples_split=SPLIT, random_state=int(seed))
                .fit(rows, targets, check_input=False)
                .tree_
                for seed in seeds
            ]

        def predict(points: Vector) -> tuple[Vector, Vector]:
            rows = np.asarray(points, dtype=np.float32)
            leaves = [tree.apply(rows) for tree in trees]
            means = np.array([tree.value[leaf, 0, 0] for tree, leaf in zip(trees, leaves, strict=True)])
            within = np.array([tree.impurity[leaf] for tree, leaf in zip(trees, leaves, strict=True)])
            return means.mean(axis=0), np.sqrt(np.maximum(within, NOISE).mean(axis=0) + means.var(axis=0))

        return predict


SURROGATES: dict[str, Surrogate] = {
    "gp": GaussianProcess(),
    "sampled_gp": SampledGaussianProcess(),
    "forest": Forest(),
}


def matern(theta: Vector, a: Vector, b: Vector) -> Vector:
    """The covariances [n, m] of the function's values at codes [n, E] and [m, E]: Matern 5/2."""
    distances, decay = _decay(theta, a, b)
    result: Vector = (1.0 + distances + distances**2 / 3.0) * decay
    return result


def _decay(theta: Vector, a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """The distances [n, m], and the factor that falls with them exponentially."""
    from scipy.spatial.distance import cdist

    lengths = np.exp(theta[1:])
    distances: Vector = math.sqrt(5.0) * cdist(a / lengths, b / lengths)
    return distances, math.exp(theta[0]) * np.exp(-distances)


def solve(covariance: Vector, targets: Vector) -> tuple[Vector, Vector]:
    """The Cholesky factor [n, n] of the covariance of the targets [n], of the function's [n, n]; and its inverse times
    the targets [n]."""
    from scipy.linalg import cho_solve, cholesky

    noisy = covariance.copy()
    noisy[np.diag_indices_from(noisy)] += NOISE
    factor = cholesky(noisy, lower=True, overwrite_a=True, check_finite=False)
    return factor, cho_solve((factor, True), targets, check_finite=False)


def log_likelihood(theta: Vector, codes: Vector, targets: Vector) -> float:
    """The logarithm of the marginal likelihood of the targets [n], up to a constant."""
    return _log_likelihood(*solve(matern(theta, codes, codes), targets), targets)


def _log_likelihood(factor: Vector, weights: Vector, targets: Vector) -> float:
    return -0.5 * float(targets @ weights) - float(np.log(np.diagonal(factor)).sum())


def log_likelihood_slopes(theta: Vector, codes: Vector, targets: Vector) -> tuple[float, Vector]:
    """`log_likelihood`, and its gradient [1 + E] (Rasmussen & Williams 2006, equation 5.9).

    Of the kernel's derivative by the logarithm of a length scale, what differs from column to column is the squared
    distance along it, whose weighted sum over all pairs is two matrix products: no array [n, n, E].
    """
    from scipy.linalg import cho_solve

    distances, decay = _decay(theta, codes, codes)
    rising = 1.0 + distances
    covariance = (rising + distances**2 / 3.0) * decay
    factor, weights = solve(covariance, targets)
    surplus = np.outer(weights, weights) - cho_solve((factor, True), np.eye(len(targets)), check_finite=False)
    pairs = (5.0 / 3.0) * surplus * rising * decay
    scaled = codes / np.exp(theta[1:])
    of_lengths = pairs.sum(axis=0) @ scaled**2 - (scaled * (pairs @ scaled)).sum(axis=0)
    slopes = np.concatenate([[0.5 * float((surplus * covariance).sum())], of_lengths])
    return _log_likelihood(factor, weights, targets), slopes


def log_prior(theta: Vector) -> tuple[float, Vector]:
    """The logarithm, up to a constant, of the prior at theta = log [variance, length scales ...], and its gradient."""
    away = (theta - math.log(PRIOR_LENGTH)) / PRIOR_SPREAD
    away[0] = theta[0] / PRIOR_SPREAD  # the variance, with median 1
    return -0.5 * float(away @ away), -away / PRIOR_SPREAD


def fit_theta(codes: Vector, targets: Vector) -> Vector:
    """The theta [1 + E] of most posterior density for codes [n, E], targets [n]."""
    from scipy.optimize import minimize

    def posterior(theta: Vector) -> tuple[float, Vector]:
        value, slopes = log_likelihood_slopes(theta, codes, targets)
        prior, prior_slopes = log_prior(theta)
        return -value - prior, -slopes - prior_slopes

    columns = codes.shape[1]
    # One costs as much as there are columns: within about a second for bayesopt's most.
    evaluations = min(FIT_EVALUATIONS, max(FEWEST_EVALUATIONS, COLUMN_EVALUATIONS // columns))
    start = np.concatenate([[0.0], np.full(columns, math.log(PRIOR_LENGTH))])
    bounds = np.log([VARIANCES, *[LENGTHS] * columns])
    found = minimize(posterior, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxfun": evaluations})
    theta: Vector = found.x
    return theta


def slice_sample(
    log_density: Callable[[Vector], float],
    start: Vector,
    low: Vector,
    high: Vector,
    rng: np.random.Generator,
    updates: int,
) -> Vector:
    """A state [d] of the Markov chain that leaves the density on the box [low, high] as it is, `updates` steps
    from `start` [d]; each moves one coordinate, chosen at random.

    Slice sampling with stepping out and shrinkage (Neal 2003, "Slice sampling", section 4); a slice that
    reaches the box's end is cut there, since the density is 0 beyond it.
    """
    state = np.array(start, dtype=np.float64).clip(low, high)
    height = log_density(state)
    for _ in range(updates):
        axis = int(rng.integers(len(state)))

        def at(x: float, axis: int = axis, state: Vector = state) -> float:
            point = state.copy()
            point[axis] = x
            return log_density(point)

        level = height - rng.exponential()
        here = float(state[axis])
        left = max(here - SLICE * rng.random(), float(low[axis]))
        right = min(left + SLICE, float(high[axis]))
        while left > low[axis] and at(left) > level:
            left = max(left - SLICE, float(low[axis]))
        while right < high[axis] and at(right) > level:
            right = min(right + SLICE, float(high[axis]))
        while right - left > 1e-9:
            x = left + (right - left) * rng.random()
            found = at(x)
            if found > level:
                state = state.copy()
                state[axis], height = x, found
                break
            left, right = (x, right) if x < here else (left, x)
    return state
