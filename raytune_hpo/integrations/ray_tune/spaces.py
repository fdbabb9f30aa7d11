"""Ray Tune's search-space dictionaries as ours."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, with_values
from raytune_hpo.space.foreign_objects import ours_of, refuse_object
from raytune_hpo.space.named import is_json
from raytune_hpo.space.parameters import Choice, Parameter
from raytune_hpo.space.spelled import spelled

MODULE = "ray.tune.search.sample"


@dataclass
class SpaceOfRay:
    """values: of a SearchSpace. grids: the dotted paths of tune.grid_search -> its values. computed: the names that
    lead
    to a tune.sample_from -> Ray's object; objects: to a constant that no config holds -> it."""

    values: dict[str, Any] = field(default_factory=dict)
    grids: dict[str, list[Any]] = field(default_factory=dict)
    computed: dict[tuple[str, ...], Any] = field(default_factory=dict)
    objects: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def points(self, samples: int, seed: int) -> list[Config]:
        """What Ray trains of a grid: each of its combinations with each of so many random draws of the rest."""
        space, rng = SearchSpace(self.values), generator(seed, "grid")
        combinations = [dict(zip(self.grids, c, strict=True)) for c in itertools.product(*self.grids.values())]
        return [with_values(space.sample(rng), one) for _ in range(samples) for one in combinations]

    @property
    def drawn(self) -> set[str]:
        """The parameters that are in no grid."""
        return set(SearchSpace(self.values).parameters) - set(self.grids)

    def any_config(self, seed: int = 0, number: int = 0) -> Config:
        return SearchSpace(self.values).sample(generator(seed, "start", number))


def space_of(param_space: Mapping[str, Any]) -> SpaceOfRay:
    """Raises ExperimentError naming the parameter that has no equal here."""
    found = SpaceOfRay()
    found.values = _read(param_space, (), found)
    return found


def _read(node: Mapping[str, Any], path: tuple[str, ...], found: SpaceOfRay) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in node.items():
        here = (*path, str(name))
        where = ".".join(here)
        if isinstance(value, Mapping) and set(value) == {"grid_search"}:
            options = list(value["grid_search"])
            out[name] = choice_of(where, options)
            if isinstance(out[name], Parameter):
                found.grids[where] = options
        elif isinstance(value, Mapping) and value:
            inner = _read(value, here, found)
            if inner:
                out[name] = inner
        elif is_of_ray(value):
            if type(value).__name__ == "Function":
                found.computed[here] = value
            else:
                out[name] = parameter_of(where, value)
        elif (is_json(value) and not _holds_a_parameter(value)) or isinstance(value, Parameter):
            out[name] = value
        elif _holds_a_parameter(value):
            expected = "has a parameter in a list: give it a name of its own, and make the list in the trainable"
            raise ExperimentError(f"param_space.{where}", "a list", expected)
        else:
            refuse_object(f"param_space.{where}", value)
            found.objects[here] = value
    return out


def is_of_ray(value: Any) -> bool:
    return str(type(value).__module__) == MODULE


def parameter_of(where: str, value: Any) -> Any:
    """One of Ray's domains as ours; a constant where it has one value. Raises ExperimentError."""
    if type(value).__name__ == "Categorical":
        return choice_of(where, list(value.categories))
    text = ours_of(value)
    if text.startswith("a constant, "):
        return float(text.removeprefix("a constant, "))
    if not text.endswith(")") or " " in text.partition("(")[0]:
        refuse_object(f"param_space.{where}", value)
    return spelled(f"param_space.{where}", text)


def choice_of(where: str, options: list[Any]) -> Any:
    """A list of options as a Choice; a constant where there is one."""
    for option in options:
        if _holds_a_parameter(option):
            expected = "has a parameter in an option: give it a name of its own, with .when(NAME, '==', OPTION)"
            raise ExperimentError(f"param_space.{where}", "tune.choice", expected)
    options = [option.item() if isinstance(option, np.generic) else option for option in options]
    if any(_is_changed_by_json(option) for option in options):
        # Recorded by names: the trainable gets the very objects.
        names = [_named(option) for option in options]
        named = {
            name if names.count(name) == 1 else f"{name} #{i}": o
            for i, (name, o) in enumerate(zip(names, options, strict=True))
        }
        return Choice(named) if len(named) > 1 else options[0]
    distinct = [option for i, option in enumerate(options) if option not in options[:i]]
    return distinct[0] if len(distinct) == 1 else Choice(distinct)


def _holds_a_parameter(value: Any) -> bool:
    """Whether one of Ray's is anywhere in it."""
    if isinstance(value, Mapping):
        return set(value) == {"grid_search"} or any(map(_holds_a_parameter, value.values()))
    return any(map(_holds_a_parameter, value)) if isinstance(value, list | tuple) else is_of_ray(value)


def _named(option: Any) -> str:
    """The same in every process."""
    text = " ".join(repr(option).split())
    return getattr(option, "__name__", None) or (type(option).__name__ if " at 0x" in text else text[:60])


def _is_changed_by_json(option: Any) -> bool:
    """Tuples become lists; arrays, functions and other objects are nothing there."""
    if isinstance(option, list):
        return any(map(_is_changed_by_json, option))
    if isinstance(option, Mapping):
        return any(map(_is_changed_by_json, option.values()))
    return not isinstance(option, bool | int | float | str | None)
