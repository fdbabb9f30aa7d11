"""RandomSearch (Sobol) and GridSearch, beyond the contract."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.search.grid_search import MAX_POINTS
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import config_key
from raytune_hpo.space.grid import grid, grid_size
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make

SQUARE = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})
BRANCHED = SearchSpace(
    {
        "k": Choice(["a", "b", "c"]),
        "x": Float(0, 1).when("k", "in", ["a", "b"]),
        "n": Int(1, 4).when("x", ">", 0.5),
        "m": Int(0, 9).when("n", "==", 2),
        "free": Choice([True, False]),
    }
)


def stream(algorithm, count):
    return [algorithm.suggest(f"t{i}") for i in range(count)]


def test_sobol_points_are_balanced():
    points = stream(make("random", {"sampler": "sobol"}, SQUARE, mode="min", seed=3), 64)
    counts, _, _ = np.histogram2d([c["x"] for c in points], [c["y"] for c in points], bins=8, range=[[0, 1], [0, 1]])
    assert (counts == 1).all()


def test_a_sobol_point_depends_on_its_number_alone():
    def fresh():
        return make("random", {"sampler": "sobol"}, SQUARE, mode="min", seed=3)

    whole = stream(fresh(), 20)
    late = fresh()
    for i, config in enumerate(whole[:13]):
        late.replay(f"t{i}", config)
    assert [late.suggest(f"t{i}") for i in range(13, 20)] == whole[13:]


@pytest.mark.parametrize("points", [1, 2, 3, 5, 11])
def test_the_size_of_a_grid_is_the_number_of_its_points(points):
    for space in (SQUARE, BRANCHED):
        assert grid_size(space, points, MAX_POINTS) == sum(1 for _ in grid(space, points))


def test_a_grid_is_listed_in_order_and_counted_first():
    start = [{"k": "c", "free": False}, {"k": "a", "x": 0.123, "free": True}]
    algorithm = make("grid", {"points": 3}, BRANCHED, mode="min", seed=0, start_points=start)
    listed = [c for c in grid(BRANCHED, 3) if c != start[0]]
    assert algorithm.total() == len(listed) + 2
    assert stream(algorithm, len(listed) + 2) == start + listed
    assert algorithm.suggest("more") is None


def test_a_grid_goes_on_where_a_history_ends():
    algorithm = make("grid", {}, SQUARE, mode="min", seed=0)
    first = stream(algorithm, 7)
    copied = pickle.loads(pickle.dumps(algorithm))
    assert [config_key(copied.suggest(str(i))) for i in range(18)] == [
        config_key(algorithm.suggest(str(i))) for i in range(18)
    ]
    assert copied.suggest("x") is None
    assert len({config_key(s.config) for s in copied.history}) == 25
    assert first == list(grid(SQUARE, 5))[:7]


def test_a_grid_too_large_is_refused_without_listing_it():
    space = SearchSpace({f"x{i}": Float(0, 1) for i in range(200)} | {"k": Choice(["a", "b"])})
    with pytest.raises(ExperimentError, match="100,000 points") as error:
        make("grid", {}, space, mode="min", seed=0)
    assert error.value.field == "searcher.points"
    assert grid_size(SearchSpace({"n": Int(1, 1000), "m": Int(1, 100)}), 1000, MAX_POINTS) == MAX_POINTS


def test_an_exhausted_sobol_space_is_filled_up():
    space = SearchSpace({"n": Int(1, 30), "k": Choice(["a", "b"])})
    algorithm = make("random", {"sampler": "sobol"}, space, mode="min", seed=0)
    assert len({config_key(c) for c in stream(algorithm, 60)}) == 60
    assert algorithm.suggest("x") is None
