"""What is known from elsewhere, and what the searchers make of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from raytune_hpo.search import SEARCHERS, searcher_class
from raytune_hpo.search.evidence import Evidence, best_of_sources, by_source
from raytune_hpo.search.source_models import LOOK_ROUND
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import config_key
from raytune_hpo.space.parameters import Choice, Float
from raytune_hpo.testing.searchers import make, tell

SPACE = SearchSpace({"x": Float(0, 1), "y": Float(0, 1), "kind": Choice(["a", "b"])})
MODELS = [("bayesopt", {}), ("bayesopt", {"surrogate": "forest"}), ("bayesopt", {"surrogate": "sampled_gp"})]
MODELS += [("hyperopt", {})]


def value(config):
    return (config["x"] - 0.8) ** 2 + (config["y"] - 0.3) ** 2 + 0.3 * (config["kind"] == "a")


def informed(name, options, told, count=60, sources=1, **named):
    """A searcher that was told of `count` random configs of each source what `told` says of them."""
    search = make(name, options, SPACE, mode="min", seed=3, **named)
    rng = np.random.default_rng(1)
    for source, _ in itertools.product(range(sources), range(count)):
        config = SPACE.sample(rng)
        search.evidence(config, {1: told(config) + 10, 3: told(config)}, f"source {source}")
    return search


def begin(search, count, pending=1):
    """So many suggestions, each of which ends when `pending` more have been made."""
    found = []
    for number in range(count):
        found.append(search.suggest(f"t{number}"))
        if number >= pending - 1:
            tell(search, f"t{number - pending + 1}", value(found[number - pending + 1]))
    return found


@pytest.mark.parametrize("pending", [1, 4])
@pytest.mark.parametrize(("name", "options"), MODELS)
def test_a_model_begins_with_what_was_good_elsewhere(name, options, pending):
    """Level and scale of elsewhere are other ones."""
    found = begin(informed(name, options, lambda c: 1e6 + 1e3 * value(c)), 10, pending)
    cold = begin(make(name, options, SPACE, mode="min", seed=3), 10, pending)
    chosen = [value(c) for number, c in enumerate(found) if number % LOOK_ROUND != 1]
    assert found[1] == cold[1]  # those that test it are the ones that there would be without
    assert np.mean(chosen) < 0.5 * np.mean([value(c) for c in cold])
    assert len({config_key(c) for c in found}) == 10


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_evidence_that_is_not_borne_out_costs_little(name, options):
    found = begin(informed(name, options, lambda c: -value(c)), 10)
    cold = begin(make(name, options, SPACE, mode="min", seed=3), 10)
    assert sum(a != b for a, b in zip(found, cold, strict=True)) <= 2


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_one_source_of_two_is_believed(name, options):
    search = informed(name, options, value)
    rng = np.random.default_rng(2)
    for _ in range(60):
        config = SPACE.sample(rng)
        search.evidence(config, {1: 10.0, 9: -value(config)}, "inverted")
    found = begin(search, 14)
    assert np.mean([value(c) for c in found[8:]]) < 0.2


@pytest.mark.parametrize("name", sorted(SEARCHERS))
def test_what_each_makes_of_it(name):
    """It is said, and holds; without a finite value, too."""
    use = searcher_class(name).uses_evidence
    options = {"points": 3} if name == "grid" else {}
    starts = [{"x": 0.5, "y": 0.5, "kind": "a"}] if name == "repeat" else []
    search = informed(name, options, value, start_points=starts)
    search.evidence({"x": 0.11, "y": 0.22, "kind": "b"}, {1: math.nan}, "source 0")
    search.evidence({"x": 0.33, "y": 0.22, "kind": "b"}, {}, "nothing but a name")
    cold = make(name, options, SPACE, mode="min", seed=3, start_points=starts)
    found = [search.suggest(f"t{i}") for i in range(4)]
    without = [cold.suggest(f"t{i}") for i in range(4)]
    if use == "starts":
        assert found[1::2] == without[1::2]
        best = list(itertools.islice(best_of_sources(SPACE, search.elsewhere), 2))
        assert found[::2] == best
    elif use == "nothing":
        assert found == without
    else:
        assert found[0] != without[0]


def test_start_points_come_first_and_a_population_takes_more():
    starts = [{"x": 0.5, "y": 0.5, "kind": "a"}]
    search = informed("random", {}, value, start_points=starts)
    search.starts = 3
    found = [search.suggest(f"t{i}") for i in range(12)]
    best = list(itertools.islice(best_of_sources(SPACE, search.elsewhere), 3))
    assert found[0] == starts[0]
    assert [c for c in found if c in best] == best
    assert found[1::2][:3] == best


def test_coarse_to_fine_takes_none_after_its_first_round():
    search = informed("coarse_to_fine", {"rounds": 2, "samples": 4}, value, max_epochs=4)
    for number in range(4):
        search.suggest(f"t{number}")
        tell(search, f"t{number}", 1.0)
    later = [search.suggest(f"t{number}") for number in range(4, 8)]
    best = list(itertools.islice(best_of_sources(SPACE, search.elsewhere), 5))
    assert [c for c in later[1:] if c in best] == []


def test_sources_in_turn():
    evidence = [Evidence({"x": x, "y": 0.0, "kind": "a"}, {1: x}, s) for s, x in [("a", 0.2), ("b", 0.3), ("a", 0.1)]]
    evidence.append(Evidence({"x": 0.1, "y": 0.0, "kind": "a"}, {1: 0.0}, "b"))
    assert [len(own) for own in by_source(evidence)] == [2, 2]
    assert [c["x"] for c in best_of_sources(SPACE, evidence)] == [0.1, 0.2, 0.3]
