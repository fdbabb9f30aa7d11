"""The errors of this package, as a tree one can draw.

RaytuneHpoError
├── ExperimentError   the whole run is wrong; nothing was started (exit code 2)
│   ├── TaskError     a method of the task is: found before the first trial
│   └── RefusedError  a command to a run is: nothing was changed
└── TrialError        ends one trial; the rest of the run goes on
"""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType

from raytune_hpo.printable import printable

PACKAGE = str(Path(__file__).parent) + "/"
_PYTHON = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")
#: Of what is a person's own in spite of its name: cells of a notebook, a prompt.
_TYPED = ("<stdin>", "<ipython")
#: How a process of torch's DataLoader hands on what was raised in it: as text.
_HANDED_ON = "Original Traceback (most recent call last):"
_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory", re.IGNORECASE)
_FRAME = re.compile(r'^ *File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


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


class RefusedError(ExperimentError):
    """A command was refused by whoever has the run, in one line."""

    def __init__(self, text: str) -> None:
        RaytuneHpoError.__init__(self, printable(" ".join(text.split())))
        self.field, self.value, self.expected = "command", None, text

    def __reduce__(self) -> tuple[type[RefusedError], tuple[str]]:  # type: ignore[override]
        return type(self), (self.expected,)


class TaskError(ExperimentError):
    """A method of a task is wrong, whatever the config: one line, "Rings.loss (exp.py, line 31): answers None: ...".

    where: the method, with the file and the line; text: what is wrong with it.
    """

    def __init__(self, where: str, text: str) -> None:
        RaytuneHpoError.__init__(self, printable(" ".join(f"{where}: {text}".split())))
        self.field, self.value, self.expected = where, None, text
        self.where, self.text = where, text

    def __reduce__(self) -> tuple[type[TaskError], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.where, self.text)


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
        last = frames[-1:]
        where = users_place(error) or "".join(f"{Path(f.filename).name}, line {f.lineno}" for f in last)
        where = f" ({where.partition(', in ')[0]})" if where else ""
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


def placed_line(error: BaseException) -> str:
    """The same after the place in the user's own code that it comes from, if there is one:
    "exp.py, line 31, in forward: RuntimeError: ..."."""
    text = text_of(error)
    line = one_line(error)
    if _HANDED_ON in text:
        line = next((one for one in reversed(text.splitlines()) if one.strip()), line).strip()
    place = users_place(error)
    return line if place is None else f"{place}: {line}"


def is_users(file: str) -> bool:
    """Whether code of this file is a user's own: not ours, nothing that is installed, nor of Python's library."""
    if file.startswith("<"):
        return file.startswith(_TYPED)
    return not file.startswith((PACKAGE, *_PYTHON)) and _INSTALLED.search(file) is None


def users_place(error: BaseException) -> str | None:
    """Where an error comes from in the user's own code, the innermost such place: "exp.py, line 31, in forward"."""
    frames = [(f.f_code.co_filename, line, f.f_code.co_name) for f, line in traceback.walk_tb(error.__traceback__)]
    text = text_of(error)
    if _HANDED_ON in text:
        frames += [(file, int(line), name) for file, line, name in _FRAME.findall(text)]
    for file, line, name in reversed(frames):
        if is_users(file):
            inside = "" if name == "<module>" else f", in {name}"
            return encodable(f"{Path(file).name}, line {line}{inside}")
    return None


def of_memory(error: BaseException) -> bool:
    """Whether it says that some memory is used up, which a smaller model or batch may not do."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and _MEMORY.search(text_of(error)) is not None


def traceback_text(error: BaseException, frames: TracebackType | None) -> str:
    """An exception with its traceback from `frames` on. Never raises."""
    for whole in (True, False):
        try:
            said = traceback.format_exception(type(error), error, frames, chain=whole)
            return encodable("".join(said))
        except BaseException:  # what it says, its notes or its attributes cannot be had
            continue
    return one_line(error)
