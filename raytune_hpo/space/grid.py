"""Finite spaces: their grids, and how many configs there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Parameter
from raytune_hpo.space.space import SearchSpace


def grid(space: SearchSpace, points: int = 5) -> Iterator[Config]:
    """Every combination, inactive parameters not branched on.

    A Float, and an Int or a Float with a step of more than `points` values, contributes `points` values evenly
    spaced in its own scale, both ends included; a Choice contributes all its options.
    """
    axes = {path: _grid_values(space.parameters[path], points) for path in space.order}

    def extend(position: int, chosen: dict[str, Any]) -> Iterator[Config]:
        if position == len(space.order):
            yield space.build({p: chosen.get(p) for p in space.paths})
            return
        path = space.order[position]
        if not space.is_active(path, chosen):
            yield from extend(position + 1, chosen)
            return
        for value in axes[path]:
            yield from extend(position + 1, {**chosen, path: value})

    yield from extend(0, {})


def grid_size(space: SearchSpace, points: int, limit: int) -> int:
    """The number of configs of `grid(points)`, counted without listing them; limit + 1 stands for more.

    Only the combinations of parameters that conditions look at are walked through; the others multiply.
    """
    axes = {path: _grid_values(space.parameters[path], points) for path in space.order}
    parents = {c.parent for p in space.parameters.values() for c in p.conditions}

    def count(position: int, chosen: dict[str, Any], budget: int) -> int:
        if position == len(space.order):
            return 1
        path = space.order[position]
        if not space.is_active(path, chosen):
            return count(position + 1, chosen, budget)
        if path not in parents:
            # `budget` shrinks by the factor, so that a huge product is given up on at once.
            factor = len(axes[path])
            return factor * count(position + 1, chosen, budget // factor)
        total = 0
        for value in axes[path]:
            total += count(position + 1, {**chosen, path: value}, budget - total)
            if total > budget:
                break
        return total

    return min(count(0, {}, limit), limit + 1)


def number_of_configs(space: SearchSpace, limit: int = 100_000) -> int | None:
    """The number of distinct configs; None if a Float makes it infinite or it exceeds `limit`."""
    if any(p.n is None or p.n > limit for p in space.parameters.values()):
        return None
    found = grid_size(space, limit, limit)
    return found if found <= limit else None


def _grid_values(parameter: Parameter, points: int) -> list[Any]:
    """The values of one parameter in a grid, ascending, without repeats."""
    if isinstance(parameter, Choice) or (parameter.n is not None and parameter.n <= points):
        assert parameter.n is not None
        return [parameter.value_at(i) for i in range(parameter.n)]
    units = np.linspace(0.0, 1.0, points) if points > 1 else np.array([0.5])
    values = [parameter.from_unit(float(u)) for u in units]
    return list(dict.fromkeys(values))
