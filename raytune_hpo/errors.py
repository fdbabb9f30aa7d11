"""The errors of this package, as a tree one can draw.

RaytuneHpoError
├── ExperimentError   the whole run is wrong; nothing was started (exit code 2)
└── TrialError        ends one trial; the rest of the run goes on
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from raytune_hpo.printable import printable

PACKAGE = str(Path(__file__).parent) + "/"


class RaytuneHpoError(Exception):
    """Base of every error that this package raises on purpose."""


class ExperimentError(RaytuneHpoError):
    """An experiment, a command line or a run directory is wrong.

    The message is one line: the field, the value found, and what would be right.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = value
        self.expected = expected
        try:
            shown = " ".join(repr(value).split())
        except (ValueError, RecursionError):  # an integer of too many digits, a list too deep
            shown = f"a {type(value).__name__}"
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(printable(" ".join(f"{field} = {shown}: {expected}".split())))

    def __reduce__(self) -> tuple[type[ExperimentError], tuple[str, object, str]]:
        return type(self), (self.field, self.value, self.expected)


class blamed:  # noqa: N801  (read as a statement: with blamed("searcher", name))
    """A context: what a user's own class raises in it becomes an ExperimentError that names the class and the line."""

    def __init__(self, field: str, name: str) -> None:
        self.field, self.name = field, name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, RaytuneHpoError):
            return
        frames = list(traceback.extract_tb(error.__traceback__))
        frames = [f for f in frames if not f.filename.startswith(PACKAGE)] or frames  # the user's line, if there is one
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise ExperimentError(self.field, self.name, f"failed with {type(error).__name__}: {error}{where}") from error


class TrialError(RaytuneHpoError):
    """A trial cannot go on (its report lacks the metric, its checkpoint is unreadable, ...)."""


# Text of exceptions, which are a user's own: their `__str__` may raise, and what they say may be no UTF-8 ------------


def encodable(text: str) -> str:
    """The text with its lone surrogates, which no file and no terminal takes, written as escapes."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def text_of(error: BaseException) -> str:
    """What an exception says; nothing where it cannot say it."""
    try:
        return encodable(str(error))
    except BaseException:  # whatever it is, it is a fault of the exception's, and not ours
        return ""


def one_line(error: BaseException) -> str:
    """An exception as a line: its type and what it says."""
    return " ".join(f"{type(error).__name__}: {text_of(error)[:5000]}".split()).removesuffix(":")


def traceback_text(error: BaseException, frames: TracebackType | None) -> str:
    """An exception with its traceback from `frames` on. Never raises."""
    for whole in (True, False):
        try:
            said = traceback.format_exception(type(error), error, frames, chain=whole)
            return encodable("".join(said))
        except BaseException:  # what it says, its notes or its attributes cannot be had
            continue
    return one_line(error)
