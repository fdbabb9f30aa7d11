"""One-line checks of user input: each raises ExperimentError with the field, the value and what is right."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError


def integer(field: str, value: Any, low: int, high: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        upper = "" if high is None else f" and at most {high}"
        raise ExperimentError(field, value, f"must be a whole number of at least {low}{upper}")
    return value


def number(
    field: str, value: Any, low: float, high: float = math.inf, *, open_low: bool = False, open_high: bool = False
) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or value < low or value > high or (open_low and value == low) or (open_high and value == high):
        lower = "" if low == -math.inf else f" {'above' if open_low else 'of at least'} {low:g}"
        upper = "" if high == math.inf else f" and {'below' if open_high else 'at most'} {high:g}"
        raise ExperimentError(field, value, f"must be a number{lower}{upper}")
    return float(value)


def one_of(field: str, value: Any, allowed: Iterable[str], suffix: str = "") -> str:
    names = sorted(allowed)
    if not isinstance(value, str) or value not in names:
        raise ExperimentError(field, value, f"must be one of {', '.join(names)}{suggest(value, names)}{suffix}")
    return value


def suggest(value: Any, names: Iterable[str]) -> str:
    """ " (did you mean 'x'?)", or nothing."""
    close = difflib.get_close_matches(str(value), list(names), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


@dataclass(frozen=True)
class Option:
    """One option of a searcher or scheduler. kind: int, float, str or list (of parameter names)."""

    kind: type
    default: Any
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    choices: tuple[str, ...] = ()

    def check(self, field: str, value: Any) -> Any:
        if value is None and self.default is None:
            return None
        if self.kind is int:
            return integer(field, value, int(self.low), None if self.high == math.inf else int(self.high))
        if self.kind is float:
            return number(field, value, self.low, self.high, open_low=self.open_low, open_high=self.open_high)
        if self.kind is str:
            return one_of(field, value, self.choices)
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ExperimentError(field, value, "must be a list of names")
        return list(value)


def named_options(field: str, value: Any, known: Mapping[str, Mapping[str, Option]]) -> tuple[str, dict[str, Any]]:
    """A name, or {"name": ..., option: value, ...}, as (name, all options with their defaults)."""
    given: dict[str, Any] = {}
    name = value
    if isinstance(value, Mapping):
        given = dict(value)
        name = given.pop("name", None)
    one_of(field if not isinstance(value, Mapping) else f"{field}.name", name, known)
    specs = known[name]
    for option in given:
        if option not in specs:
            listed = ", ".join(specs) or "none"
            raise ExperimentError(
                f"{field}.{option}",
                given[option],
                f"{name} has no such option; it has: {listed}{suggest(option, specs)}",
            )
    return name, {key: spec.check(f"{field}.{key}", given.get(key, spec.default)) for key, spec in specs.items()}
