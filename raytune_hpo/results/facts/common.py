"""What the configs of some trials have in common, that the others have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice

#: Trials below which there is nothing in common but by chance; and how likely chance alone may have it so.
LEAST, CHANCE = 3, 0.05


def in_common(space: SearchSpace, own: Sequence[Config], others: Sequence[Config]) -> list[dict[str, Any]]:
    """By parameter: low and high, between which all of `own` lie, or the `value` that all have; and how many of the
    others do, the fewest first. Left out is what as many of the others' configs would have in common now and then: with
    a share p of them there, all of n but the first p ** (n - 1) of the time."""
    if len(own) < LEAST or not others:
        return []
    values, theirs = [space.values(c) for c in own], [space.values(c) for c in others]
    found = []
    for path, parameter in space.parameters.items():
        if not all(path in one for one in values):
            continue
        mine = [one[path] for one in values]
        there = [one[path] for one in theirs if path in one]
        first = mine[0]
        if all(type(value) is type(first) and value == first for value in mine):
            told = {"value": first}
            also = sum(type(value) is type(first) and value == first for value in there)
        elif isinstance(parameter, Choice):
            continue
        else:
            told = {"low": min(mine), "high": max(mine)}
            also = sum(told["low"] <= value <= told["high"] for value in there)
        if (also / len(others)) ** (len(own) - 1) <= CHANCE:
            found.append({"parameter": path, **told, "others_there": also, "others": len(others)})
    return sorted(found, key=lambda one: one["others_there"])
