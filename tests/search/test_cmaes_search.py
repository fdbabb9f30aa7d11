"""CmaEsSearch: when it learns, what it is told of ints, conditions and stragglers, and when it starts again."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from raytune_hpo.search.cmaes_search import POINT, covariance
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make, tell

PLANE = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})


def built(space=PLANE, seed=0, **options):
    return make("cmaes", options, space, mode="min", seed=seed)


def play(algorithm, value, first, last):
    for number in range(first, last):
        tell(algorithm, f"t{number}", value(algorithm.suggest(f"t{number}")))
    return algorithm


def bowl(config):
    return (config["x"] - 0.3) ** 2 + (config["y"] - 0.7) ** 2


def deviations(algorithm):
    return np.sqrt(np.diag(covariance(algorithm._optimizer())))


def test_every_population_of_finished_trials_is_one_update_and_asking_is_none():
    algorithm = built(n_initial=10, population=6)
    for number in range(60):
        algorithm.suggest(f"t{number}")
    asked, silent = algorithm, built(n_initial=10, population=6)
    for s in asked.history:
        silent.replay(s.trial_id, s.config)
    order = np.random.default_rng(0).permutation(60)[:45]  # 15 never finish
    for k, position in enumerate(order):
        for one in (asked, silent):
            tell(one, f"t{position}", bowl(asked.history[position].config))
        if k >= 9:
            assert asked._optimizer().generation == (k + 1 - 10) // 6
            for _ in range(k % 3):
                asked.propose(60, 0, np.random.default_rng(k))
    assert silent._optimizer().generation == 5
    assert (silent._optimizer().mean == asked._optimizer().mean).all()
    assert (covariance(silent._optimizer()) == covariance(asked._optimizer())).all()
    corrected = pickle.loads(pickle.dumps(silent))
    assert corrected._reached == (0, None)
    for one in (silent, corrected):  # a result that was told already, and is in the distribution
        tell(one, f"t{order[12]}", -1.0)
    assert (silent._optimizer().mean == corrected._optimizer().mean).all()
    assert (silent._optimizer().mean != asked._optimizer().mean).all()


def test_it_converges_in_few_and_in_one_dimension():
    algorithm = play(built(), bowl, 0, 150)
    assert min(s.value for s in algorithm.history) < 1e-6
    line = play(built(SearchSpace({"lr": Float(1e-6, 1, scale="log")})), lambda c: abs(np.log10(c["lr"]) + 2.5), 0, 80)
    assert min(s.value for s in line.history) < 1e-3


def test_only_unordered_choices():
    space = SearchSpace({f"c{i}": Choice(list("abcd")) for i in range(6)})
    algorithm = play(built(space), lambda c: sum(v != "b" for v in c.values()), 0, 120)
    assert min(s.value for s in algorithm.history) <= 1


def test_choices_are_copied_together_from_the_best():
    space = SearchSpace({"a": Choice(list("pq")), "b": Choice(list("pq")), "x": Float(0, 1)})
    algorithm = built(space, n_initial=1, mutation=0.0)
    for i in range(64):
        config = {"a": "pq"[i % 2], "b": "pq"[i % 2], "x": i / 64}
        algorithm.replay(f"t{i}", config)
        tell(algorithm, f"t{i}", float(i))
    found = [algorithm.propose(64, 0, np.random.default_rng(i)) for i in range(100)]
    assert {c["a"] + c["b"] for c in found} == {"pp", "qq"}
    algorithm.options = dataclasses.replace(algorithm.options, mutation=1.0)
    found = [algorithm.propose(64, 0, np.random.default_rng(i)) for i in range(100)]
    assert {c["a"] + c["b"] for c in found} == {"pp", "qq", "pq", "qp"}


def test_a_number_that_is_inactive_is_neither_learned_nor_lost():
    space = SearchSpace(
        {"k": Choice(["a", "b"]), "x": Float(0, 1), "y": Float(0, 1), "z": Float(0, 1).when("k", "==", "b")}
    )
    algorithm = play(built(space), lambda c: bowl(c) + (c["k"] == "b"), 0, 120)
    assert [s.config["k"] for s in algorithm.history].count("a") > 100
    x, y, z = deviations(algorithm)
    assert max(x, y) < 0.05
    assert z > 0.08  # told at 0.5 it would be below 0.01


@pytest.mark.parametrize("parameter", [Int(1, 5), Choice([1, 2, 3, 4, 5], ordered=True)], ids=str)
def test_an_int_is_never_stuck_in_its_cell(parameter):
    space = SearchSpace({"n": parameter, "x": Float(0, 1), "y": Float(0, 1)})
    algorithm = play(built(space), lambda c: bowl(c) + abs(c["n"] - 4), 0, 120)
    assert [s.config["n"] for s in algorithm.history[60:]].count(4) > 30
    assert deviations(algorithm)[0] > 0.1 / 5


@pytest.mark.parametrize(
    "parameter", [Int(1, 3), Int(-9, 9, step=3), Int(1, 300, scale="log"), Choice([1, 2], ordered=True)], ids=str
)
def test_a_cell_holds_what_maps_to_its_value(parameter):
    for index in range(parameter.n):
        value = parameter.value_at(index)
        low, high = parameter.cell(value)
        assert {parameter.from_unit(low + s * (high - low)) for s in (1e-6, 0.5, 1 - 1e-6)} == {value}
    assert low < high == pytest.approx(1)


def test_a_good_straggler_from_far_away_does_not_blow_up_the_distribution():
    algorithm = play(built(n_initial=10, population=6), bowl, 0, 70)
    algorithm.replay("late", {"x": 0.999, "y": 0.001})
    before = deviations(algorithm)
    assert before.max() < 0.05
    tell(algorithm, "late", -5.0)
    for i in range(70, 75):
        algorithm.replay(f"t{i}", {"x": 0.31 + i / 10_000, "y": 0.7})
        tell(algorithm, f"t{i}", 1.0)
    assert algorithm._optimizer().generation == 11
    assert deviations(algorithm).max() < 5 * before.max()


def test_a_distribution_that_is_a_point_starts_again_elsewhere_with_twice_the_population():
    algorithm = built(n_initial=10, population=6)
    play(algorithm, bowl, 0, 10)
    optimizer, number = algorithm._optimizer(), 10
    while optimizer.population_size == 6 and number < 400:
        mean = optimizer.mean.copy()
        play(algorithm, bowl, number, number + 6)
        number += 6
        optimizer = algorithm._optimizer()
    assert mean == pytest.approx([0.3, 0.7], abs=20 * POINT)
    assert optimizer.population_size == 12
    assert np.linalg.norm(optimizer.mean - mean) > 0.05
    assert deviations(algorithm) == pytest.approx([algorithm.options.sigma] * 2)
    play(algorithm, bowl, number, number + 12)
    assert algorithm._optimizer().generation == 1


def test_failed_trials_come_last_and_a_failed_generation_says_nothing():
    algorithm = play(built(n_initial=4, population=4), bowl, 0, 4)
    mean = algorithm._optimizer().mean.copy()
    play(algorithm, lambda c: None, 4, 8)
    assert (algorithm._optimizer().mean == mean).all()
    assert algorithm._optimizer().generation == 0
    for i, (x, value) in enumerate([(0.1, None), (0.2, float("inf")), (0.8, 1e300), (0.9, 1e300)]):
        algorithm.replay(f"u{i}", {"x": x, "y": float(mean[1])})
        tell(algorithm, f"u{i}", value)
    assert algorithm._optimizer().mean[0] > mean[0] + 0.2
