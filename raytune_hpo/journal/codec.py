"""Records to JSON and back, derived from the types of their fields.

Types: bool, int, float, str, enums of texts, X | None, dict[str, Any] (plain JSON data), records, `Metrics`, `Curve`,
and what `whole` and `text` make. A field at its default is not written. JSON is strict: what is not finite in metrics
and curves is written as {"float": "nan"}, "inf" or "-inf", and nowhere else allowed; no number is beyond a float's
range.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import sys
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any


class MalformedError(ValueError):
    """A value does not fit its field. The message names the field, the value and what would be right."""

    def __init__(self, where: str, value: Any, expected: str) -> None:
        super().__init__(f"{where} = {shown(value)}: {expected}")
        self._parts = where, value, expected

    def within(self, where: str) -> MalformedError:
        """The same, told from further out."""
        inner, value, expected = self._parts
        return MalformedError(f"{where}.{inner}", value, expected)


def shown(value: Any) -> str:
    """A value that may be of any size, in a few words."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits, a list too deep
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


Read = Callable[[Any, str], Any]
Write = Callable[[Any], Any]


def encoded(record: Any) -> dict[str, Any]:
    """A record as plain JSON data."""
    kind: Any = type(record)
    data: dict[str, Any] = _writer(kind)(record)
    return data


def decoded(cls: Any, data: Any, where: str) -> Any:
    """The `cls` that `data` holds. Raises MalformedError."""
    return _reader(cls)(data, where)


# Metrics ------------------------------------------------------------------------------------------

_ANY_FLOAT: dict[str, Any] = {
    "anyOf": [
        {"type": "number"},
        {
            "type": "object",
            "properties": {"float": {"enum": ["nan", "inf", "-inf"]}},
            "required": ["float"],
            "additionalProperties": False,
        },
    ]
}
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MAX = int(sys.float_info.max)


def _write_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    if not any(map(_beyond, metrics.values())):
        return metrics
    return {k: {"float": _word(v)} if _beyond(v) else v for k, v in metrics.items()}


def _beyond(value: Any) -> bool:
    """Whether JSON has no number for it, or one that no float is."""
    if isinstance(value, float):
        return not math.isfinite(value)
    return type(value) is int and not -_MAX <= value <= _MAX


def _word(value: float) -> str:
    return str(float(value)) if isinstance(value, float) else "inf" if value > 0 else "-inf"


def _read_metrics(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedError(where, data, "must be an object")
    out = {}
    for name, value in data.items():
        kind = type(value)
        if kind is int and _beyond(value):
            raise MalformedError(f"{where}.{name}", value, _TOO_LARGE)
        out[name] = _read_metric(value, f"{where}.{name}") if kind is dict or kind is list else value
    return out


def _read_metric(value: Any, where: str) -> float:
    name = value.get("float") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(name, str) or name not in _NOT_FINITE:
        raise MalformedError(where, value, "must be a number, a text, true, false or null")
    return _NOT_FINITE[name]


@dataclasses.dataclass(frozen=True)
class Coded:
    """How a field of an annotated type is written and read. schema: what its JSON is, by JSON Schema."""

    write: Write
    read: Read
    schema: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)


#: name -> number, text, bool or None; numbers may be NaN or infinite.
Metrics = Annotated[
    dict[str, Any],
    Coded(
        _write_metrics,
        _read_metrics,
        {"type": "object", "additionalProperties": {"anyOf": [_ANY_FLOAT, {"type": ["string", "boolean", "null"]}]}},
    ),
]


_EPOCH = re.compile(r"[0-9]{1,9}")


def _write_curve(curve: dict[int, float]) -> dict[Any, Any]:
    return {epoch: {"float": _word(v)} if _beyond(v) else v for epoch, v in curve.items()}


def _read_curve(value: Any, where: str) -> dict[int, float]:
    if not isinstance(value, dict) or not all(_EPOCH.fullmatch(k) for k in value):
        raise MalformedError(where, value, "must be an object, epoch: value")
    return {int(k): _read_value(v, f"{where}.{k}") for k, v in value.items()}


def _read_value(value: Any, where: str) -> float:
    if isinstance(value, dict):
        return _read_metric(value, where)
    if type(value) not in (int, float) or _beyond(value):
        raise MalformedError(where, value, "must be a number")
    return float(value)


#: epoch -> value, which may be NaN or infinite. Epochs are texts in JSON.
Curve = Annotated[
    dict[int, float],
    Coded(
        _write_curve,
        _read_curve,
        {"type": "object", "patternProperties": {"^[0-9]{1,9}$": _ANY_FLOAT}, "additionalProperties": False},
    ),
]


def _read_shape(data: Any, where: str) -> tuple[int, ...]:
    if not isinstance(data, list) or not all(type(n) is int and 0 <= n < 2**31 for n in data):
        raise MalformedError(where, data, "must be a list of sizes")
    return tuple(data)


#: (sizes of the axes).
Shape = Annotated[
    tuple[int, ...],
    Coded(list, _read_shape, {"type": "array", "items": {"type": "integer", "minimum": 0}}),
]

# Numbers and texts of a form ------------------------------------------------------------------------


def whole(low: int, high: int) -> Coded:
    """An integer from `low` to `high`."""

    def read(value: Any, where: str) -> int:
        if type(value) is not int or not low <= value <= high:
            raise MalformedError(where, value, f"must be an integer from {low} to {high}")
        return value

    return Coded(_as_it_is, read, {"type": "integer", "minimum": low, "maximum": high})


def text(fits: Callable[[str], object], form: str) -> Coded:
    """A text that `fits`. form: in words, what it must be."""

    def read(value: Any, where: str) -> str:
        if not isinstance(value, str) or not fits(value):
            raise MalformedError(where, value, f"must be {form}")
        return value

    return Coded(_as_it_is, read, {"type": "string", "description": form})


def several(fits: Callable[[str], object], what: str) -> Coded:
    """Texts that `fits` each, none of them twice, as a tuple."""

    def read(value: Any, where: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and fits(item) for item in value):
            raise MalformedError(where, value, f"must be a list of {what}")
        if len(set(value)) < len(value):
            raise MalformedError(where, value, "names one twice")
        return tuple(value)

    items = {"type": "string"}
    return Coded(list, read, {"type": "array", "items": items, "uniqueItems": True, "description": f"of {what}"})


def _as_it_is(value: Any) -> Any:
    return value


# Plain data -----------------------------------------------------------------------------------------

_DEEPEST = 64  # objects and lists in each other
_TOO_LARGE = "is beyond the range of numbers"


def read_plain_data(value: Any, where: str) -> dict[str, Any]:
    """An object of JSON's. Raises MalformedError for numbers beyond a float's range, and for too many objects and lists
    in each other."""
    if not isinstance(value, dict):
        raise MalformedError(where, value, "must be an object")
    _check_plain(value, where, _DEEPEST)
    return value


def _check_plain(value: Any, where: str, deepest: int) -> None:
    if deepest == 0:
        raise MalformedError(where, value, f"is nested more than {_DEEPEST} deep")
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        kind = type(item)
        if kind is str:
            continue
        if _beyond(item):
            raise MalformedError(f"{where}.{name}", item, _TOO_LARGE)
        if kind is dict or kind is list:
            _check_plain(item, f"{where}.{name}", deepest - 1)


# From types to functions --------------------------------------------------------------------------

UNIONS = (types.UnionType, typing.Union)


@functools.cache
def fields_of(cls: Any) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls)]


@functools.cache
def _writer(hint: Any) -> Write:
    inner: Write
    if typing.get_origin(hint) is Annotated:
        write: Write = hint.__metadata__[0].write
        return write
    if typing.get_origin(hint) in UNIONS:
        inner = _writer(not_none(hint))
        return lambda value: None if value is None else inner(value)
    if dataclasses.is_dataclass(hint):
        cls: Any = hint
        parts = [(f.name, default_of(f), _writer(h)) for f, h in fields_of(cls)]

        def write_record(record: Any) -> dict[str, Any]:
            out = {}
            for name, default, inner in parts:
                value = getattr(record, name)
                if default is dataclasses.MISSING or value != default:
                    out[name] = inner(value)
            return out

        return write_record
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value: value.value
    return lambda value: value


def default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@functools.cache
def _reader(hint: Any) -> Read:
    if typing.get_origin(hint) is Annotated:
        read: Read = hint.__metadata__[0].read
        return read
    if typing.get_origin(hint) in UNIONS:
        inner = _reader(not_none(hint))
        return lambda value, where: None if value is None else inner(value, where)
    if dataclasses.is_dataclass(hint):
        return _record_reader(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return functools.partial(_read_enum, hint)
    if typing.get_origin(hint) is dict:
        return read_plain_data
    return functools.partial(_read_plain, hint)


def not_none(hint: Any) -> Any:
    (kind,) = [a for a in typing.get_args(hint) if a is not type(None)]
    return kind


def _record_reader(cls: Any) -> Read:
    parts = [(f.name, default_of(f), _reader(h)) for f, h in fields_of(cls)]
    names = {name for name, _, _ in parts}

    def from_fields(data: dict[str, Any]) -> Any:
        values = []
        for name, default, inner in parts:
            if name in data:
                values.append(inner(data[name], name))
            elif default is dataclasses.MISSING:
                raise MalformedError(name, None, "is missing")
            else:
                values.append(default)
        if len(data) > len(names) or not data.keys() <= names:
            more = next(name for name in data if name not in names)
            raise MalformedError(more, data[more], "is no field that this version knows")
        return cls(*values)

    def read(data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise MalformedError(where, data, "must be an object")
        try:
            return from_fields(data)
        except MalformedError as error:  # the whole path is put together where it is needed: the rest is read often
            raise error.within(where) from None

    return read


def _read_enum(cls: type[Enum], value: Any, where: str) -> Enum:
    try:
        return cls(value)
    except (ValueError, TypeError):  # (of what has no hash)
        raise MalformedError(where, value, f"must be one of {', '.join(m.value for m in cls)}") from None


_WORDS = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}


def _read_plain(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        fits = type(value) in (int, float) and -_MAX <= value <= _MAX
    elif kind is int:
        fits = type(value) is int and -_MAX <= value <= _MAX
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise MalformedError(where, value, f"must be {_WORDS[kind]}")
    return value
