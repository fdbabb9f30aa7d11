"""The objective: which metric is optimized, and which way. The only place that knows what "better" means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Mode = Literal["min", "max"]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those of a report's values that are numbers, NaN and infinities too; what no float holds is infinite, as the
    journal has it."""
    found = {}
    for name, value in metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                found[name] = float(value)
            except OverflowError:
                found[name] = math.inf if value > 0 else -math.inf
    return found


@dataclass(frozen=True)
class Objective:
    """metric: the name of a reported value. mode: "min" or "max"."""

    metric: str
    mode: Mode

    def of(self, metrics: Mapping[str, Any]) -> float:
        """The metric of a report. Raises KeyError where it is missing."""
        return float(metrics[self.metric])

    def better(self, a: float, b: float | None, by: float = 0.0) -> bool:
        """Whether value `a` beats `b`, by more than `by`; anything finite beats None, NaN and infinities."""
        if not math.isfinite(a):
            return False
        if b is None or not math.isfinite(b):
            return True
        gain = a - b if self.mode == "max" else b - a
        return gain > by

    def loss(self, value: float) -> float:
        """The value as a loss, to be minimized. Its own inverse."""
        return value if self.mode == "min" else -value

    def gain(self, value: float) -> float:
        """The value as a score, to be maximized. Its own inverse."""
        return value if self.mode == "max" else -value
