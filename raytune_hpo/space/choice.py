"""Choice: one of several options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import same
from raytune_hpo.space.foreign_objects import refuse_object
from raytune_hpo.space.named import GIVE_A_NAME, GONE, Named, import_name, is_json, is_named_by_import, text_for
from raytune_hpo.space.parameter import Parameter, json_value


@dataclass(frozen=True)
class Choice(Parameter):
    """One of several options: JSON values, classes, functions, or whatever a dictionary names.

    options: a list, Choice(["sgd", None, nn.ReLU]), or name -> object, Choice({"small": small, "large": large}), of
    which the names are what is recorded, shown and compared. ordered=True says that neighbours are alike.
    objects: of options that are recorded by name, what the user's code gets; filled in here.
    """

    KIND: ClassVar[str] = "choice"
    options: Sequence[Any] | Mapping[str, Any]
    ordered: bool = False
    objects: Mapping[str, Any] | None = field(default=None, kw_only=True, compare=False, repr=False)

    def __post_init__(self) -> None:
        # A recorded one knows the texts alone.
        given = self.objects or {}
        named: dict[str, Any] = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, GONE)
        if isinstance(self.options, Mapping):
            options = [_name(name, value) for name, value in self.options.items()]
            named.update(self.options)
        elif isinstance(self.options, list | tuple):
            options = [_option(option, named) for option in self.options]
        else:
            raise ExperimentError("Choice.options", self.options, "must be a list of options, or names and options")
        if len(options) < 2:
            raise ExperimentError("Choice.options", self.options, "needs two or more; write a constant instead")
        _check_distinct(options, self.options if isinstance(self.options, list | tuple) else options)
        object.__setattr__(self, "options", tuple(options))
        object.__setattr__(self, "objects", named or None)
        if not isinstance(self.ordered, bool):
            raise ExperimentError("Choice.ordered", self.ordered, "must be True or False")

    @property
    def values(self) -> tuple[Any, ...]:
        """The options as configs hold them."""
        return self.options  # type: ignore[return-value]  # since __post_init__

    @property
    def n(self) -> int:
        return len(self.options)

    @property
    def categories(self) -> int:
        return 0 if self.ordered else self.n

    def value_at(self, index: int) -> Any:
        option = self.values[index]
        return list(option) if isinstance(option, list) else option

    def index_of(self, value: Any) -> int:
        """Raises ValueError for what is none of the options."""
        found = next((i for i, option in enumerate(self.values) if same(option, value)), None)
        if found is None:
            raise ValueError(f"{value!r} is none of the options")
        return found

    def from_unit(self, u: float) -> Any:
        return self.value_at(min(int(u * self.n), self.n - 1))

    def to_unit(self, value: Any) -> float:
        return (self.index_of(value) + 0.5) / self.n

    def accepts(self, value: Any) -> bool:
        value = list(value) if isinstance(value, tuple) else value
        return is_json(value) and any(same(option, value) for option in self.values)

    def recorded(self, value: Any) -> Any:
        return value if self.objects is None or self.accepts(value) else text_for(value, self.objects)

    def to_json(self) -> dict[str, Any]:
        out = super().to_json()
        del out["objects"]
        return out if self.objects is None else {**out, "objects": list(self.objects)}


def _name(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not name:
        raise ExperimentError("Choice.options", name, "a name must be text")
    refuse_object("Choice.options", value)
    if isinstance(value, Parameter):
        raise ExperimentError("Choice.options", value, "a parameter cannot be an option; use .when(...) conditions")
    return name


def _option(option: Any, named: dict[str, Any]) -> Any:
    """An option of a list as it is recorded; one that is recorded by its name is added to `named`."""
    if isinstance(option, Named):
        named[option.text] = option.value
        return option.text
    if not is_named_by_import(option) and not _holds_objects(option):
        return json_value("Choice.options", option)
    refuse_object("Choice.options", option)
    text = import_name(option)
    if text is None:
        raise ExperimentError("Choice.options", option, GIVE_A_NAME)
    if named.setdefault(text, option) is not option:
        expected = f'is recorded as {text}, as another option is: give both a name, Choice({{"name": ...}})'
        raise ExperimentError("Choice.options", option, expected)
    return text


def _holds_objects(option: Any) -> bool:
    """Whether it is, or has in it, what no JSON value can be: no number that is not finite, no parameter."""
    if isinstance(option, list | tuple):
        return any(map(_holds_objects, option))
    if isinstance(option, dict):
        return any(map(_holds_objects, option.values()))
    return option is not None and not isinstance(option, bool | int | float | str | Parameter)


def _check_distinct(options: Sequence[Any], given: Sequence[Any]) -> None:
    # Text and numbers by their hash, or ten thousand options would be compared with one another.
    hashed: set[tuple[bool, Any]] = set()
    others: list[Any] = []
    for option, written in zip(options, given, strict=True):
        nested = isinstance(option, list | dict)
        key = (isinstance(option, bool), None if nested else option)
        if any(same(option, other) for other in others) if nested else key in hashed:
            raise ExperimentError("Choice.options", written, "stands in the list twice")
        if nested:
            others.append(option)
        else:
            hashed.add(key)
