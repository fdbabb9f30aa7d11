"""Option: one documented setting of a search algorithm, checked before anything is started."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.parameters import is_number


@dataclass(frozen=True)
class Option:
    """A number in [low, high] (an integer if `default` is one), or one of `choices`."""

    default: Any
    low: float = 0.0
    high: float = 1e6
    choices: tuple[str, ...] = ()

    def check(self, where: str, value: Any) -> Any:
        """`value` in the option's own type. Raises ExperimentError naming `where`."""
        if self.choices:
            if value not in self.choices:
                hint = did_you_mean(value, self.choices)
                raise ExperimentError(where, value, f"must be one of {', '.join(self.choices)}{hint}")
            return value
        integer = isinstance(self.default, int)
        right_type = is_number(value) and (not integer or isinstance(value, int))
        if not right_type or not self.low <= value <= self.high:
            kind = "an integer" if integer else "a number"
            raise ExperimentError(where, value, f"must be {kind} from {self.low:g} to {self.high:g}")
        return value if integer else float(value)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` when a known word is close, else an empty text."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def checked(name: str, options: Mapping[str, Any], known: Mapping[str, Option]) -> dict[str, Any]:
    """`options` with the defaults filled in. Raises ExperimentError naming `searcher.<option>`."""
    if not isinstance(options, Mapping):
        raise ExperimentError("searcher", options, f"the options of {name!r} must be a dictionary")
    for key, value in options.items():
        if key not in known:
            hint = did_you_mean(key, known)
            there = ", ".join(known) or "none"
            raise ExperimentError(f"searcher.{key}", value, f"{name!r} has no such option; there are: {there}{hint}")
    return {
        key: option.check(f"searcher.{key}", options[key]) if key in options else option.default
        for key, option in known.items()
    }
