"""Float and Int: numbers between two bounds, each in its own scale."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from raytune_hpo.checks import is_number
from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.parameter import BELOW_ONE, Parameter, Vector

EXACT = 1e-9  # of a step: what counts as a rounding of its multiples
MOST_STEPS = 1e9  # with more there is nothing to be seen of them


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

    step: only low, low + step, ..., high are values. Of a log scale both ends are multiples of step, of a reverse log
    one minus multiples: then it is the multiple that is drawn, each with the share of the scale that rounds to it (Ray
    Tune's quniform and qloguniform, but that the ends are as likely as the rest).
    """

    KIND: ClassVar[str] = "float"
    low: float
    high: float
    scale: str = "linear"
    step: float | None = None

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
        if self.step is not None:
            self._check_step()

    def _check_step(self) -> None:
        if not is_number(self.step) or float(self.step or 0) <= 0:
            raise ExperimentError("Float.step", self.step, "must be a number above 0")
        step, width = float(self.step or 0), self.high - self.low
        object.__setattr__(self, "step", step)
        if not step * (1 - EXACT) <= width <= MOST_STEPS * step:
            expected = f"must be from {width / MOST_STEPS:g} to high - low = {width:g}"
            raise ExperimentError("Float.step", step, expected)
        if self.scale != "linear":
            for name in ("low", "high"):
                self._check_multiple(name, step)
        if not _whole(width / step):
            near = float(Decimal(repr(self.low)) + math.floor(width / step) * Decimal(repr(step)))
            expected = f"must be low + a multiple of step = {step:g}, such as {near:g}"
            raise ExperimentError("Float.high", self.high, expected)

    def _check_multiple(self, name: str, step: float) -> None:
        """Of a bound of a log scale, or of one minus that of a reverse log."""
        falls, value = self.scale == "reverse_log", float(getattr(self, name))
        times = (1 - value if falls else value) / step
        if round(times) >= 1 and _whole(times):
            return
        multiple = max(round(times), 1) * Decimal(repr(step))
        expected = f"a {self.scale.replace('_', ' ')} scale with step = {step:g} needs {'1 - ' * falls}a multiple of it"
        near = float(1 - multiple if falls else multiple)
        raise ExperimentError(f"Float.{name}", value, f"{expected}, such as {near:g}")

    @functools.cached_property
    def places(self) -> Int | None:
        """The whole numbers that stand for its values, in a scale of their own; None without a step."""
        if self.step is None:
            return None
        if self.scale == "linear":
            return Int(0, round((self.high - self.low) / self.step))
        ends = (self.low, self.high) if self.scale == "log" else (1 - self.high, 1 - self.low)
        return Int(round(ends[0] / self.step), round(ends[1] / self.step), "log")

    def at_place(self, place: int) -> float:
        """The value of a place: what decimals give, 0.3 and not 0.1 + 2 * 0.1."""
        far = place * Decimal(repr(self.step))
        value = {"linear": Decimal(repr(self.low)) + far, "log": far}.get(self.scale, 1 - far)
        return min(max(float(value), self.low), self.high)

    def place_of(self, value: float) -> int:
        """The place of the nearest value."""
        assert self.places is not None
        assert self.step is not None
        far = {"linear": value - self.low, "log": value}.get(self.scale, 1 - value)
        return min(max(round(far / self.step), self.places.low), self.places.high)

    @property
    def n(self) -> int | None:
        return None if self.places is None else self.places.n

    @property
    def even(self) -> bool:
        return self.places is None or self.places.even

    def value_at(self, index: int) -> float:
        assert self.places is not None
        return self.at_place(self.places.value_at(self.places.n - 1 - index if self._falls else index))

    def index_of(self, value: Any) -> int:
        assert self.places is not None
        index = self.places.index_of(self.place_of(value))
        return self.places.n - 1 - index if self._falls else index

    @property
    def _falls(self) -> bool:
        """Whether a value is the smaller, the larger its place."""
        return self.scale == "reverse_log"

    def recorded(self, value: Any) -> Any:
        return self.at_place(self.place_of(value)) if self.step is not None and self.accepts(value) else value

    def from_unit(self, u: float) -> float:
        if self.places is not None:
            return self.at_place(self.places.from_unit(1 - u if self._falls else u))
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
        if self.places is not None:
            unit = self.places.to_unit(self.place_of(value))
            return 1 - unit if self._falls else unit
        if self.scale == "log":
            a, b, x = math.log(self.low), math.log(self.high), math.log(value)
        elif self.scale == "reverse_log":
            a, b, x = math.log1p(-self.low), math.log1p(-self.high), math.log1p(-value)
        else:
            a, b, x = self.low, self.high, value
        return min(max((x - a) / (b - a), 0.0), BELOW_ONE)

    def cell(self, value: Any) -> tuple[float, float]:
        if self.places is None:
            return super().cell(value)
        low, high = self.places.cell(self.place_of(value))
        return (1 - high, 1 - low) if self._falls else (low, high)

    def cell_length(self, value: Any) -> float:
        return 0.0 if self.places is None else self.places.cell_length(self.place_of(value))

    def snap(self, units: Vector) -> Vector:
        if self.places is None:
            return units
        return 1 - self.places.snap(1 - units) if self._falls else self.places.snap(units)

    def accepts(self, value: Any) -> bool:
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs(value - self.at_place(self.place_of(value))) <= EXACT * self.step

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_json().items() if name != "step" or value is not None}


def _whole(number: float) -> bool:
    """Whether it is a whole number of at least 0, but for rounding."""
    return abs(number - round(number)) <= EXACT * max(1.0, number)


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

    @property
    def even(self) -> bool:
        return self.scale != "log"

    def value_at(self, index: int) -> int:
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
