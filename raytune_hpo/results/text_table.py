"""Aligned columns of text. The last column runs on, or is folded to the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from raytune_hpo.printable import printable

#: Characters that a folded column has at least; where a terminal has no room for them it does the folding.
NARROWEST = 24


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """The rows under their header, each column as wide as its longest cell. What a terminal would obey is escaped.

    width: of the terminal, to which the last column is folded, between its words; None folds nothing.
    """
    table = [[printable(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    room = None if width is None or width - before < NARROWEST else width - before
    lines = []
    for row in table:
        last = textwrap.wrap(row[-1], room, break_on_hyphens=False) if room is not None else [row[-1]]
        cells = [*row[:-1], last[0] if last else ""]
        lines.append("  ".join(cell.ljust(own) for cell, own in zip(cells, widths, strict=True)).rstrip())
        lines += [" " * before + more for more in last[1:]]
    return "\n".join(lines)


def plural(n: int, noun: str) -> str:
    """1 trial, 2 trials."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def some(trials: Sequence[str], most: int = 5) -> str:
    """ "t00003", "t00003 and t00007", "12 trials (t00003, ...)"."""
    if len(trials) > most:
        return f"{len(trials)} trials ({', '.join(trials[:most])}, ...)"
    return " and ".join([", ".join(trials[:-1]), trials[-1]] if trials[1:] else trials)
