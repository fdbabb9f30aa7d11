"""A curve as text, for terminals."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

EIGHTHS = " ▁▂▃▄▅▆▇█"


def chart(values: Sequence[float], width: int, height: int) -> list[str]:
    """`height` lines, highest first, each with its value at the left: the newest `width` values as columns.

    Of longer curves, each column is the mean of as many values. A value that is not finite leaves a gap.
    """
    columns = _columns(values, width)
    finite = [v for v in columns if math.isfinite(v)]
    if not finite:
        return ["no finite value yet"]
    low, high = min(finite), max(finite)
    span = high - low or 1.0
    labels = [f"{low + span * row / max(height - 1, 1):.4g}" for row in range(height)]
    margin = max(map(len, labels))
    lines = []
    for row in reversed(range(height)):
        cells = "".join(_cell(v, low, span, row, height) for v in columns)
        lines.append(f"{labels[row]:>{margin}} │{cells}")
    return lines


def _columns(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(i * len(values) / width) for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def _cell(value: float, low: float, span: float, row: int, height: int) -> str:
    if not math.isfinite(value):
        return " "
    # The lowest value shows as one eighth: an empty column is a gap.
    level = 1 + (value - low) / span * (height * 8 - 1)
    return EIGHTHS[int(min(max(level - row * 8, 0), 8))]
