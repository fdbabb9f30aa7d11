"""The space of what trials have asked for: parameters are met as code runs, and under which conditions is seen by who
asks.

A parameter that every trial has asked for is there always. Of one that some have not, the condition is the nearest
parameter asked for before it whose values tell those apart that ask: a categorical one that they have other values of,
a number above or below which all of them are. Where nothing tells it is there always, and a trial may leave it unread.
What later trials show may be another condition, or none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.space.conditions import Condition
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.space.parameters import Choice, parameter_from_json
from raytune_hpo.space.space import SearchSpace

#: What one trial has asked for: name -> parameter as JSON, in order; name -> the value that it got.
Asked = tuple[Mapping[str, Any], Mapping[str, Any]]


def space_of_met(asked: Sequence[Asked]) -> SearchSpace:
    """Raises ExperimentError where a name is of two kinds."""
    parameters: dict[str, Parameter] = {}
    for met, _ in asked:
        for name, data in met.items():
            one = parameter_from_json(data)
            parameters[name] = one if name not in parameters else both(name, parameters[name], one)
    return SearchSpace({name: _conditioned(name, p, parameters, asked) for name, p in parameters.items()}, grows=True)


def both(name: str, first: Parameter, second: Parameter) -> Parameter:
    """A parameter that has the values of either: code may ask for another range in another trial."""
    if first == second:
        return first
    if isinstance(first, Choice) and isinstance(second, Choice):
        return Choice(list(dict.fromkeys((*first.options, *second.options))))
    alike = type(first) is type(second) and not isinstance(first, Choice)
    if not alike or (first.scale, first.step) != (second.scale, second.step):  # type: ignore[attr-defined]
        expected = "is asked for as another kind of parameter by other trials: give it another name there"
        raise ExperimentError(name, f"{first!r} and {second!r}", expected)
    low, high = (f(getattr(first, end), getattr(second, end)) for f, end in ((min, "low"), (max, "high")))
    return dataclasses.replace(first, low=low, high=high)  # type: ignore[call-arg]


def _conditioned(name: str, parameter: Parameter, every: Mapping[str, Parameter], asked: Sequence[Asked]) -> Parameter:
    """The parameter under the condition that who asks for it shows."""
    askers = [(met, values) for met, values in asked if name in met]
    others = [values for met, values in asked if name not in met]
    if not others:
        return parameter
    before = [list(met)[: list(met).index(name)] for met, _ in askers]
    common = [other for other in before[0] if all(other in names for names in before[1:])]
    for parent in reversed(common):
        if not all(parent in values for values in others):
            continue
        own, rest = [values[parent] for _, values in askers], [values[parent] for values in others]
        condition = _telling(parent, every[parent], own, rest)
        if condition is not None:
            return dataclasses.replace(parameter, conditions=(condition,))
    return parameter


def _telling(parent: str, parameter: Parameter, own: Sequence[Any], rest: Sequence[Any]) -> Condition | None:
    """The condition on `parent` that holds for the values `own` and for none of the `rest`."""
    if isinstance(parameter, Choice):
        if any(value in rest for value in own):
            return None
        values = [option for option in parameter.options if option in own]
        return Condition(parent, "==", values[0]) if len(values) == 1 else Condition(parent, "in", values)
    if min(own) > max(rest):
        return Condition(parent, ">=", min(own))
    if max(own) < min(rest):
        return Condition(parent, "<=", max(own))
    return None
