"""What a user's code reports, as metrics that the journal takes: numbers, truth values, None and short texts by name.

Nested ones get the names that Ray Tune gives them ("eval/loss", "f1/0"). What is no such value is left out, by name.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from raytune_hpo.errors import encodable

MOST_NUMBERS = 32  # of a list or an array
MOST_TEXT = 1000  # characters
DEEPEST = 8

#: What Ray Tune takes from a report for itself.
CONTROLS = ("done", "should_checkpoint")


class Metrics(NamedTuple):
    """kept: as the journal takes them. left_out: what the others are, by name."""

    kept: dict[str, Any]
    left_out: dict[str, str]


class _LeftOutError(Exception):
    """The message says what the value is."""


def plain_metrics(metrics: Mapping[str, Any]) -> Metrics:
    """Metrics as plain values. Raises nothing, whatever they are."""
    if all(type(value) is float for value in metrics.values()) and all(type(name) is str for name in metrics):
        return Metrics({encodable(name): value for name, value in metrics.items()}, {})
    left_out: dict[str, str] = {}
    return Metrics(_flat(metrics, "", left_out, 0), left_out)


def _flat(values: Mapping[Any, Any], prefix: str, left_out: dict[str, str], depth: int) -> dict[str, Any]:
    """Of two values that come to the same name, the one that lay deeper stands, as with Ray."""
    out: dict[str, Any] = {}
    deeper: dict[str, Any] = {}
    for key, value in values.items():
        try:
            name = prefix + encodable(str(key))
        except Exception:  # a key's own __str__
            name = prefix + type(key).__name__
        try:
            inside = _inside(value)
            if inside is None:
                out[name] = _plain(value)
            elif depth >= DEEPEST:
                raise _LeftOutError("is nested too deeply")
            else:
                named: dict[str, str] = {}
                found = _flat(inside, f"{name}/", named, depth + 1)
                if not isinstance(value, Mapping) and len(found) > MOST_NUMBERS:
                    raise _LeftOutError(f"has {len(found)} numbers")
                deeper.update(found)
                left_out.update(named)
        except _LeftOutError as error:
            left_out[name] = str(error)
        except Exception as error:  # of the value's own methods
            left_out[name] = f"is a {type(value).__name__} that raises {type(error).__name__}"
    return {**out, **deeper}


def _inside(value: Any) -> Mapping[Any, Any] | None:
    """The parts of a value that has some."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple):
        if len(value) > MOST_NUMBERS:
            raise _LeftOutError(f"has {len(value)} entries")
        return dict(enumerate(value))
    shape = getattr(value, "shape", None)
    if isinstance(value, np.generic) or shape is None or not callable(getattr(value, "tolist", None)):
        return None
    size = math.prod(shape)
    if size == 1:
        return None
    if size > MOST_NUMBERS:
        raise _LeftOutError(f"is an array of {size}")
    return dict(enumerate(value.tolist()))


def _plain(value: Any) -> Any:
    """One value: Python's own types only, which every process knows."""
    if not isinstance(value, str | bool | int | float | None) or isinstance(value, np.generic):
        item = getattr(value, "item", None)
        if callable(item) and getattr(value, "shape", None) is not None:
            value = item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > MOST_TEXT:
            raise _LeftOutError(f"is a text of {len(value)} characters")
        return encodable(str.__str__(value))
    if isinstance(value, numbers.Integral):
        number = int(value)
        if abs(number) > sys.float_info.max:
            raise _LeftOutError(f"is an integer of {number.bit_length()} bits, no float")
        return number
    if isinstance(value, numbers.Real | Decimal):
        return float(value)
    raise _LeftOutError(f"is a {type(value).__name__}")
