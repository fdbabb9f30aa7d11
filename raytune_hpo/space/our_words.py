"""What another tuner's parameter is in our words, and the refusal that says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from raytune_hpo.errors import ExperimentError

LONGEST = 80  # letters of a list of options
NO_EQUAL = "has no equal here"
BOUNDED = f"{NO_EQUAL}: ours have bounds"


@dataclass(frozen=True)
class Foreign:
    """whose: it is; shown: as it was written; ours: what to write, or why there is nothing."""

    whose: str
    shown: str
    ours: str


class _Shown(str):
    """Text without quotes in an error's line."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def refuse(where: str, found: Foreign | None) -> None:
    """Raise ExperimentError for what was found."""
    if found is None:
        return
    ours = found.ours if NO_EQUAL in found.ours else f"ours is {found.ours}"
    raise ExperimentError(where, _Shown(found.shown), f"is {found.whose}; {ours}")


def written(value: Any) -> str:
    """A number or an option as a person would write it."""
    return repr(value.item() if hasattr(value, "item") else value)


def float_(low: Any, high: Any, *, log: bool = False, step: Any = None) -> str:
    low, high = float(low), float(high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return BOUNDED
    if low >= high:
        return f"a constant, {low!r}"
    if step and float(step) > 0:
        return _stepped(low, high, float(step), log=log and low > 0)
    return f"Float({low!r}, {high!r}{_scale(log=log and low > 0)})"


def _stepped(low: float, high: float, step: float, *, log: bool) -> str:
    """With ends that are on the grid: within the bounds, and of a log scale multiples of the step."""
    if not log and all(number.is_integer() for number in (low, high, step)):
        return int_(int(low), int(high), step=int(step))
    grid = Decimal(repr(step))
    first = max(math.ceil(low / step - 1e-9), 1) * grid if log else Decimal(repr(low))
    count = math.floor((high - float(first)) / step + 1e-9)
    if count < 1:
        return f"a constant, {float(first)!r}"
    return f"Float({float(first)!r}, {float(first + count * grid)!r}{_scale(log=log)}, step={step!r})"


def int_(low: Any, high: Any, *, log: bool = False, step: Any = 1) -> str:
    """Both ends included."""
    low, high, step = int(low), int(high), int(step or 1)
    high = low + (high - low) // step * step
    if low >= high:
        return f"a constant, {low}"
    stepped = f", step={step}" if step > 1 and not log else ""
    return f"Int({low}, {high}{_scale(log=log and low > 0)}{stepped})"


def _scale(*, log: bool) -> str:
    return ', scale="log"' if log else ""


def choice(options: Sequence[Any]) -> str:
    if len(options) == 1:
        return f"a constant, {written(options[0])}"
    listed = ", ".join(map(written, options))
    return f"Choice([{listed}])" if len(listed) <= LONGEST else f"Choice([...]) of its {len(options)} options"


def normal(mean: Any, deviation: Any) -> str:
    return f"{BOUNDED}, such as {float_(float(mean) - 2 * float(deviation), float(mean) + 2 * float(deviation))}"


def range_(value: range) -> str:
    return int_(value.start, value[-1], step=value.step) if len(value) > 1 and value.step > 0 else choice(list(value))


def listed(given: Any) -> str:
    return ", ".join(map(written, given)) if isinstance(given, list | tuple) else written(given)


def said(read: Callable[..., str] | None, given: Any) -> str:
    """What `read` makes of the arguments; NO_EQUAL where they are not such as it takes."""
    if read is None or not isinstance(given, list | tuple):
        return NO_EQUAL
    try:
        return read(*given)
    except (TypeError, ValueError, OverflowError):
        return NO_EQUAL
