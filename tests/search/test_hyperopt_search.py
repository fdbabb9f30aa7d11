"""HyperOptSearch: each parameter's label, conditions in the documents, ranks for losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hyperopt.pyll.stochastic import sample

from raytune_hpo.search import hyperopt_search
from raytune_hpo.search.hyperopt_search import from_label, label, to_label
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make, tell

DISTRIBUTIONS = [
    (Float(-1, 2), "uniform"),
    (Float(1e-5, 1, scale="log"), "loguniform"),
    (Float(0.0, 0.999, scale="reverse_log"), "loguniform"),
    (Int(-3, 9, step=3), "quniform"),
    (Int(16, 256, scale="power_of_two"), "quniform"),
    (Int(1, 500, scale="log"), "qloguniform"),
    (Choice(["a", "b", None]), "randint"),
    (Choice(["s", "m", "l"], ordered=True), "quniform"),
]


def draw(parameter, count):
    rng = np.random.default_rng(0)
    return [from_label(parameter, sample(label("p", parameter), rng=rng)) for _ in range(count)]


@pytest.mark.parametrize(("parameter", "distribution"), DISTRIBUTIONS, ids=str)
def test_labels_are_native_and_invertible(parameter, distribution):
    node = label("p", parameter)
    assert f" {distribution}" in str(node)
    for value in draw(parameter, 200):
        assert parameter.accepts(value)
        again = from_label(parameter, to_label(parameter, value))
        assert again == (pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else value)
        assert type(again) is type(value)


@pytest.mark.parametrize("parameter", [p for p, _ in DISTRIBUTIONS], ids=str)
def test_the_prior_is_uniform_in_the_unit_cube(parameter):
    units = [parameter.to_unit(v) for v in draw(parameter, 1500)]
    assert np.mean(units) == pytest.approx(0.5, abs=0.04)
    if parameter.n is not None and parameter.n < 10:
        counts = np.unique(units, return_counts=True)[1]
        assert len(counts) == parameter.n
        assert counts.min() / counts.max() > 0.75  # the ends are not half as likely


def built(space, history):
    algorithm = make("hyperopt", {"n_initial": 1}, space, mode="min", seed=0)
    for i, (config, value) in enumerate(history):
        algorithm.replay(f"t{i}", config)
        if value != "pending":
            tell(algorithm, f"t{i}", value)
    return algorithm


def test_documents_hold_active_labels_and_ranks():
    space = SearchSpace({"k": Choice(["a", "b"]), "x": Float(0, 1).when("k", "==", "b")})
    history = [
        ({"k": "a"}, 1e300),
        ({"k": "b", "x": 0.5}, -1e300),
        ({"k": "b", "x": 0.6}, None),
        ({"k": "b", "x": 0.7}, 0.0),
        ({"k": "b", "x": 0.8}, "pending"),
    ]
    documents, gamma = built(space, history)._documents()
    assert [d["misc"]["vals"] for d in documents[:2]] == [{"k": [0], "x": []}, {"k": [1], "x": [0.5]}]
    assert [d["result"]["loss"] for d in documents] == [0.625, 0.125, 0.875, 0.375, 1.0]
    assert math.ceil(gamma * math.sqrt(5)) == math.ceil(0.8 * math.sqrt(4))


def test_a_long_history_is_cut_to_the_good_and_the_recent():
    space = SearchSpace({"x": Float(0, 1)})
    algorithm = built(space, [({"x": (i + 0.5) / 1000}, float(i)) for i in range(1000)])
    documents, gamma = algorithm._documents()
    positions = [d["tid"] - hyperopt_search.FIRST_TID for d in documents]
    n_good = min(25, math.ceil(0.8 * math.sqrt(1000)))
    assert positions == [*range(n_good), *range(1000 - hyperopt_search.MAX_DOCUMENTS + n_good, 1000)]
    assert math.ceil(gamma * math.sqrt(len(documents))) == n_good


def test_conditional_parameters_are_learned_where_they_are_active():
    space = SearchSpace({"k": Choice(["a", "b"]), "x": Float(0, 1).when("k", "==", "b")})
    rng = np.random.default_rng(1)
    history = [pair for x in rng.random(40) for pair in (({"k": "a"}, 5.0), ({"k": "b", "x": x}, abs(x - 0.2)))]
    suggested = [
        c["x"] for c in (built(space, history).propose(80, 0, np.random.default_rng(i)) for i in range(20)) if "x" in c
    ]
    assert len(suggested) >= 12
    assert np.median(np.abs(np.array(suggested) - 0.2)) < 0.1
