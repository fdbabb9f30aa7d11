"""Records to JSON and back, derived from the types of their fields.

Types: bool, int, float, str, enums of texts, X | None, Any (plain JSON data), dict[str, Any], dict[int, float],
records, and `Metrics`. A field at its default is not written. JSON is strict: what is not finite in metrics is written
as {"float": "nan"}, "inf" or "-inf", and nowhere else allowed.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any


class MalformedError(ValueError):
    """A value does not fit its field. The message names the field, the value and what would be right."""

    def __init__(self, where: str, value: Any, expected: str) -> None:
        shown = repr(value)
        super().__init__(f"{where} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {expected}")


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

_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def _write_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    for value in metrics.values():
        if isinstance(value, float) and not math.isfinite(value):
            break
    else:
        return metrics
    return {
        k: {"float": str(float(v))} if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()
    }


def _read_metrics(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise MalformedError(where, data, "must be an object")
    out = {}
    for name, value in data.items():
        out[name] = _read_metric(value, f"{where}.{name}") if isinstance(value, dict | list) else value
    return out


def _read_metric(value: Any, where: str) -> float:
    name = value.get("float") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(name, str) or name not in _NOT_FINITE:
        raise MalformedError(where, value, "must be a number, a text, true, false or null")
    return _NOT_FINITE[name]


@dataclasses.dataclass(frozen=True)
class Coded:
    """How a field of an annotated type is written and read."""

    write: Write
    read: Read


#: name -> number, text, bool or None; numbers may be NaN or infinite.
Metrics = Annotated[dict[str, Any], Coded(_write_metrics, _read_metrics)]


def _read_shape(data: Any, where: str) -> tuple[int, ...]:
    if not isinstance(data, list) or not all(type(n) is int and 0 <= n < 2**31 for n in data):
        raise MalformedError(where, data, "must be a list of sizes")
    return tuple(data)


#: (sizes of the axes).
Shape = Annotated[tuple[int, ...], Coded(list, _read_shape)]


# From types to functions --------------------------------------------------------------------------


@functools.cache
def _fields(cls: Any) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls)]


@functools.cache
def _writer(hint: Any) -> Write:
    inner: Write
    if typing.get_origin(hint) is Annotated:
        write: Write = hint.__metadata__[0].write
        return write
    if isinstance(hint, types.UnionType):
        inner = _writer(_not_none(hint))
        return lambda value: None if value is None else inner(value)
    if dataclasses.is_dataclass(hint):
        cls: Any = hint
        parts = [(f.name, _default(f), _writer(h)) for f, h in _fields(cls)]

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


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@functools.cache
def _reader(hint: Any) -> Read:  # noqa: PLR0911  (one return a type)
    if typing.get_origin(hint) is Annotated:
        read: Read = hint.__metadata__[0].read
        return read
    if isinstance(hint, types.UnionType):
        inner = _reader(_not_none(hint))
        return lambda value, where: None if value is None else inner(value, where)
    if dataclasses.is_dataclass(hint):
        return _record_reader(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return functools.partial(_read_enum, hint)
    if hint is Any:
        return lambda value, where: value
    origin = typing.get_origin(hint)
    if origin is dict and typing.get_args(hint)[0] is int:
        return _read_curve
    return functools.partial(_read_plain, dict if origin is dict else hint)


def _not_none(hint: types.UnionType) -> Any:
    (kind,) = [a for a in typing.get_args(hint) if a is not type(None)]
    return kind


def _record_reader(cls: Any) -> Read:
    parts = [(f.name, _default(f), _reader(h)) for f, h in _fields(cls)]
    names = {name for name, _, _ in parts}

    def read(data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            raise MalformedError(where, data, "must be an object")
        values = []
        for name, default, inner in parts:
            if name in data:
                values.append(inner(data[name], f"{where}.{name}"))
            elif default is dataclasses.MISSING:
                raise MalformedError(f"{where}.{name}", None, "is missing")
            else:
                values.append(default)
        if len(data) > len(names) or not data.keys() <= names:
            more = next(name for name in data if name not in names)
            raise MalformedError(f"{where}.{more}", data[more], "is no field that this version knows")
        return cls(*values)

    return read


def _read_enum(cls: type[Enum], value: Any, where: str) -> Enum:
    try:
        return cls(value)
    except ValueError:
        raise MalformedError(where, value, f"must be one of {', '.join(m.value for m in cls)}") from None


_WORDS = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false", dict: "an object"}


def _read_plain(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and (isinstance(value, int) or math.isfinite(value))
    else:
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if not fits:
        raise MalformedError(where, value, f"must be {_WORDS[kind]}")
    return value


def _read_curve(value: Any, where: str) -> dict[int, float]:
    """Epochs are texts in JSON."""
    if not isinstance(value, dict) or not all(k.isdigit() for k in value):
        raise MalformedError(where, value, "must be an object, epoch: value")
    return {int(k): _read_plain(float, v, f"{where}.{k}") for k, v in value.items()}
