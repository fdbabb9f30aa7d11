"""EvolutionarySearch: who is a parent, what a child takes from its parents, how each kind of parameter mutates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_hpo.search.evolutionary_search import STEPS, mutated, reflected
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make, tell

PLANE = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})


def built(space, history, **options):
    """history: (config, value or "pending"), observed in this order."""
    algorithm = make("evolutionary", {"n_initial": 1, **options}, space, mode="min", seed=0)
    for i, (config, value) in enumerate(history):
        algorithm.replay(f"t{i}", config)
        if value != "pending":
            tell(algorithm, f"t{i}", value)
    return algorithm


def children(algorithm, count=200):
    rng = np.random.default_rng(0)
    return [algorithm.propose(len(algorithm.history), 0, rng) for _ in range(count)]


def test_the_population_is_the_best_and_the_most_recent():
    values = [3.0, None, 1.0, 9.0, 2.0, 8.0, 7.0, math.nan, 6.0]
    history = [({"x": i / 10, "y": 0.5}, v) for i, v in enumerate(values)]
    members = built(PLANE, history, population=5).members()
    # The three best, and of the others the two that finished last; the failed one behind all.
    assert [m.trial_id for m in members] == ["t2", "t4", "t0", "t8", "t7"]
    assert [m.trial_id for m in built(PLANE, history, population=50).members()][-2:] == ["t1", "t7"]


def test_nothing_waits_and_every_result_counts_at_once():
    known = [({"x": 0.2, "y": 0.2}, 5.0), *(({"x": 0.9, "y": i / 20}, "pending") for i in range(12))]
    algorithm = built(PLANE, known, crossover=0.0, mutation=0.0)  # exactly one coordinate is moved
    assert all(c["x"] == 0.2 or c["y"] == 0.2 for c in children(algorithm, 50))
    tell(algorithm, "t12", 1.0)  # the straggler suggested last is the best: with a full tournament the only parent
    assert all(c["x"] == 0.9 or c["y"] == 11 / 20 for c in children(algorithm, 50))


def test_a_larger_tournament_is_greedier():
    history = [({"x": i / 10, "y": i / 10}, float(i)) for i in range(10)]
    means = []
    for tournament in (1, 3, 10):
        rng = np.random.default_rng(1)
        algorithm = built(PLANE, history, tournament=tournament)
        members = algorithm.members()
        means.append(np.mean([algorithm._winner(members, rng).value for _ in range(500)]))
    assert means[0] == pytest.approx(4.5, abs=0.5)
    assert means[0] > means[1] + 1 > means[2] + 1
    assert means[2] == 0


def test_a_child_of_two_parents_lies_among_them():
    space = SearchSpace({"x": Float(0, 1), "n": Int(1, 100), "k": Choice(list("abcdef"))})
    history = [({"x": 0.4, "n": 40, "k": "a"}, 1.0), ({"x": 0.6, "n": 60, "k": "f"}, 2.0)]
    algorithm = built(space, history, crossover=1.0, mutation=0.0, tournament=1)
    found = children(algorithm, 400)
    assert {c["k"] for c in found} == {"a", "f"}
    assert all(0.349 < c["x"] < 0.651 and 34 < c["n"] < 66 for c in found)
    assert {0.4, 0.6} < {round(c["x"], 9) for c in found}
    assert min(c["x"] for c in found) < 0.37
    assert max(c["x"] for c in found) > 0.63
    mixed = [c for c in found if c["x"] == 0.4 and c["k"] == "f"]
    assert mixed


def test_a_child_of_one_parent_differs_from_it_in_about_one_parameter():
    space = SearchSpace({f"x{i}": Float(0, 1) for i in range(8)})
    parent = {f"x{i}": 0.5 for i in range(8)}
    changed = [sum(v != 0.5 for v in c.values()) for c in children(built(space, [(parent, 1.0)]))]
    assert min(changed) == 1
    assert np.mean(changed) == pytest.approx(1.37, abs=0.2)  # binomial(8, 1/8), and 1 where that is 0


def test_a_parameter_that_no_parent_has_is_drawn_at_random():
    space = SearchSpace({"k": Choice(["a", "b"]), "x": Float(0, 1).when("k", "==", "b")})
    algorithm = built(space, [({"k": "a"}, 1.0)], mutation=1000.0)
    drawn = [c["x"] for c in children(algorithm)]
    assert np.histogram(drawn, bins=4, range=(0, 1))[0].min() > 30
    both = built(space, [({"k": "a"}, 1.0), ({"k": "b", "x": 0.3}, 2.0)], mutation=0.0, crossover=1.0, tournament=1)
    assert {round(c["x"], 9) for c in children(both) if "x" in c} == {0.3}


@pytest.mark.parametrize(
    "parameter",
    [
        Int(1, 3),
        Int(1, 10_000, scale="log"),
        Int(16, 512, scale="power_of_two"),
        Int(-9, 9, step=3),
        Choice(["s", "m", "l"], ordered=True),
        Choice([True, False]),
        Choice(list("abcd")),
    ],
    ids=str,
)
def test_a_finite_parameter_always_changes(parameter):
    rng = np.random.default_rng(0)
    for _ in range(200):
        unit = parameter.to_unit(parameter.from_unit(rng.random()))
        moved = mutated(parameter, unit, 1e-6 * rng.standard_normal(), rng)
        assert 0 <= moved < 1
        assert parameter.from_unit(moved) != parameter.from_unit(unit)
        if not (isinstance(parameter, Choice) and not parameter.ordered):  # a small step: the next value
            assert (
                abs(parameter.index_of(parameter.from_unit(moved)) - parameter.index_of(parameter.from_unit(unit))) == 1
            )


def test_unordered_options_are_drawn_anew_all_as_likely():
    rng = np.random.default_rng(0)
    parameter = Choice(list("abcd"))
    drawn = [parameter.from_unit(mutated(parameter, 0.3, 1e-6, rng)) for _ in range(600)]
    assert [drawn.count(o) for o in "abcd"] == pytest.approx([200, 0, 200, 200], abs=45)


def test_steps_are_in_the_parameters_own_scale():
    space = SearchSpace({"lr": Float(1e-8, 1.0, scale="log")})
    found = children(built(space, [({"lr": 1e-4}, 1.0)]), 500)
    decades = np.abs(np.log10([c["lr"] for c in found]) + 4)
    assert np.median(decades) == pytest.approx(0.67 * 8 * math.sqrt(STEPS[0] * STEPS[1]), rel=0.35)
    assert decades.max() > 1


def test_reflection_stays_in_the_cube():
    assert reflected(np.array([-0.2, 1.2, 0.5, -3.4, 1.0])) == pytest.approx([0.2, 0.8, 0.5, 0.6, 1.0])
    assert reflected(np.array([1.0, -1.0])).max() < 1.0
