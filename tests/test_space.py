"""SearchSpace: nesting, conditions, the unit cube, grids, checks and JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import config_key, flatten, nest
from raytune_hpo.space.grid import grid, number_of_configs
from raytune_hpo.space.parameters import Choice, Float, Int


@pytest.fixture
def space():
    return SearchSpace(
        {
            "optimizer": {
                "name": Choice(["sgd", "adam"]),
                "lr": Float(1e-6, 1.0, scale="log"),
                "momentum": Float(0.5, 0.999, scale="reverse_log").when("optimizer.name", "==", "sgd"),
                "nesterov": Choice([True, False]).when("optimizer.momentum", ">", 0.8),
            },
            "layers": Int(1, 4),
            "units": Int(16, 512, scale="power_of_two").when("layers", ">=", 2),
            "hidden": Int(1, 10_000, scale="log"),
            "norm": Choice([None, "batch", [1, 2], 0, False]),
            "size": Choice(["s", "m", "l"], ordered=True),
            "data": {"name": "digits", "crop": [8, 8], "empty": {}, "none": None},
        }
    )


def test_unit_vectors_come_back(space):
    rng = np.random.default_rng(3)
    for _ in range(300):
        config = space.sample(rng)
        space.check(config)
        vector = space.to_unit(config)
        assert vector.shape == (len(space),)
        assert ((vector >= 0) & (vector < 1)).all()
        again = space.from_unit(vector)
        for path, value in flatten(config).items():
            if isinstance(value, float):
                assert flatten(again)[path] == pytest.approx(value, rel=1e-13)
            else:
                assert flatten(again)[path] == value
        inactive = [i for i, p in enumerate(space.paths) if p not in space.values(config)]
        assert (vector[inactive] == 0.5).all()


def test_json_round_trip(space):
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again == space
    assert again.paths == space.paths
    vector = np.random.default_rng(0).random(len(space))
    assert again.from_unit(vector) == space.from_unit(vector)


def test_conditions_chain():
    space = SearchSpace(
        {
            "c": Int(1, 2).when("b", "==", 1),  # stands before its parent
            "a": Choice([0, 1]),
            "b": Choice([0, 1]).when("a", "==", 1),
        }
    )
    assert space.order == ("a", "b", "c")
    assert space.build({"a": 0, "b": 1, "c": 2}) == {"a": 0}
    assert space.build({"a": 1, "b": 0, "c": 2}) == {"a": 1, "b": 0}
    assert space.build({"a": 1, "b": 1, "c": 2}) == {"a": 1, "b": 1, "c": 2}
    assert number_of_configs(space) == 4
    assert [config_key(c) for c in grid(space)] == [
        config_key(c) for c in ({"a": 0}, {"a": 1, "b": 0}, {"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 1, "c": 2})
    ]


def test_a_parameter_is_active_as_its_active_parents_say():
    space = SearchSpace(
        {
            "a": Choice([0, 1]),
            "b": Choice([0, 1]).when("a", "==", 1),
            "c": Int(1, 2).when("b", "==", 1).when("a", ">", 0),
        }
    )
    assert space.is_active("a", {})
    assert [space.is_active("b", {"a": a}) for a in (0, 1)] == [False, True]
    assert [c.parent for c in space.unmet("c", {"a": 0})] == ["b", "a"]
    assert [c.parent for c in space.unmet("c", {"a": 1, "b": 0})] == ["b"]
    assert space.active({"a": 0, "b": 1, "c": 1}) == {"a"}  # b is not there, whatever its value


def test_grid_includes_both_ends_in_the_scale():
    space = SearchSpace({"lr": Float(1e-4, 1.0, scale="log"), "n": Int(1, 100), "k": Choice(["a", "b"]), "x": 7})
    configs = list(grid(space, points=3))
    assert len(configs) == 3 * 3 * 2
    assert [round(v, 9) for v in dict.fromkeys(c["lr"] for c in configs)] == [1e-4, 1e-2, 1.0]
    assert list(dict.fromkeys(c["n"] for c in configs)) == [1, 51, 100]
    assert all(c["x"] == 7 for c in configs)
    assert len({config_key(c) for c in configs}) == len(configs)
    for config in configs:
        space.check(config)


def test_size():
    assert number_of_configs(SearchSpace({"a": Int(1, 8, scale="power_of_two"), "b": Int(0, 9, step=3)})) == 16
    assert number_of_configs(SearchSpace({"a": Float(0, 1)})) is None
    assert number_of_configs(SearchSpace({"a": Int(1, 1000), "b": Int(1, 1000)}), limit=10_000) is None
    assert number_of_configs(SearchSpace({"a": Int(1, 20_000)}), limit=10_000) is None


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({}, "space"),
        ({"a": 1}, "space"),
        ([Float(0, 1)], "space"),
        ({"a.b": Float(0, 1)}, "space.a.b"),
        ({"m": {"": Float(0, 1)}}, "space.m."),
        ({"a": Float(0, 1), "f": [Float(0, 1)]}, "space.f"),
        ({"a": Float(0, 1), "f": float("nan")}, "space.f"),
        ({"a": Float(0, 1).when("b", "==", 1)}, "space.a.when"),
        ({"a": Float(0, 1).when("b", "==", 1), "b": 1}, "space.a.when"),
        ({"a": Float(0, 1).when("b", "==", "y"), "b": Choice(["x", "z"])}, "space.a.when"),
        ({"a": Float(0, 1).when("b", ">", 0.1), "b": Float(0, 1).when("a", ">", 0.1)}, "space.a"),
    ],
)
def test_a_wrong_space_names_its_field(tree, field):
    with pytest.raises(ExperimentError) as error:
        SearchSpace(tree)
    assert error.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"x": 2.0}, "config.x"),
        ({"x": None}, "config.x"),
        ({"m.n": 3.0}, "config.m.n"),
        ({"m.n": True}, "config.m.n"),
        ({"m.other": 1}, "config.m.other"),
        ({"c": 8}, "config.c"),
        ({"k": "b"}, "config.y"),
        ({"y": 0.5, "k": "b"}, None),
    ],
)
def test_check_names_the_parameter(change, field):
    space = SearchSpace(
        {
            "x": Float(0, 1),
            "m": {"n": Int(1, 4)},
            "k": Choice(["a", "b"]),
            "c": 7,
            "y": Float(0, 1).when("k", "==", "b"),
        }
    )
    config = nest({**flatten({"x": 0.5, "m": {"n": 2}, "k": "a", "c": 7}), **change})
    if field is None:
        space.check(config)
        return
    with pytest.raises(ExperimentError) as error:
        space.check(config)
    assert error.value.field == field


def test_check_refuses_inactive_and_missing():
    space = SearchSpace({"k": Choice(["a", "b"]), "y": Float(0, 1).when("k", "==", "b")})
    with pytest.raises(ExperimentError, match="inactive"):
        space.check({"k": "a", "y": 0.5})
    with pytest.raises(ExperimentError, match="missing"):
        space.check({"k": "b"})


def test_complete_fills_the_constants_in():
    space = SearchSpace({"x": Float(0, 1), "data": {"name": "digits", "size": [8, 8]}})
    assert space.complete({"x": 1.0}) == {"x": 1.0, "data": {"name": "digits", "size": [8, 8]}}
    with pytest.raises(ExperimentError, match=r"start_points\[0\]\.x"):
        space.complete({"x": 2.0}, "start_points[0]")
