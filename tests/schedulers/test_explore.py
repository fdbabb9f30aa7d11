"""PBT's explore: inside the space, in each parameter's own scale, and only what may change."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from raytune_hpo import Choice, Float, Int, SearchSpace
from raytune_hpo.schedulers.explore import explore, neighbour
from raytune_hpo.seeding import generator
from raytune_hpo.testing.spaces import nasty_space

STEPS = 3000


def walk(mutate, steps=STEPS, seed=0, **options):
    """(config, the next one) along a walk from a random config."""
    options = {"perturbation": 0.1, "resample_probability": 0.25, **options}
    s = nasty_space()
    config = s.sample(generator(seed, "start"))
    for number in range(steps):
        following = explore(s, config, mutate, generator(seed, number), **options)
        yield config, following
        config = following


@pytest.mark.parametrize("resample", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("perturbation", [0.01, 0.1, 1.0])
def test_every_step_stays_in_the_space(resample, perturbation):
    s = nasty_space()
    for _, config in walk(s.paths, resample_probability=resample, perturbation=perturbation):
        s.check(config)
        assert json.loads(json.dumps(config)) == config


def test_the_walk_gets_everywhere():
    s = nasty_space()
    seen: dict = {path: set() for path in s.paths}
    for _, config in walk(s.paths):
        for path, value in s.values(config).items():
            seen[path].add(json.dumps(value))
    for path, parameter in s.parameters.items():
        if parameter.n is not None and parameter.n < 20:
            assert len(seen[path]) == parameter.n, path
        else:
            assert len(seen[path]) > 100, path


@pytest.mark.parametrize(
    "mutate",
    [{"optimizer.lr"}, {"optimizer.lr", "dropout", "size"}, {"optimizer.name"}, {"model.layers", "model.units2"}],
    ids=lambda m: "-".join(sorted(m)),
)
def test_only_the_named_parameters_change_and_those_that_become_active_or_inactive(mutate):
    s = nasty_space()
    changed: set = set()
    for before, after in walk(mutate, steps=500):
        s.check(after)
        old, new = s.values(before), s.values(after)
        for path in s.paths:
            if path in old and path in new and path not in mutate:
                assert json.dumps(old[path]) == json.dumps(new[path]), path
            elif old.get(path) != new.get(path):
                changed.add(path)
    assert mutate <= changed


def test_the_config_given_is_left_alone():
    s = nasty_space()
    config = s.sample(generator(3))
    before = json.dumps(config)
    for number in range(50):
        explore(s, config, s.paths, generator(number), perturbation=0.2, resample_probability=0.2)
    assert json.dumps(config) == before


def test_the_same_generator_gives_the_same_config():
    one, two, other = ([after for _, after in walk(nasty_space().paths, 50, seed)] for seed in (1, 1, 2))
    assert one == two
    assert one != other


def test_a_number_moves_by_the_share_of_its_own_scale():
    rng = np.random.default_rng(0)
    log = Float(1e-4, 1.0, scale="log")
    reverse = Float(0.0, 0.999, scale="reverse_log")
    for _ in range(100):
        assert math.log10(neighbour(log, 1e-2, rng, 0.25)) == pytest.approx(-2, abs=1.0001)
        assert abs(math.log10(neighbour(log, 1e-2, rng, 0.25)) + 2) == pytest.approx(1.0)
        moved = math.log10(1 - neighbour(reverse, 0.9, rng, 1 / 3))
        assert min(abs(moved - 0.0), abs(moved + 2.0)) < 1e-9
    assert sorted({round(neighbour(Float(0.0, 1.0), 0.95, rng, 0.1), 9) for _ in range(50)}) == [0.85, 1.0]


def test_whole_numbers_and_ordered_choices_move_to_their_neighbours_and_stay_at_the_ends():
    rng = np.random.default_rng(0)

    def reached(parameter, value, perturbation=0.01):
        return {neighbour(parameter, value, rng, perturbation) for _ in range(50)}

    assert reached(Int(1, 5), 3) == {2, 4}
    assert reached(Int(1, 5), 5) == {4, 5}
    assert reached(Int(-9, 9, step=3), 0) == {-3, 3}
    assert reached(Int(16, 512, scale="power_of_two"), 64) == {32, 128}
    assert reached(Int(0, 100), 50, 0.1) == {40, 60}
    ordered = Choice(["s", "m", "l"], ordered=True)
    assert reached(ordered, "m") == {"s", "l"}
    assert reached(ordered, "s") == {"s", "m"}
    assert reached(Choice(["sgd", "adam", "rmsprop"]), "adam", 1.0) == {"adam"}


def test_an_unordered_choice_is_resampled_as_often_as_asked_for():
    s = SearchSpace({"kind": Choice(["a", "b", "c"]), "x": Float(0.0, 1.0)})
    config = {"kind": "a", "x": 0.5}
    found = Counter(
        explore(s, config, ["kind"], generator(n), perturbation=0.1, resample_probability=0.3)["kind"]
        for n in range(STEPS)
    )
    assert found["a"] / STEPS == pytest.approx(0.8, abs=0.03)  # 0.7 kept, and a third of the rest
    assert found["b"] / STEPS == pytest.approx(0.1, abs=0.02)
