"""Float, Int and Choice: exact maps to the unit interval and back, in each scale."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import Condition, same
from raytune_hpo.space.parameters import BELOW_ONE, Choice, Float, Int, parameter_from_json

FLOATS = [
    Float(0.0, 1.0),
    Float(-3.5, 1e6),
    Float(1e-7, 1.0, scale="log"),
    Float(3.0, 4.0, scale="log"),
    Float(0.0, 0.999, scale="reverse_log"),
    Float(-2.0, 0.5, scale="reverse_log"),
]
INTS = [
    Int(0, 1),
    Int(-7, 12),
    Int(2, 20, step=3),
    Int(-9, 9, step=9),
    Int(1, 2000, scale="log"),
    Int(5, 6, scale="log"),
    Int(1, 1024, scale="power_of_two"),
    Int(64, 128, scale="power_of_two"),
    Int(0, 99_999),
]
STEPS = [
    Float(0.0, 1.0, step=0.25),
    Float(-0.3, 0.6, step=0.1),
    Float(0.1, 0.7, step=0.6),
    Float(0.001, 0.1, scale="log", step=0.001),
    Float(0.5, 4.0, scale="log", step=0.5),
    Float(0.5, 0.99, scale="reverse_log", step=0.01),
]
CHOICES = [
    Choice(["a", "b"]),
    Choice([True, False]),
    Choice([1, True, "1", "True", None, 0, False, 1.5]),
    Choice([[1, 2], [2, 1], []], ordered=True),
    Choice([{"k": 1}, {"k": 2}]),
]


def every_value(parameter):
    if isinstance(parameter, Int) and parameter.scale == "log":
        assert parameter.index_of(parameter.high) == parameter.n - 1
        return list(range(parameter.low, parameter.high + 1))
    return [parameter.value_at(i) for i in range(parameter.n)]


@pytest.mark.parametrize("parameter", INTS + STEPS + CHOICES, ids=str)
def test_every_value_comes_back_exactly(parameter):
    values = every_value(parameter)
    assert len(values) == parameter.n
    units = [parameter.to_unit(v) for v in values]
    for value, unit in zip(values, units, strict=True):
        assert 0 <= unit < 1
        back = parameter.from_unit(unit)
        assert same(back, value)
        assert type(back) is type(value)
        assert parameter.accepts(value)
    assert units == sorted(set(units))


@pytest.mark.parametrize("parameter", INTS + STEPS + CHOICES, ids=str)
def test_cells_lie_side_by_side_and_give_their_value(parameter):
    values = every_value(parameter)[:3000]
    ends = np.array([parameter.cell(v) for v in values])
    assert ends[0, 0] == pytest.approx(0.0, abs=1e-12)
    if len(values) == parameter.n:
        assert ends[-1, 1] == pytest.approx(1.0)
    assert ends[1:, 0] == pytest.approx(ends[:-1, 1], abs=1e-12)
    lengths = [parameter.cell_length(v) for v in values]
    assert lengths == pytest.approx(list(ends[:, 1] - ends[:, 0]), abs=1e-12)
    for share in (0.01, 0.5, 0.99):
        inside = ends[:, 0] + share * (ends[:, 1] - ends[:, 0])
        assert [parameter.from_unit(float(u)) for u in inside] == values
        assert parameter.snap(inside) == pytest.approx([parameter.to_unit(v) for v in values], abs=1e-12)


@pytest.mark.parametrize("parameter", FLOATS, ids=str)
def test_a_float_has_no_cells(parameter):
    units = np.linspace(0, 0.99, 7)
    assert list(parameter.snap(units)) == list(units)
    value = parameter.from_unit(0.25)
    assert parameter.cell(value) == (parameter.to_unit(value),) * 2
    assert parameter.cell_length(value) == 0


@pytest.mark.parametrize("parameter", FLOATS, ids=str)
def test_floats_come_back_to_within_rounding(parameter):
    rng = np.random.default_rng(0)
    for u in [0.0, BELOW_ONE, *rng.random(2000)]:
        value = parameter.from_unit(float(u))
        assert type(value) is float
        assert parameter.accepts(value)
        assert 0 <= parameter.to_unit(value) < 1
        again = parameter.from_unit(parameter.to_unit(value))
        # Near 1 a reverse-log value has few digits left of 1 - v, near 0 few of v: an absolute bound then.
        assert again == pytest.approx(value, rel=4e-15, abs=4e-15 * max(abs(parameter.low), abs(parameter.high), 1e-7))
    for end in (parameter.low, parameter.high):
        assert parameter.from_unit(parameter.to_unit(end)) == pytest.approx(end, rel=1e-14, abs=1e-14)


def units_of(parameter, values):
    scales = {
        "linear": lambda v: v,
        "log": math.log,
        "reverse_log": lambda v: -math.log1p(-v),
    }
    f = scales[parameter.scale]
    return [(f(v) - f(parameter.low)) / (f(parameter.high) - f(parameter.low)) for v in values]


@pytest.mark.parametrize("parameter", FLOATS, ids=str)
def test_a_uniform_draw_is_uniform_in_the_scale(parameter):
    values = [parameter.from_unit((i + 0.5) / 1000) for i in range(1000)]
    assert np.histogram(units_of(parameter, values), bins=10, range=(0, 1))[0] == pytest.approx([100] * 10, abs=1)


@pytest.mark.parametrize(
    "parameter",
    [p for p in INTS + STEPS + CHOICES if p.n < 100 and getattr(p, "scale", "") not in ("log", "reverse_log")],
    ids=str,
)
def test_every_discrete_value_is_as_likely(parameter):
    each = 50
    values = [repr(parameter.from_unit((i + 0.5) / (each * parameter.n))) for i in range(each * parameter.n)]
    assert {values.count(v) for v in set(values)} == {each}
    assert len(set(values)) == parameter.n


@pytest.mark.parametrize("parameter", STEPS, ids=str)
def test_steps_lie_on_their_grid(parameter):
    values = every_value(parameter)
    assert (values[0], values[-1]) == (parameter.low, parameter.high)
    assert np.diff(values) == pytest.approx([parameter.step] * (parameter.n - 1))
    assert all(len(repr(v)) < 8 for v in values)  # 0.3, not 0.30000000000000004
    # Those who compute come to nearly the same.
    for i, value in enumerate(values):
        computed = parameter.low + i * parameter.step
        assert parameter.recorded(min(computed, parameter.high)) == value
    assert not parameter.accepts(values[0] + parameter.step / 3)


def test_a_step_in_log_scale_takes_the_share_that_rounds_to_it():
    parameter = Float(0.5, 4.0, scale="log", step=0.5)
    values = [parameter.from_unit((i + 0.5) / 10_000) for i in range(10_000)]
    edges = np.log(np.arange(0.25, 4.5, 0.5))
    expected = np.diff(edges) / (edges[-1] - edges[0])
    assert [values.count(v) / 10_000 for v in every_value(parameter)] == pytest.approx(expected, abs=2e-4)


def test_a_log_int_spends_as_much_on_each_decade():
    values = [Int(1, 9999, scale="log").from_unit((i + 0.5) / 4000) for i in range(4000)]
    counts = np.histogram(np.log10(values), bins=[0, 1, 2, 3, 4])[0]
    assert counts.max() / counts.min() < 1.35  # the first decade begins at 0.5


@pytest.mark.parametrize("parameter", FLOATS + INTS + STEPS + CHOICES, ids=str)
def test_json_round_trip(parameter):
    conditioned = parameter.when("a.b", "in", (1, "x")).when("c", ">=", 2)
    assert parameter_from_json(conditioned.to_json()) == conditioned
    assert conditioned.conditions == (Condition("a.b", "in", [1, "x"]), Condition("c", ">=", 2))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float(0, 1), True),
        (Float(0, 1), "0.5"),
        (Float(0, 1), math.nan),
        (Float(0, 1), 1.0000001),
        (Int(0, 9), 1.0),
        (Int(0, 9), True),
        (Int(0, 9, step=3), 4),
        (Int(1, 8, scale="power_of_two"), 6),
        (Choice([1, 2]), True),
        (Choice([True, False]), 1),
        (Choice(["1", "2"]), 1),
    ],
    ids=str,
)
def test_accepts_only_its_own_values(parameter, value):
    assert not parameter.accepts(value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Float(1, 1), "Float.low"),
        (lambda: Float("0", 1), "Float.low"),
        (lambda: Float(0, math.inf), "Float.high"),
        (lambda: Float(0, 1, scale="log"), "Float.low"),
        (lambda: Float(0, 1, scale="reverse_log"), "Float.high"),
        (lambda: Float(0, 1, scale="lg"), "Float.scale"),
        (lambda: Float(0, 1, step=0), "Float.step"),
        (lambda: Float(0, 1, step="0.1"), "Float.step"),
        (lambda: Float(0, 1, step=2), "Float.step"),
        (lambda: Float(0, 1, step=1e-12), "Float.step"),
        (lambda: Float(0, 1, step=0.3), "Float.high"),
        (lambda: Float(0.0015, 0.1, scale="log", step=0.001), "Float.low"),
        (lambda: Float(0.001, 0.0995, scale="log", step=0.001), "Float.high"),
        (lambda: Float(0.5, 0.999, scale="reverse_log", step=0.01), "Float.high"),
        (lambda: Int(0, 1.5), "Int.high"),
        (lambda: Int(True, 3), "Int.low"),
        (lambda: Int(0, 10, step=3), "Int.high"),
        (lambda: Int(0, 10, step=0), "Int.step"),
        (lambda: Int(1, 10, scale="log", step=3), "Int.step"),
        (lambda: Int(0, 10, scale="log"), "Int.low"),
        (lambda: Int(2, 12, scale="power_of_two"), "Int.high"),
        (lambda: Choice("abc"), "Choice.options"),
        (lambda: Choice([1]), "Choice.options"),
        (lambda: Choice([1, 1.0]), "Choice.options"),
        (lambda: Choice([1, object()]), "Choice.options"),
        (lambda: Choice([Float(0, 1), 2]), "Choice.options"),
        (lambda: Choice([1, 2], ordered="yes"), "Choice.ordered"),
        (lambda: Float(0, 1).when("a", "=", 1), "when"),
        (lambda: Float(0, 1).when("a", "in", 1), "when"),
        (lambda: Float(0, 1).when("a", ">", "b"), "when"),
    ],
)
def test_a_wrong_parameter_names_its_field(make, field):
    with pytest.raises(ExperimentError) as error:
        make()
    assert error.value.field == field
    assert "\n" not in str(error.value)


def test_conditions_keep_types_apart():
    assert Condition("a", "==", True).holds(True)
    assert not Condition("a", "==", True).holds(1)
    assert not Condition("a", ">", 0).holds("x")
    assert not Condition("a", ">", 0).holds(None)
