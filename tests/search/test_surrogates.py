"""The surrogates: each model against another way to the same numbers, and the slice sampler against a known density."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, truncnorm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from raytune_hpo import search
from raytune_hpo.errors import ExperimentError
from raytune_hpo.search import surrogates
from raytune_hpo.search.config_model import targets_of
from raytune_hpo.search.surrogates import SURROGATES
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Float
from raytune_hpo.testing.searchers import make, tell

RNG = np.random.default_rng(0)
CODES = RNG.random((25, 3))
TARGETS = np.sin(5 * CODES[:, 0]) + 0.5 * CODES[:, 1]
POINTS = RNG.random((40, 3))
THETA = np.log([1.7, 0.3, 0.6, 2.0])
EVERY = pytest.mark.parametrize("kind", SURROGATES)


def models(kind, pending=None, seed=0):
    surrogate, rng = SURROGATES[kind], np.random.default_rng(seed)
    learned = surrogate.learn(CODES, TARGETS, rng)
    return surrogate.models(learned, CODES, TARGETS, CODES[:0] if pending is None else pending, rng)


def test_the_gaussian_process_is_scikit_learns():
    kernel = ConstantKernel(1.7) * Matern([0.3, 0.6, 2.0], nu=2.5)
    theirs = GaussianProcessRegressor(kernel, alpha=surrogates.NOISE, optimizer=None).fit(CODES, TARGETS)
    mean, deviation = SURROGATES["gp"].condition(THETA, CODES, TARGETS, RNG)(POINTS)
    expected = theirs.predict(POINTS, return_std=True)
    assert mean == pytest.approx(expected[0], abs=1e-8)
    assert deviation == pytest.approx(expected[1], abs=1e-6)
    constant = 0.5 * len(CODES) * math.log(2 * math.pi)
    likelihood = surrogates.log_likelihood(THETA, CODES, TARGETS)
    of_theirs, slopes_of_theirs = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)
    assert likelihood - constant == pytest.approx(of_theirs)
    value, slopes = surrogates.log_likelihood_slopes(THETA, CODES, TARGETS)
    assert value == likelihood
    assert slopes == pytest.approx(slopes_of_theirs)


def log_posterior(theta):
    return surrogates.log_likelihood(theta, CODES, TARGETS) + surrogates.log_prior(theta)[0]


def test_the_fit_is_the_maximum_of_the_posterior():
    best = surrogates.fit_theta(CODES, TARGETS)
    for axis in range(4):
        for step in (-0.2, 0.2):
            beside = (best + step * np.eye(4)[axis]).clip(*np.log([surrogates.LENGTHS]).T)
            assert log_posterior(beside) <= log_posterior(best) + 1e-9
    assert best[3] > best[1]  # the third column does not matter, the first does
    value, gradient = surrogates.log_prior(THETA)
    for axis in range(4):
        beside = surrogates.log_prior(THETA + 1e-6 * np.eye(4)[axis])[0]
        assert (beside - value) / 1e-6 == pytest.approx(gradient[axis], abs=1e-4)


def test_slice_sampling_leaves_the_density_as_it_is():
    """A correlated normal, and a normal cut off by the box, whose mean and deviation scipy knows."""
    precision = np.linalg.inv([[1.0, 0.6], [0.6, 1.0]])
    rng = np.random.default_rng(1)
    low, high = np.array([-20.0, -20.0]), np.array([20.0, 20.0])
    state, found = np.zeros(2), []
    for _ in range(4000):
        state = surrogates.slice_sample(lambda x: -0.5 * float(x @ precision @ x), state, low, high, rng, 2)
        found.append(state)
    assert np.mean(found, axis=0) == pytest.approx([0, 0], abs=0.12)
    assert np.cov(np.array(found).T) == pytest.approx(np.array([[1.0, 0.6], [0.6, 1.0]]), abs=0.12)
    state, cut = np.zeros(1), []
    for _ in range(4000):
        state = surrogates.slice_sample(
            lambda x: -0.5 * float(x[0] ** 2), state, np.array([-0.5]), np.array([3.0]), rng, 1
        )
        cut.append(state[0])
    expected = truncnorm(-0.5, 3.0)
    assert min(cut) >= -0.5
    assert np.mean(cut) == pytest.approx(expected.mean(), abs=0.06)
    assert np.std(cut) == pytest.approx(expected.std(), abs=0.06)


def test_the_sampled_kernels_are_of_the_posterior():
    draws = np.concatenate(
        [SURROGATES["sampled_gp"].learn(CODES, TARGETS, np.random.default_rng(seed)) for seed in range(12)]
    )
    assert len(draws) == 12 * surrogates.DRAWS
    assert len({tuple(d) for d in draws}) > 90
    bounds = np.log([surrogates.VARIANCES, *[surrogates.LENGTHS] * 3])
    assert (draws >= bounds[:, 0] - 1e-12).all()
    assert (draws <= bounds[:, 1] + 1e-12).all()
    best = log_posterior(surrogates.fit_theta(CODES, TARGETS))
    away = [best - log_posterior(d) for d in draws]
    # Of a normal density with 4 dimensions the mean of this is 2; of a chain five times as long it is 2.1 here.
    assert 1.3 < np.mean(away) < 2.7
    assert draws[:, 3].mean() > draws[:, 1].mean() + 0.5


def test_the_forests_deviation_is_between_the_trees_and_within_their_leaves():
    forest = SURROGATES["forest"]
    one_place = forest.condition(None, np.zeros((4, 2)), np.array([-1.0, -1.0, 1.0, 1.0]), np.random.default_rng(0))
    mean, deviation = one_place(np.zeros((1, 2)))
    assert (mean[0], deviation[0]) == pytest.approx((0.0, 1.0))
    ends = np.repeat([[0.0], [1.0]], 4, axis=0)
    two = forest.condition(None, ends, np.repeat([-1.0, 1.0], 4), np.random.default_rng(0))
    mean, deviation = two(np.array([[0.0], [0.5], [1.0]]))
    assert mean[[0, 2]] == pytest.approx([-1.0, 1.0])
    assert deviation[[0, 2]] == pytest.approx(math.sqrt(surrogates.NOISE))
    assert abs(mean[1]) < 0.6
    assert deviation[1] > 0.8


@EVERY
def test_a_model_knows_its_data_and_its_ignorance(kind):
    for model in models(kind):
        mean, deviation = model(CODES)
        assert np.corrcoef(mean, TARGETS)[0, 1] > 0.9
        assert deviation.mean() < 0.5 * model(POINTS * 3)[1].mean() or kind == "forest"
        assert np.isfinite(deviation).all()


@EVERY
def test_pending_trials_are_believed(kind):
    pending = np.array([[0.9, 0.1, 0.1]])
    for before, after in zip(models(kind), models(kind, pending), strict=True):
        if kind != "forest":  # another forest grows on other data
            assert after(pending)[0] == pytest.approx(before(pending)[0], abs=1e-3)
            assert after(pending)[1][0] < 0.4 * before(pending)[1][0]
        assert after(pending)[0] == pytest.approx(before(pending)[0], abs=0.3)


@EVERY
def test_the_same_generator_gives_the_same_model(kind):
    one, two, other = (np.array([m(POINTS) for m in models(kind, seed=seed)]) for seed in (1, 1, 2))
    assert (one == two).all()
    assert (one == other).all() == (kind == "gp")


def test_the_acquisition_is_the_mean_over_the_kernels():
    space = SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    algorithm = make("bayesopt", {"surrogate": "sampled_gp", "n_initial": 5}, space, mode="min", seed=0)
    for i in range(12):
        config = algorithm.suggest(f"t{i}")
        tell(algorithm, f"t{i}", math.sin(5 * config["x"]) + config["y"])
    finished, points = algorithm.observed(), POINTS[:, :2]
    codes, targets = algorithm._model.codes(finished), targets_of(np.array([s.loss for s in finished]))
    expected = []
    for theta in algorithm._model._learned(algorithm.past, timed=False):
        mean, deviation = SURROGATES["gp"].condition(theta, codes, targets, RNG)(points)
        gain = mean - targets.max() - algorithm.options.xi
        expected.append(gain * norm.cdf(gain / deviation) + deviation * norm.pdf(gain / deviation))
    found = algorithm._acquisition(algorithm._model.belief(algorithm.past, (), RNG), ())(points)
    assert len(expected) == surrogates.DRAWS
    assert found == pytest.approx(np.mean(expected, axis=0))


def test_kernels_are_learned_at_fixed_numbers_of_trials_whenever_that_is_asked():
    space = SearchSpace({"x": Float(0.0, 1.0)})

    def algorithm(observed):
        made = make("bayesopt", {"surrogate": "sampled_gp", "n_initial": 5}, space, mode="min", seed=0)
        for i in range(observed):
            made.replay(f"t{i}", {"x": (i * 0.37) % 1})
            tell(made, f"t{i}", math.sin(i))
        return made

    def learned(observed):
        made = algorithm(observed)
        return np.array(made._model._learned(made.past, timed=False))

    assert learned(35) == pytest.approx(learned(39))  # after 140 of 156 marks: a trial has passed four levels
    assert learned(35) != pytest.approx(learned(40))


def test_a_wrong_surrogate_is_one_error():
    with pytest.raises(ExperimentError, match=r"searcher\.surrogate.*gp, forest, sampled_gp.*'forest'"):
        search.check_options("bayesopt", {"surrogate": "forrest"})
