"""Every fault that was reported from outside has a test named after its row, and every kind has neighbours of ours.

The rows: A from other people's trainers, B from bug reports, C resources, signals and strangers' run directories. What
other tests hold is named here with where.
"""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {f"{kind}{n}" for kind, last in (("a", 20), ("b", 23), ("c", 23)) for n in range(1, last + 1)}
#: In tests of experiments, resources and classes.
ELSEWHERE = {"a7", "a14", "a18"}
NAME = re.compile(r"^def test_((?:near_)?(?:[abc]\d+_)+)", re.MULTILINE)


def named() -> tuple[set[str], set[str]]:
    """(rows with a test, rows with a neighbour)."""
    rows: set[str] = set()
    near: set[str] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for found in NAME.findall(file.read_text()):
            (near if found.startswith("near_") else rows).update(re.findall(r"[abc]\d+", found))
    return rows, near


def test_every_row_has_its_test() -> None:
    rows, near = named()
    assert ROWS - rows == ELSEWHERE
    assert near <= ROWS
