"""How benchmarks print what they have measured several times."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def spread(values: Iterable[float], form: str = ".2f") -> str:
    """Median (minimum..maximum)."""
    known = list(values)
    if len(known) == 1:
        return f"{known[0]:{form}}"
    return f"{statistics.median(known):{form}} ({min(known):{form}}..{max(known):{form}})"


def table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    first = max(len(name) for name, _ in rows)
    widths = [max(len(head), *(len(cells[i]) for _, cells in rows)) for i, head in enumerate(heads)]
    for name, cells in [("", heads), *rows]:
        print(f"{name:{first}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(cells, widths, strict=True)).rstrip())
