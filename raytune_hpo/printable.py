"""Text of a run that meets a terminal: it may be a stranger's, and hold what a terminal obeys."""

from __future__ import annotations

import re

#: Control characters (C0, DEL, C1), what turns the direction of writing or ends a line unseen, and lone surrogates.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSEEN_IN_LINES = re.compile(_UNSEEN.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f"))


def printable(text: str) -> str:
    """One line of text with every character shown that would otherwise act: as Python's escapes (\\x1b)."""
    return text if text.isprintable() else _UNSEEN.sub(_escaped, text)


def printable_lines(text: str) -> str:
    """The same of several lines, which stay lines."""
    return _UNSEEN_IN_LINES.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
