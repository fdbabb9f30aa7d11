"""The house's docstrings, which are written to be read as they are, as what Sphinx reads.

Prose with `code` in backticks; lists; what is indented is a program; and columns, a name and what is said of it:

    name            letters and digits
    task            a ready task's name, or
                    a Task
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

COLUMNS = re.compile(r"(?P<name>\w[\w, .]*?)  +(?P<text>\S.*)")


def as_rst(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        found += [*_paragraph(paragraph.splitlines()), ""]
    return found


def _paragraph(lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    if all(line.startswith("    ") for line in lines):
        yield from ("::", "", *lines)
    elif all(COLUMNS.match(line) or line.startswith("    ") for line in lines):
        for line in lines:
            column = COLUMNS.match(line)
            if column:
                yield escaped(column["name"])
            yield "    " + escaped(column["text"] if column else line.strip())
    else:
        yield from map(escaped, lines)


def escaped(text: str) -> str:
    """Text in which nothing but `code` means anything."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(f"``{part}``" if i % 2 else re.sub(r"([\\*|_`])", r"\\\1", part) for i, part in enumerate(parts))
