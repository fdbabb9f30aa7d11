"""The parameters of a search space: Float, Int and Choice, each with a map to the unit interval.

Notations
    value   what the trainer gets: a Python float, int, or one of a Choice's options
    unit    its coordinate u in [0, 1), in the parameter's own scale
    n       the number of distinct values of an Int or a Choice; None for a Float
    cell    the interval of units that one value of an Int or a Choice comes from

`from_unit` maps [0, 1) onto the values so that a uniform u is a draw in the parameter's scale;
`to_unit` is its inverse: `from_unit(to_unit(v)) == v` exactly for Int and Choice and to within
floating-point rounding (4e-15 relative) for Float. The idea is Keras Tuner's (`prob_to_value`,
`value_to_prob`): each algorithm works in one cube and no scale gets lost.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import Condition, same
from raytune_hpo.space.foreign_objects import refuse_object

BELOW_ONE = math.nextafter(1.0, 0.0)
Vector = np.ndarray[Any, np.dtype[np.float64]]


def json_value(where: str, value: Any) -> Any:
    """`value` as plain JSON data (tuples become lists). Raises ExperimentError naming `where`."""
    refuse_object(where, value)
    if isinstance(value, Parameter):
        raise ExperimentError(where, value, "a parameter cannot stand inside a value; use .when(...) conditions")
    if isinstance(value, list | tuple):
        return [json_value(where, v) for v in value]
    if isinstance(value, dict):
        if not all(isinstance(k, str) for k in value):
            raise ExperimentError(where, value, "the keys of a dictionary must be strings")
        return {k: json_value(where, v) for k, v in value.items()}
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ExperimentError(
        where, value, "must be a plain JSON value (text, finite number, true, false, none, list, dictionary)"
    )


@dataclass(frozen=True)
class Parameter:
    """Base of Float, Int and Choice. `conditions` must all hold for the parameter to be active."""

    KIND: ClassVar[str]
    conditions: tuple[Condition, ...] = field(default=(), kw_only=True)

    def when(self, parent: str, op: str, operand: Any) -> Self:
        """The same parameter, active only where the condition holds; several `when` must all hold.

        `Float(0.5, 0.99).when("optimizer", "==", "sgd")`
        """
        condition = Condition(parent, op, list(operand) if isinstance(operand, tuple) else operand)
        return dataclasses.replace(self, conditions=(*self.conditions, condition))

    @property
    def n(self) -> int | None:
        raise NotImplementedError

    @property
    def categories(self) -> int:
        """The number of options where they have no order, as in a Choice that is not `ordered`; else 0."""
        return 0

    def from_unit(self, u: float) -> Any:
        raise NotImplementedError

    def to_unit(self, value: Any) -> float:
        raise NotImplementedError

    def cell(self, value: Any) -> tuple[float, float]:
        """The ends of the value's cell; of a Float, its one unit twice."""
        unit, half = self.to_unit(value), 0.5 / self.n if self.n else 0.0
        return unit - half, unit + half

    def cell_length(self, value: Any) -> float:
        """0 for a Float."""
        return 1 / self.n if self.n else 0.0

    def snap(self, units: Vector) -> Vector:
        """units [m], each in the middle of the cell that it lies in: `to_unit(from_unit(u))` of many at once."""
        if self.n is None:
            return units
        snapped: Vector = (np.floor(units * self.n).clip(0, self.n - 1) + 0.5) / self.n
        return snapped

    def accepts(self, value: Any) -> bool:
        """Whether `value` is one of the parameter's values, type included."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.KIND}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name != "conditions":
                out[f.name] = list(value) if isinstance(value, tuple) else value
        if self.conditions:
            out["when"] = [[c.parent, c.op, c.operand] for c in self.conditions]
        return out


def _check_bounds(kind: str, low: Any, high: Any, integer: bool) -> None:
    for name, value in (("low", low), ("high", high)):
        if not is_number(value) or (integer and not isinstance(value, int)):
            raise ExperimentError(f"{kind}.{name}", value, f"must be {'an integer' if integer else 'a number'}")
    if low >= high:
        raise ExperimentError(f"{kind}.low", low, f"must be below high = {high}")


@dataclass(frozen=True)
class Float(Parameter):
    """A real number in [low, high].

    scale: "linear"; "log" (10^r with r uniform; low > 0); "reverse_log" (1 - 10^r with r uniform, for
    values near 1 such as momentum; high < 1).
    """

    KIND: ClassVar[str] = "float"
    low: float
    high: float
    scale: str = "linear"

    def __post_init__(self) -> None:
        _check_bounds("Float", self.low, self.high, integer=False)
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.scale not in ("linear", "log", "reverse_log"):
            raise ExperimentError("Float.scale", self.scale, "must be 'linear', 'log' or 'reverse_log'")
        if self.scale == "log" and self.low <= 0:
            raise ExperimentError("Float.low", self.low, "a log scale needs low > 0")
        if self.scale == "reverse_log" and self.high >= 1:
            raise ExperimentError("Float.high", self.high, "a reverse log scale needs high < 1")

    @property
    def n(self) -> None:
        return None

    def from_unit(self, u: float) -> float:
        if self.scale == "log":
            a, b = math.log(self.low), math.log(self.high)
            value = math.exp(a + u * (b - a))
        elif self.scale == "reverse_log":
            a, b = math.log1p(-self.low), math.log1p(-self.high)
            value = -math.expm1(a + u * (b - a))
        else:
            value = self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def to_unit(self, value: Any) -> float:
        value = float(value)
        if self.scale == "log":
            a, b, x = math.log(self.low), math.log(self.high), math.log(value)
        elif self.scale == "reverse_log":
            a, b, x = math.log1p(-self.low), math.log1p(-self.high), math.log1p(-value)
        else:
            a, b, x = self.low, self.high, value
        return min(max((x - a) / (b - a), 0.0), BELOW_ONE)

    def accepts(self, value: Any) -> bool:
        return is_number(value) and self.low <= value <= self.high


@dataclass(frozen=True)
class Int(Parameter):
    """A whole number in [low, high], both included.

    scale: "linear" (with a step from low), "log" (low >= 1), or "power_of_two" (low and high are
    powers of two; only powers of two are drawn, each as likely).
    """

    KIND: ClassVar[str] = "int"
    low: int
    high: int
    scale: str = "linear"
    step: int = 1

    def __post_init__(self) -> None:
        _check_bounds("Int", self.low, self.high, integer=True)
        if self.scale not in ("linear", "log", "power_of_two"):
            raise ExperimentError("Int.scale", self.scale, "must be 'linear', 'log' or 'power_of_two'")
        if not isinstance(self.step, int) or isinstance(self.step, bool) or self.step < 1:
            raise ExperimentError("Int.step", self.step, "must be an integer of at least 1")
        if self.step > 1 and self.scale != "linear":
            raise ExperimentError("Int.step", self.step, "goes with scale='linear' only")
        if (self.high - self.low) % self.step:
            nearest = self.low + (self.high - self.low) // self.step * self.step
            raise ExperimentError(
                "Int.high", self.high, f"must be low + a multiple of step = {self.step}, such as {nearest}"
            )
        if self.scale == "log" and self.low < 1:
            raise ExperimentError("Int.low", self.low, "a log scale needs low >= 1")
        if self.scale == "power_of_two":
            for name in ("low", "high"):
                value = getattr(self, name)
                if value < 1 or value & (value - 1):
                    raise ExperimentError(f"Int.{name}", value, "must be a power of two")

    @property
    def n(self) -> int:
        if self.scale == "power_of_two":
            return self.high.bit_length() - self.low.bit_length() + 1
        return (self.high - self.low) // self.step + 1

    def value_at(self, index: int) -> int:
        """The value number `index`, 0 <= index < n, in ascending order."""
        return self.low << index if self.scale == "power_of_two" else self.low + index * self.step

    def index_of(self, value: int) -> int:
        if self.scale == "power_of_two":
            return value.bit_length() - self.low.bit_length()
        return (value - self.low) // self.step

    def log_bounds(self) -> tuple[float, float]:
        """The logarithms that the units of a log scale reach from and to: half a place of room at both ends."""
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def from_unit(self, u: float) -> int:
        if self.scale == "log":
            a, b = self.log_bounds()
            return min(max(round(math.exp(a + u * (b - a))), self.low), self.high)
        return self.value_at(min(int(u * self.n), self.n - 1))

    def to_unit(self, value: Any) -> float:
        if self.scale == "log":
            # The middle of the value's cell, so that rounding leads back to the value.
            a, b = self.log_bounds()
            middle = (math.log(value - 0.5) + math.log(value + 0.5)) / 2
            return min(max((middle - a) / (b - a), 0.0), BELOW_ONE)
        return (self.index_of(value) + 0.5) / self.n

    def cell(self, value: Any) -> tuple[float, float]:
        if self.scale != "log":
            return super().cell(value)
        a, b = self.log_bounds()
        return (math.log(value - 0.5) - a) / (b - a), (math.log(value + 0.5) - a) / (b - a)

    def cell_length(self, value: Any) -> float:
        if self.scale != "log":
            return super().cell_length(value)
        a, b = self.log_bounds()
        return (math.log(value + 0.5) - math.log(value - 0.5)) / (b - a)

    def snap(self, units: Vector) -> Vector:
        if self.scale != "log":
            return super().snap(units)
        a, b = self.log_bounds()
        values = np.round(np.exp(a + units * (b - a))).clip(self.low, self.high)
        middle: Vector = (np.log(values - 0.5) + np.log(values + 0.5)) / 2
        return (middle - a) / (b - a)

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        if self.scale == "power_of_two":
            return value & (value - 1) == 0
        return (value - self.low) % self.step == 0


@dataclass(frozen=True)
class Choice(Parameter):
    """One of several options, each a JSON value. ordered=True says that neighbours are alike."""

    KIND: ClassVar[str] = "choice"
    options: Sequence[Any]
    ordered: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not isinstance(self.options, list | tuple):
            raise ExperimentError("Choice.options", self.options, "must be a list of options")
        if len(self.options) < 2:
            raise ExperimentError("Choice.options", self.options, "needs two or more; write a constant instead")
        options = tuple(json_value("Choice.options", o) for o in self.options)
        # Text and numbers by their hash, or ten thousand options would be compared with one another.
        hashed: set[tuple[bool, Any]] = set()
        others: list[Any] = []
        for option in options:
            nested = isinstance(option, list | dict)
            key = (isinstance(option, bool), None if nested else option)
            if any(same(option, other) for other in others) if nested else key in hashed:
                raise ExperimentError("Choice.options", option, "stands in the list twice")
            if nested:
                others.append(option)
            else:
                hashed.add(key)
        object.__setattr__(self, "options", options)
        if not isinstance(self.ordered, bool):
            raise ExperimentError("Choice.ordered", self.ordered, "must be True or False")

    @property
    def n(self) -> int:
        return len(self.options)

    @property
    def categories(self) -> int:
        return 0 if self.ordered else self.n

    def value_at(self, index: int) -> Any:
        option = self.options[index]
        return list(option) if isinstance(option, list) else option

    def index_of(self, value: Any) -> int:
        return next(i for i, option in enumerate(self.options) if same(option, value))

    def from_unit(self, u: float) -> Any:
        return self.value_at(min(int(u * self.n), self.n - 1))

    def to_unit(self, value: Any) -> float:
        return (self.index_of(value) + 0.5) / self.n

    def accepts(self, value: Any) -> bool:
        value = list(value) if isinstance(value, tuple) else value
        return any(same(option, value) for option in self.options)


KINDS: dict[str, type[Parameter]] = {cls.KIND: cls for cls in (Float, Int, Choice)}


def parameter_from_json(data: dict[str, Any]) -> Parameter:
    """The inverse of `Parameter.to_json`."""
    fields = {k: v for k, v in data.items() if k not in ("kind", "when")}
    parameter = KINDS[data["kind"]](**fields)
    for parent, op, operand in data.get("when", []):
        parameter = parameter.when(parent, op, operand)
    return parameter
