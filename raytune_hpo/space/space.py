"""SearchSpace: one description of the search for every algorithm.

A space is a dictionary, nested as the trainer wants its config; a leaf is a Parameter or a constant.
Parameters are named by their dotted path ("model.units"). A config is a plain nested dictionary that
holds every constant and every *active* parameter; an inactive one is absent.

Notations
    D        the number of parameters
    vector   [D] unit coordinates, in the order of `parameters`; the coordinates of inactive
             parameters are ignored by `from_unit` and are 0.5 in `to_unit`'s answer
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import Condition
from raytune_hpo.space.configs import Config, flatten, nest
from raytune_hpo.space.foreign_dictionaries import refuse_dictionary
from raytune_hpo.space.named import (
    GONE,
    NOT_KNOWN,
    Named,
    described,
    is_exact,
    kind_of,
    shown_options,
    with_objects,
)
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter, Vector, json_value, parameter_from_json

__all__ = ["SearchSpace", "Vector", "describe"]


class SearchSpace:
    """The parameters, constants and conditions of an experiment.

    recorded: the tree is one that was made before, whose constants are what they are. grows: it holds what trials have
    asked for so far, and may be empty.

    Raises ExperimentError for an empty space, a key that is no plain name, a value that is neither a
    Parameter nor a JSON value, another tuner's parameter, or a condition on an unknown, constant or circular parent.
    """

    def __init__(self, tree: Mapping[str, Any], *, recorded: bool = False, grows: bool = False) -> None:
        self.grows = grows
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Any] = {}
        self._given: dict[str, Named] = {}  # constants that are recorded by a text
        if not isinstance(tree, Mapping):
            raise ExperimentError("space", tree, "must be a dictionary of parameters and constants")
        self._collect("", tree, recorded=recorded)
        if not self.parameters and not grows:
            lists = any(isinstance(value, list) for value in self.constants.values())
            hint = "; a list is a constant: Choice([...]) searches its values" if lists else ""
            raise ExperimentError("space", dict(tree), f"has no parameter to search (Float, Int or Choice){hint}")
        for path, parameter in self.parameters.items():
            self.parameters[path] = self._with_names(parameter)
        self.paths: tuple[str, ...] = tuple(self.parameters)
        self.order: tuple[str, ...] = self._topological_order()

    def _collect(self, prefix: str, tree: Mapping[str, Any], *, recorded: bool) -> None:
        for key, value in tree.items():
            if not isinstance(key, str) or not key or "." in key:
                raise ExperimentError(f"space.{prefix}{key}", key, "a name must be text without a dot")
            path = prefix + key
            if isinstance(value, Parameter):
                self.parameters[path] = value
            elif isinstance(value, Mapping) and value:
                if not recorded:
                    refuse_dictionary(f"space.{path}", value)
                self._collect(path + ".", value, recorded=recorded)
            else:
                found = value if isinstance(value, Named) else constant(f"space.{path}", value)
                if isinstance(found, Named):
                    self._given[path] = found
                self.constants[path] = found.text if isinstance(found, Named) else found

    def _with_names(self, parameter: Parameter) -> Parameter:
        """The same with the texts in its conditions that stand for the objects there."""
        if not any(c.parent in self.parameters for c in parameter.conditions):
            return parameter
        named = (
            c.named(self.parameters[c.parent].recorded) if c.parent in self.parameters else c
            for c in parameter.conditions
        )
        return dataclasses.replace(parameter, conditions=tuple(named))

    def _topological_order(self) -> tuple[str, ...]:
        order: dict[str, None] = {}  # a list whose members are found at once
        visiting: set[str] = set()

        def visit(path: str) -> None:
            if path in order:
                return
            if path in visiting:
                raise ExperimentError(f"space.{path}", path, "its conditions lead back to itself")
            visiting.add(path)
            for condition in self.parameters[path].conditions:
                self._check_condition(path, condition.parent, condition.op, condition.operand)
                visit(condition.parent)
            order[path] = None

        for path in self.parameters:
            visit(path)
        return tuple(order)

    def _check_condition(self, path: str, parent: str, op: str, operand: Any) -> None:
        where = f"space.{path}.when"
        if parent not in self.parameters:
            known = ", ".join(p for p in self.parameters if p != path) or "none"
            what = "a constant" if parent in self.constants else "no parameter"
            raise ExperimentError(where, parent, f"is {what} of this space; its parameters are: {known}")
        parameter = self.parameters[parent]
        if op in ("==", "!=", "in"):
            for value in operand if op == "in" else [operand]:
                if not parameter.accepts(value):
                    raise ExperimentError(where, value, f"never a value of {parent}, which is {describe(parameter)}")
            return
        condition = Condition(parent, op, operand)
        if not any(map(condition.holds, parameter.options if isinstance(parameter, Choice) else _ends(parameter))):
            raise ExperimentError(where, f"{parent} {op} {operand}", f"never holds; {parent} is {describe(parameter)}")

    def __len__(self) -> int:
        return len(self.parameters)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SearchSpace) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]  # a space compares by value and is not a dictionary key

    # Objects ------------------------------------------------------------------------------------

    @functools.cached_property
    def objects(self) -> dict[str, dict[str, Any]]:
        """path -> the text that is recorded -> what the user's code gets, GONE where that is not known."""
        found = {path: {named.text: named.value} for path, named in self._given.items()}
        for path, p in self.parameters.items():
            if isinstance(p, Choice) and p.objects is not None:
                missing = {} if p.objects else {o: GONE for o in p.options if isinstance(o, str)}
                found[path] = {**missing, **p.objects}
        return found

    @property
    def gone(self) -> list[str]:
        """The paths of objects that are known by their texts alone."""
        return [path for path, named in self.objects.items() if any(value is GONE for value in named.values())]

    def check_known(self) -> None:
        """Raise ExperimentError where an object is known by its text alone."""
        for path in self.gone:
            raise ExperimentError(f"space.{path}", next(iter(self.objects[path])), NOT_KNOWN)

    def given(self, config: Mapping[str, Any]) -> Config:
        """A recorded config as the user's code gets it. Raises ExperimentError where an object is not known."""
        self.check_known()
        return with_objects(config, self.objects)

    def with_objects_of(self, other: SearchSpace) -> SearchSpace:
        """This space, which was recorded, with the objects of the one that is written now.

        Raises ExperimentError where that has none of the recorded name, or an array whose content is another.
        """
        flat: dict[str, Any] = {**self.constants, **self.parameters}
        for path in self.gone:
            named = other.objects.get(path, {})
            for text in (text for text, value in self.objects[path].items() if value is GONE):
                if text not in named and (is_exact(text) or kind_of(text) not in map(kind_of, named)):
                    now = ", ".join(named) or "a plain value or nothing"
                    expected = f"is what the run was begun with; the experiment now has {now} there"
                    raise ExperimentError(f"space.{path}", text, expected)
            if path in self.constants:
                (text,) = self.objects[path]
                flat[path] = Named(text, named[text] if text in named else next(iter(named.values())))
            else:
                flat[path] = dataclasses.replace(self.parameters[path], objects=named)  # type: ignore[call-arg]
        return SearchSpace(nest(flat), recorded=True, grows=self.grows)

    def changed_since(self, other: SearchSpace) -> list[str]:
        """Constants of this space that are objects of the same kind, but with another content, in the one that is
        written now, as far as that can be told: a line each."""
        return [
            f"space.{path} is {next(iter(now))}, and was {named.text} when the run was begun"
            for path, named in self._given.items()
            if (now := other.objects.get(path)) and named.text not in now
        ]

    # Configs ------------------------------------------------------------------------------------

    def unmet(self, path: str, values: Mapping[str, Any]) -> list[Condition]:
        """The conditions of a parameter that do not hold. values: path -> value, of active parameters only."""
        conditions = self.parameters[path].conditions
        return [c for c in conditions if c.parent not in values or not c.holds(values[c.parent])]

    def is_active(self, path: str, values: Mapping[str, Any]) -> bool:
        """Whether a parameter is active. values: path -> value, of the active ones that come before it in `order`."""
        return not self.unmet(path, values)

    def active(self, values: Mapping[str, Any]) -> set[str]:
        """The paths of the parameters that are active under `values` (path -> value)."""
        active: dict[str, Any] = {}
        for path in self.order:
            if self.is_active(path, active):
                active[path] = values[path]
        return set(active)

    def build(self, values: Mapping[str, Any]) -> Config:
        """The nested config for `values` (path -> value), without the inactive parameters."""
        active = self.active(values)
        flat = dict(self.constants)
        flat.update((path, values[path]) for path in self.paths if path in active)
        return nest(flat)

    def values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that stand in `config`, path -> value. The inverse of `build`."""
        flat = flatten(config, set(self.parameters) | set(self.constants))
        return {path: flat[path] for path in self.paths if path in flat}

    def from_unit(self, vector: Sequence[float] | Vector) -> Config:
        """The config at `vector` [D]."""
        pairs = zip(self.paths, vector, strict=True)
        return self.build({path: self.parameters[path].from_unit(float(u)) for path, u in pairs})

    def to_unit(self, config: Mapping[str, Any], inactive: float = 0.5) -> Vector:
        """The vector [D] of a config. inactive: the coordinate of inactive parameters."""
        values = self.values(config)
        return np.array([self.parameters[p].to_unit(values[p]) if p in values else inactive for p in self.paths])

    def sample(self, rng: np.random.Generator) -> Config:
        """A random config: every parameter uniform in its own scale."""
        return self.from_unit(rng.random(len(self.paths)))

    def check(self, config: Mapping[str, Any], where: str = "config") -> None:
        """Raise ExperimentError unless `config` is one that this space can produce."""
        known = set(self.parameters) | set(self.constants)
        flat = flatten(config, known)
        for path in flat:
            if path not in known:
                raise ExperimentError(f"{where}.{path}", flat[path], "is not in the space")
        for path, constant in self.constants.items():
            if path not in flat or flat[path] != constant:
                raise ExperimentError(f"{where}.{path}", flat.get(path), f"is a constant of the space: {constant!r}")
        values = self.values(config)
        for path, value in values.items():
            if not self.parameters[path].accepts(value):
                raise ExperimentError(f"{where}.{path}", value, f"must lie in {describe(self.parameters[path])}")
        active: dict[str, Any] = {}
        for path in self.order:
            is_active = self.is_active(path, active)
            if is_active and path not in values:
                raise ExperimentError(f"{where}.{path}", None, "is missing")
            if not is_active and path in values:
                raise ExperimentError(f"{where}.{path}", values[path], "is inactive under its conditions")
            if is_active:
                active[path] = values[path]

    def complete(self, config: Mapping[str, Any], where: str = "config") -> Config:
        """`config` with the constants filled in, checked: a start point as a user writes it."""
        if not isinstance(config, Mapping):
            raise ExperimentError(where, config, "must be a dictionary, parameter name: value")
        known = set(self.parameters) | set(self.constants)
        flat = dict(self.constants)
        for path, value in flatten(config, known).items():
            if path not in known:
                raise ExperimentError(f"{where}.{path}", value, checks.no_such("parameter", path, sorted(known)))
            flat[path] = self.recorded(path, value)
        full = nest(flat)
        self.check(full, where)
        return full

    def recorded(self, path: str, value: Any) -> Any:
        """A value as a person may write it, as configs hold it: the text of an object, a name's other spellings."""
        if path in self._given and value is self._given[path].value:
            return self._given[path].text
        value = self.parameters[path].recorded(value) if path in self.parameters else value
        return json_value(f"space.{path}", value) if isinstance(value, tuple) else value

    def with_constant(self, path: str, value: Any) -> SearchSpace:
        """This space with a parameter, or a constant, fixed at `value`.

        Parameters whose conditions on it cannot hold any more are left out.
        """
        if path not in self.parameters and path not in self.constants:
            known = [*self.parameters, *self.constants]
            raise ExperimentError(f"space.{path}", value, checks.no_such("parameter", path, known))
        value = self.recorded(path, value)
        flat: dict[str, Any] = {**self.constants, **self._given, path: value}
        named = self.objects.get(path, {})
        if isinstance(value, str) and value in named:
            flat[path] = Named(value, named[value])
        kept: dict[str, Parameter] = {}
        for p in self.order:
            conditions = self.parameters[p].conditions
            possible = all(c.holds(value) if c.parent == path else c.parent in kept for c in conditions)
            if p != path and possible:
                rest = tuple(c for c in conditions if c.parent != path)
                kept[p] = dataclasses.replace(self.parameters[p], conditions=rest)
        flat.update((p, kept[p]) for p in self.paths if p in kept)
        return SearchSpace(nest(flat), recorded=True, grows=self.grows)

    def with_parameter(self, path: str, parameter: Parameter) -> SearchSpace:
        """This space with another parameter in the place of one or of a constant, or with one more.

        It is there under the conditions of the one before, unless it has its own; of objects it has those that stood
        there by the same texts. Raises ExperimentError where conditions of others then never hold.
        """
        before = self.parameters.get(path)
        if before is not None and not parameter.conditions:
            parameter = dataclasses.replace(parameter, conditions=before.conditions)
        if isinstance(parameter, Choice) and parameter.objects is None:
            known = self.objects.get(path, {})
            stay = {text: known[text] for text in parameter.options if isinstance(text, str) and text in known}
            parameter = dataclasses.replace(parameter, objects=stay) if stay else parameter
        flat: dict[str, Any] = {**self.constants, **self._given, **self.parameters, path: parameter}
        return SearchSpace(nest(flat), recorded=True, grows=self.grows)

    def adapted(self, config: Mapping[str, Any], defaults: Mapping[str, Any]) -> Config | None:
        """A config of a run's space as it was before, as one of this space; None if it lies outside.

        defaults: path -> the value where the config has none.
        """
        flat = flatten(config, {*self.parameters, *self.constants})
        known = (*self.parameters, *self.constants)
        values = {path: value for path, value in {**defaults, **flat}.items() if path in known}
        if any(path not in known for path in flat):
            return None
        if any(path not in values or values[path] != value for path, value in self.constants.items()):
            return None
        active: dict[str, Any] = {}
        for path in self.order:
            if self.is_active(path, active):
                if path not in values or not self.parameters[path].accepts(values[path]):
                    return None
                active[path] = values[path]
        return self.build({**dict.fromkeys(self.paths), **active})

    # JSON ---------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        return {
            "parameters": {path: p.to_json() for path, p in self.parameters.items()},
            "constants": self.constants,
            **({"objects": list(self._given)} if self._given else {}),
            **({"grows": True} if self.grows else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SearchSpace:
        """The inverse of `to_json`. Raises ExperimentError for what is none: it may be of a stranger's run."""
        try:
            flat: dict[str, Any] = dict(data["constants"])
            flat.update({path: Named(str(flat[path]), GONE) for path in data.get("objects", ())})
            flat.update({path: parameter_from_json(p) for path, p in data["parameters"].items()})
            return cls(nest(flat), recorded=True, grows=data.get("grows") is True)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExperimentError("space", dict(data), f"is damaged: {error}") from error


def constant(where: str, value: Any) -> Any:
    """A constant as JSON data, or Named where it is, or has in it, anything else: an array, a class, a loss.

    Raises ExperimentError for a parameter, ours or another tuner's, and for numbers that are not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    objects: list[Any] = []
    found = json_value(where, value, objects)
    return Named(described(value), value) if objects else found


def _ends(parameter: Parameter) -> tuple[float, float]:
    assert isinstance(parameter, Float | Int)
    return parameter.low, parameter.high


def describe(parameter: Parameter) -> str:
    """A parameter in a few words, as messages and tables show it."""
    if isinstance(parameter, Choice):
        options = shown_options(parameter.values, parameter.objects or ())
        text = "{" + ", ".join(options) + "}" + (" ordered" if parameter.ordered else "")
    elif isinstance(parameter, Int):
        text = f"[{parameter.low}..{parameter.high}]"
        text += f" step {parameter.step}" if parameter.step > 1 else ""
        text += f" {parameter.scale}" if parameter.scale != "linear" else ""
    else:
        assert isinstance(parameter, Float)
        text = f"[{parameter.low:g}, {parameter.high:g}]"
        text += f" step {parameter.step:g}" if parameter.step is not None else ""
        text += f" {parameter.scale}" if parameter.scale != "linear" else ""
    for c in parameter.conditions:
        text += f" if {c.parent} {c.op} {c.operand}"
    return text
