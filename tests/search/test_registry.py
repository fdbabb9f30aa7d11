"""Algorithms by name: options, their errors, and what a build imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from raytune_hpo import search
from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import declared
from raytune_hpo.parameters import Float
from raytune_hpo.space import SearchSpace

LIGHT = """
import sys
from raytune_hpo import search
from raytune_hpo.parameters import Choice, Float, Int
from raytune_hpo.space import SearchSpace
space = SearchSpace({"x": Float(0, 1), "k": Choice(["a", "b", "c"]), "n": Int(1, 9)})
for name in search.ALGORITHMS:
    algorithm = search.build(name, {}, space, mode="max", seed=0)
    for i in range(5):
        algorithm.suggest(str(i))
heavy = {"ray", "torch", "hyperopt", "bayes_opt", "sklearn", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""


def test_building_and_first_suggestions_import_no_library():
    subprocess.run([sys.executable, "-c", LIGHT], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "options", "field", "words"),
    [
        ("hyperot", {}, "searcher", "'hyperopt'"),
        (None, {}, "searcher", "random, grid"),
        ("random", {"smapler": "sobol"}, "searcher.smapler", "'sampler'"),
        ("random", {"sampler": "sobl"}, "searcher.sampler", "'sobol'"),
        ("random", {"sampler": 3}, "searcher.sampler", "one of"),
        ("grid", {"points": 2.0}, "searcher.points", "an integer from 1"),
        ("grid", {"points": 0}, "searcher.points", "an integer from 1"),
        ("hyperopt", {"gamma": "0.2"}, "searcher.gamma", "a number"),
        ("hyperopt", {"n_initial": True}, "searcher.n_initial", "an integer"),
        ("bayesopt", {"kappa": -1}, "searcher.kappa", "from 0"),
        ("bayesopt", {"xi": float("nan")}, "searcher.xi", "a number"),
        ("bayesopt", ["xi"], "searcher", "dictionary"),
    ],
)
def test_wrong_options_name_their_field(name, options, field, words):
    with pytest.raises(ExperimentError) as error:
        search.check_options(name, options)
    assert error.value.field == field
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", search.ALGORITHMS)
def test_options_are_declared_once_and_say_what_they_mean(name):
    cls = search.algorithm_class(name)
    assert cls.name == name
    options = search.check_options(name, {})
    assert options == cls.Options()
    assert search.check_options(name, options.to_json()) == options
    algorithm = search.build(name, {}, SearchSpace({"x": Float(0, 1)}), mode="min", seed=0)
    assert algorithm.options == options
    for field, (_, _, bounds) in declared(cls.Options).items():
        assert bounds.doc, field
