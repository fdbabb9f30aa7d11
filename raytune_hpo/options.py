"""Options: frozen records whose fields declare, once, what their values may be.

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(10, low=2, doc="random configs until so many trials are finished")

The field's type and its bounds, in the field's metadata, are all that there is: the check when a record is made, its
JSON and its help text are derived from them. A type is int, float, str, bool or tuple[str, ...], or one of these or
None, which then means "not set".
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError

T = TypeVar("T", bound="Options")
_DECLARED: dict[type, dict[str, tuple[type, bool, Any]]] = {}


class Named:
    """Base of what an experiment chooses by name: a class that states none is called after itself."""

    name: ClassVar[str]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__


@dataclass(frozen=True)
class Bounds:
    """What a field's value may be. low, high: of a number; an int needs a low. choices: of a text."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    choices: tuple[str, ...] = ()
    doc: str = ""


def option(
    default: Any = dataclasses.MISSING,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    choices: tuple[str, ...] = (),
    doc: str = "",
) -> Any:
    """A field of an Options record, with its bounds. Without a default it has to be given."""
    metadata = {"bounds": Bounds(low, high, open_low, open_high, choices, doc)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Base of the records. Making one checks it: raises ExperimentError naming FIELD.option."""

    #: The field of an experiment that such a record stands in.
    FIELD: ClassVar[str] = "options"

    def __post_init__(self) -> None:
        for name, (kind, optional, bounds) in declared(type(self)).items():
            value = checked(f"{self.FIELD}.{name}", kind, optional, bounds, getattr(self, name))
            object.__setattr__(self, name, value)

    def to_json(self) -> dict[str, Any]:
        """The options as plain JSON data; `options_of` makes an equal record of it."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}


def declared(cls: type[Options]) -> dict[str, tuple[type, bool, Bounds]]:
    """name -> (type, whether None is a value, bounds) of every field."""
    if cls in _DECLARED:
        return _DECLARED[cls]
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        hint, optional = hints[field.name], False
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            kinds = [a for a in typing.get_args(hint) if a is not type(None)]
            optional = len(kinds) < len(typing.get_args(hint))
            hint = kinds[0] if len(kinds) == 1 else hint
        kind = typing.get_origin(hint) or hint
        if hint not in (int, float, str, bool) and kind not in (tuple, list):
            expected = "an option is int, float, str, bool or tuple[str, ...], or one of these or None"
            raise ExperimentError(f"{cls.__qualname__}.{field.name}", str(hint), expected)
        if field.name == "name":
            raise ExperimentError(
                f"{cls.__qualname__}.name", "name", "is what the whole is called; choose another word"
            )
        found[field.name] = (kind, optional, field.metadata.get("bounds", Bounds()))
    _DECLARED[cls] = found
    return found


def checked(field: str, kind: type, optional: bool, bounds: Bounds, value: Any) -> Any:
    """`value` in the option's own type. Raises ExperimentError naming `field`."""
    if value is None and optional:
        return None
    if kind is int:
        return checks.integer(field, value, bounds.low, bounds.high)
    if kind is float:
        opened = {"open_low": bounds.open_low, "open_high": bounds.open_high}
        return checks.number(field, value, bounds.low, bounds.high, **opened)
    if kind is bool or kind is str:
        return _flag_or_text(field, kind, bounds, value)
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise ExperimentError(field, value, "must be a list of names")
    return tuple(value)


def _flag_or_text(field: str, kind: type, bounds: Bounds, value: Any) -> Any:
    if bounds.choices:
        return checks.one_of(field, value, bounds.choices)
    if not isinstance(value, kind) or value == "":
        raise ExperimentError(field, value, "must be True or False" if kind is bool else "must be a name")
    return value


def options_of(cls: type[T], name: str, given: Any) -> T:
    """The record of the options `given` to what is called `name`, with the defaults of those that are not given.

    Raises ExperimentError for an unknown option or a wrong value.
    """
    if not isinstance(given, Mapping):
        raise ExperimentError(cls.FIELD, given, f"the options of {name!r} must be a dictionary")
    names = list(declared(cls))
    for key, value in given.items():
        if key not in names:
            raise ExperimentError(f"{cls.FIELD}.{key}", value, checks.no_such(f"option of {name!r}", key, names))
    return cls(**given)


def help_text(cls: type[Options]) -> list[str]:
    """One line an option: its name, default, bounds and meaning."""
    lines = []
    for field in dataclasses.fields(cls):
        _, optional, bounds = declared(cls)[field.name]
        allowed = ", ".join(bounds.choices)
        if not allowed and (bounds.low > -math.inf or bounds.high < math.inf):
            left, right = ("(" if bounds.open_low else "["), (")" if bounds.open_high else "]")
            allowed = f"{left}{bounds.low:g}, {bounds.high:g}{right}"
        unset = " or None" if optional and field.default is not None else ""
        lines.append(f"{field.name} = {field.default!r}{unset}  {allowed}  {bounds.doc}".rstrip())
    return lines
