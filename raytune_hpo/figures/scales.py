"""Parameters in their own scales: a place on an axis from 0 to 1, and the values that stand at it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.figures import ticks
from raytune_hpo.figures.panel import short
from raytune_hpo.printable import printable
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.named import shown_texts
from raytune_hpo.space.parameters import Choice, Int, Parameter

#: Where a trial stands that has no such parameter: below the axis, with a gap between.
ABSENT = -0.14
TICKS = {"linear": ticks.linear, "log": ticks.log, "reverse_log": ticks.reverse_log}


@dataclass(frozen=True)
class Scale:
    """One parameter's axis. ticks: (place, text as it is)."""

    path: str
    parameter: Parameter
    texts: Mapping[Any, str]

    def place(self, value: Any) -> float:
        """From 0 to 1, also of a value outside the range (a scheduler may give one): it stands at the end."""
        try:
            if self.parameter.n is not None and isinstance(self.parameter, Choice):
                return (self.parameter.index_of(value) + 0.5) / self.parameter.n
            return min(max(self.parameter.to_unit(value), 0.0), 1.0)
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            low = getattr(self.parameter, "low", None)
            return 0.0 if isinstance(value, int | float) and low is not None and value < low else 1.0

    def shown(self, value: Any) -> str:
        if isinstance(value, str):
            return printable(self.texts.get(value, value))
        if isinstance(value, bool) or value is None:
            return str(value)
        return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        n = self.parameter.n
        if isinstance(self.parameter, Choice) and n is not None:
            every = max(1, math.ceil(n / 12))
            return [((i + 0.5) / n, short(self.shown(self.parameter.value_at(i)))) for i in range(0, n, every)]
        if n is not None and n <= 8:
            return [((i + 0.5) / n, self.shown(self.parameter.value_at(i))) for i in range(n)]
        low, high, scale = (getattr(self.parameter, name) for name in ("low", "high", "scale"))
        found: list[Any] = TICKS[scale](low, high) if scale in TICKS else []
        if n is not None:
            near = map(round, found) if isinstance(self.parameter, Int) else found
            found = [value for value in dict.fromkeys(near) if self.parameter.accepts(value)]
            if len(found) < 2:  # powers of two, and steps that no round value is a multiple of
                found = [self.parameter.value_at(i) for i in range(0, n, -(-n // ticks.MOST))]
        return [(self.place(value), self.shown(value)) for value in dict.fromkeys(found)]


def scales(space: Mapping[str, Any]) -> tuple[SearchSpace, list[Scale]]:
    """space: of the facts."""
    made, texts = SearchSpace.from_json(space), shown_texts(space)
    return made, [Scale(path, parameter, texts.get(path, {})) for path, parameter in made.parameters.items()]
