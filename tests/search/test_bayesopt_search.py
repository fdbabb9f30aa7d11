"""BayesOptSearch: the encoding of the cube, robust targets, pending trials, the model's limits."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raytune_hpo.search.config_model import refit_at, selected, targets_of
from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make, tell

SPACE = SearchSpace(
    {
        "k": Choice(["a", "b", "c"]),
        "x": Float(1e-3, 1, scale="log").when("k", "!=", "a"),
        "n": Int(1, 300, scale="log").when("x", ">", 0.1),
        "p": Int(1, 64, scale="power_of_two"),
        "o": Choice([1, 2, 3, 4], ordered=True),
        "two": Choice([True, False]).when("n", ">=", 10),
        "many": Choice(list("uvwxyz")).when("two", "==", True),
    }
)


def test_snapping_is_the_way_through_the_config_and_back():
    encoding = CubeEncoding(SPACE)
    units = np.random.default_rng(0).random((500, len(SPACE)))
    expected = np.array([SPACE.to_unit(SPACE.from_unit(u)) for u in units])
    assert encoding.snap(units) == pytest.approx(expected, abs=1e-12)
    assert encoding.snap(expected) == pytest.approx(expected, abs=1e-12)


def test_codes():
    encoding = CubeEncoding(SPACE)
    units = encoding.snap(np.random.default_rng(0).random((300, len(SPACE))))
    codes = encoding.encode(units)
    assert codes.shape == (300, encoding.width)
    assert encoding.width == 3 + 1 + 1 + 1 + 1 + 1 + 6
    assert codes[:, :3].sum(axis=1) == pytest.approx(1 / math.sqrt(2))
    a, b = (codes[units[:, 0] == u][0, :3] for u in (0.5 / 3, 2.5 / 3))
    assert np.linalg.norm(a - b) == pytest.approx(1)
    same = {tuple(u): tuple(c) for u, c in zip(units, codes, strict=True)}
    assert len(same) == len(set(same.values()))


def test_targets_are_ranks_with_failures_last():
    targets = targets_of(np.array([1e300, 2.0, math.inf, -1e300, 2.0, math.inf]))
    assert targets[3] > targets[1] == targets[4] > targets[0] > targets[2] == targets[5]
    assert abs(targets).max() < 4
    assert targets.std() == pytest.approx(1)
    assert (targets_of(np.full(5, math.inf)) == 0).all()
    squashed = targets_of(np.array([-math.log(i + 1) for i in range(20)]))
    assert squashed == pytest.approx(targets_of(np.array([-float(i) for i in range(20)])))


def test_refits_are_at_fixed_counts():
    counts = (10, 39, 40, 44, 45, 119, 120, 139, 140, 1000)
    assert [refit_at(n) for n in counts] == [10, 39, 40, 40, 45, 115, 120, 120, 140, 1000]


def test_pending_trials_push_suggestions_away():
    space = SearchSpace({"x": Float(0, 1)})
    algorithm = make("bayesopt", {"n_initial": 5}, space, mode="min", seed=0)
    for i in range(8):
        config = algorithm.suggest(f"t{i}")
        tell(algorithm, f"t{i}", math.sin(9 * config["x"]) + config["x"])
    xs = sorted(algorithm.suggest(f"p{i}")["x"] for i in range(6))
    assert min(b - a for a, b in itertools.pairwise(xs)) >= 1e-3


def test_the_model_is_bounded():
    losses = np.array([float((7 * i) % 100) for i in range(100)])
    chosen = selected(losses, 20)
    assert len(chosen) == 20
    assert sorted(losses[chosen])[:10] == list(range(10))
    assert chosen[-1] == 99
    assert chosen == sorted(chosen)


def test_nothing_is_printed(capfd):
    algorithm = make("bayesopt", {"n_initial": 3}, SPACE, mode="min", seed=0)
    for i in range(15):
        algorithm.suggest(f"t{i}")
        tell(algorithm, f"t{i}", 1.0)
    assert capfd.readouterr() == ("", "")
