"""A disk that takes no more, or a run directory that can no longer be written to. That is no trial's fault: the run
stops with one line, and goes on once that is mended.

Libraries say it in many ways: an OSError behind an exception of their own, a number in its text, or a sentence.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
#: Of the run directory, and of nothing else: a user's code may well fail at files of its own elsewhere.
UNWRITABLE = (errno.EROFS, errno.EPERM, errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTDIR)
#: Those of them that code may bring about by itself, in a folder of its own.
OF_ITS_OWN = (errno.EPERM, errno.EACCES, errno.ENOTDIR)

#: In the run directory: what trials' own code has written there.
TRIALS = "trials"

_NUMBER = re.compile(r"\[[Ee]rrno (\d+)\]|\(os error (\d+)\)|\berrno = (\d+)")
_FILE = re.compile(r"'([^'\n]+)'")
_SENTENCES = (
    (re.compile(re.escape(os.strerror(errno.ENOSPC))), errno.ENOSPC),
    (re.compile(re.escape(os.strerror(errno.EDQUOT))), errno.EDQUOT),
    (re.compile(r"database or disk is full"), errno.ENOSPC),  # sqlite
    (re.compile(r"^\d+ requested and \d+ written$"), errno.ENOSPC),  # numpy.save
    (re.compile(r"inline_container\.cc:\d+\] \. (unexpected pos|PytorchStreamWriter failed)"), errno.ENOSPC),  # torch
)
_NOT_OPENED = re.compile(r"File (\S+) cannot be opened")  # torch
_MOST_TEXT = 10_000


class DiskError(OSError):
    """No trial's fault, see the module."""


def full_disk(error: BaseException | None, run_path: Path | None = None) -> DiskError | None:
    """The disk's error that this one is, wraps or was raised for; None where there is none.

    run_path: the run directory, for errors of writing that count only inside it.
    """
    for found in _chain(error):
        if isinstance(found, DiskError):
            return found
        for number, files in _said(found):
            if _is_the_disks(number, files, run_path):
                return DiskError(number, os.strerror(number), files[-1] if files else None)
    return None


@contextlib.contextmanager
def storing() -> Iterator[None]:
    """Our own writing, in the run directory: that it cannot be written to is a DiskError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DiskError) or error.errno not in FULL + UNWRITABLE:
            raise
        raise DiskError(error.errno, error.strerror, error.filename) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those behind it. One that was raised while another was handled need not be about that one: it is
    taken to be where it says nothing of itself (torch's RuntimeError), or the disk was full."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _chain(part)
        before = None if error.__suppress_context__ else error.__context__
        meanwhile = isinstance(error, RuntimeError) or any(number in FULL for number, _ in _said(before))
        error = error.__cause__ or (before if meanwhile else None)


def _said(error: BaseException | None) -> list[tuple[int, list[str]]]:
    """(errno, the files it is about), as an exception says it."""
    if error is None:
        return []
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return [said for entry in error.args[0] for said in _in_text(str(entry[-1] if entry else ""))]
    if isinstance(error, OSError) and error.errno is not None:
        return [
            (error.errno, [os.fsdecode(f) for f in (error.filename, error.filename2) if isinstance(f, str | bytes)])
        ]
    try:
        return _in_text(str(error)[:_MOST_TEXT])
    except BaseException:  # its __str__ raises
        return []


def _in_text(text: str) -> list[tuple[int, list[str]]]:
    number = _NUMBER.search(text)
    if number is not None:
        return [(int(next(group for group in number.groups() if group)), _FILE.findall(text))]
    not_opened = _NOT_OPENED.search(text)
    if not_opened is not None:
        return [(errno.EACCES, [not_opened[1].rstrip(".")])]
    numbers = [number for sentence, number in _SENTENCES if sentence.search(text)]
    return [(numbers[0], [])] if numbers else []


def _is_the_disks(number: int, files: list[str], run_path: Path | None) -> bool:
    if number in FULL:
        return True
    if number not in UNWRITABLE or (run_path is None and files):
        return False
    if run_path is None or not files:  # of an open file: which, is not known
        return number == errno.EROFS or (run_path is not None and not _takes_files(run_path))
    roots = (run_path, run_path.resolve())
    inside = [root for root in roots for file in files if Path(os.path.abspath(file)).is_relative_to(root)]
    if not inside:
        return False
    trials = [root / TRIALS for root in roots]
    own = any(Path(os.path.abspath(files[-1])).is_relative_to(folder) for folder in trials)
    return not (own and number in OF_ITS_OWN) or not _takes_files(run_path)


def _takes_files(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    return True
