"""Algorithms by name: options, their errors, and what a build imports."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass

import pytest

from raytune_hpo import search
from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import declared, option
from raytune_hpo.search import SearchAlgorithm, SearchOptions
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Float
from raytune_hpo.states import Outcome
from raytune_hpo.testing.searchers import make

LIGHT = """
import sys
from raytune_hpo import search
from raytune_hpo.objective import Objective
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.space import SearchSpace
space = SearchSpace({"x": Float(0, 1), "k": Choice(["a", "b", "c"]), "n": Int(1, 9)})
for name in search.SEARCHERS:
    algorithm = search.build(name, {}, space, Objective("loss", "max"), max_epochs=9, seed=0)
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


@pytest.mark.parametrize("name", search.SEARCHERS)
def test_options_are_declared_once_and_say_what_they_mean(name):
    cls = search.searcher_class(name)
    assert cls.name == name
    options = search.check_options(name, {})
    assert options == cls.Options()
    assert search.check_options(name, options.to_json()) == options
    algorithm = make(name, {}, SearchSpace({"x": Float(0, 1)}), mode="min", seed=0)
    assert algorithm.options == options
    for field, (_, _, bounds) in declared(cls.Options).items():
        assert bounds.doc, field


class Halves(SearchAlgorithm):
    """As a user writes one."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        width: float = option(0.5, low=0.0, high=1.0, doc="of the part of the cube that is searched")

    options: Options

    def propose(self, number, attempt, rng):
        return self.space.from_unit(self.options.width * rng.random(len(self.space)))


def test_a_class_of_ones_own_stands_where_a_name_does():
    space = SearchSpace({"x": Float(0, 1)})
    assert Halves.name == "Halves"
    assert search.searcher_class(Halves) is Halves
    assert search.check_options(Halves, {"width": 0.1}) == Halves.Options(width=0.1)
    algorithm = make(Halves, Halves.Options(width=0.1), space)
    assert all(algorithm.suggest(f"t{i}")["x"] <= 0.1 for i in range(20))
    with pytest.raises(ExperimentError, match=r"searcher\.wdith.*option of 'Halves'.*'width'"):
        make(Halves, {"wdith": 0.1}, space)
    with pytest.raises(ExperimentError, match="not the options of 'Halves'"):
        make(Halves, search.check_options("grid", {}), space)
    with pytest.raises(ExperimentError, match="SearchAlgorithm"):
        make(dict, {}, space)


def test_how_a_trial_ended_is_kept():
    """And goes by the objective: a gain is a negative loss."""
    algorithm = make("bohb", {}, SearchSpace({"x": Float(0, 1)}), mode="max")
    ends = [
        (Outcome.STOPPED, 3.0, 4, -3.0),
        (Outcome.DIVERGED, None, 2, math.nan),
        (Outcome.FAILED, 5.0, 0, math.nan),  # whatever it reached, it is no result
        (Outcome.COMPLETED, math.inf, 9, math.nan),
    ]
    for i, (outcome, value, epoch, _) in enumerate(ends):
        algorithm.suggest(f"t{i}")
        algorithm.report(f"t{i}", 1, 2.0)
        algorithm.observe(f"t{i}", outcome, value, epoch)
    assert [(s.outcome, s.epoch) for s in algorithm.history] == [(e[0], e[2]) for e in ends]
    assert [s.value for s in algorithm.history] == pytest.approx([e[3] for e in ends], nan_ok=True)
    assert [s.marks for s in algorithm.history] == [[-2.0, -3.0], [-2.0], [-2.0], [-2.0]]  # at epochs 1 and 3
    assert [s.loss for s in algorithm.history] == [-3.0, math.inf, math.inf, math.inf]


def test_a_plan_counts_the_searchs_own_suggestions():
    """A trial that did not come from it moves nothing."""
    start = [{"x": 0.1}, {"x": 0.2}]
    algorithm = make("repeat", {"repeats": 2}, SearchSpace({"x": Float(0, 1)}), start_points=start)
    plans = []
    for name in ("t7", "t3", "clone", "t1"):
        plans.append(algorithm.plan())
        algorithm.suggest(name)
    assert [p.repeat for p in plans] == [0, 0, 1, 1]
    assert [algorithm.plan_for(t) for t in ("t7", "t3", "clone", "t1")] == plans


def test_what_is_known_from_elsewhere_is_kept_with_the_state():
    space = SearchSpace({"x": Float(0, 1)})
    algorithm, resumed = make("random", {}, space, mode="max"), make("random", {}, space, mode="max")
    algorithm.evidence({"x": 0.5}, {1: 2.0, 2: math.nan}, "runs/other t00001")
    resumed.load_state_dict(json.loads(json.dumps(algorithm.state_dict(), allow_nan=False)))
    (known,) = resumed.elsewhere
    assert (known.config, known.source) == ({"x": 0.5}, "runs/other t00001")
    assert known.curve == pytest.approx({1: -2.0, 2: math.nan}, nan_ok=True)
    assert resumed.suggest("t0") == make("random", {}, space).suggest("t0")
