"""One-line checks of user input: each raises ExperimentError with the field, the value and what is right."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from raytune_hpo.errors import ExperimentError

MANY = 8


def is_number(value: object) -> TypeGuard[float]:
    """Whether `value` is an int or float, finite as a float, and no bool."""
    # math.isfinite raises for an int above 1e308.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def integer(field: str, value: Any, low: float, high: float = math.inf) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        below, above = low > -math.inf, high < math.inf
        bounds = f" from {int(low)} to {int(high)}" if below and above else f" of at least {int(low)}" if below else ""
        bounds = bounds or (f" of at most {int(high)}" if above else "")
        raise ExperimentError(field, value, f"must be an integer{bounds}")
    return value


def number(
    field: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> float:
    too_low = is_number(value) and (value < low or (open_low and value == low))
    too_high = is_number(value) and (value > high or (open_high and value == high))
    if not is_number(value) or too_low or too_high:
        bounds = []
        if low != -math.inf:
            bounds.append(f"{'above' if open_low else 'of at least'} {low:g}")
        if high != math.inf:
            bounds.append(f"{'below' if open_high else 'at most'} {high:g}")
        closed = len(bounds) == 2 and not open_low and not open_high
        listed = f"from {low:g} to {high:g}" if closed else " and ".join(bounds)
        raise ExperimentError(field, value, f"must be a number {listed}" if bounds else "must be a finite number")
    return float(value)


def one_of(field: str, value: Any, allowed: Iterable[str]) -> str:
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise ExperimentError(field, value, f"must be one of {', '.join(names)}{did_you_mean(value, names)}")
    return value


def did_you_mean(word: object, names: Iterable[str]) -> str:
    """ "; did you mean 'x'?" where a name is near, else nothing."""
    names = list(names)
    begun = [name for name in names if len(str(word)) > 2 and name.startswith(str(word))]
    near = begun if len(begun) == 1 else difflib.get_close_matches(str(word), names, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def no_such(what: str, word: object, names: Iterable[str]) -> str:
    """ "no such option; there are: x, y; did you mean 'x'?"; only the nearest where there are many."""
    names = list(names)
    near = did_you_mean(word, names)
    listed = f"; there are: {', '.join(names) or 'none'}" if not near or len(names) <= MANY else ""
    return f"no such {what}{listed}{near}"


def named(field: str, value: Any, names: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """A name, or {"name": ..., option: value, ...}, as (name, the options as given)."""
    if not isinstance(value, Mapping):
        return one_of(field, value, names), {}
    given = dict(value)
    if "name" not in given:
        raise ExperimentError(field, given, f"needs a 'name': one of {', '.join(names)}")
    return one_of(f"{field}.name", given.pop("name"), names), given
