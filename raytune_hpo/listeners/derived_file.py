"""A file that follows from a run's journal, record by record.

Its writer tells it every record from the first on, in each session anew. What stands there already is compared and not
written again; a record that a crash has torn is completed; what does not fit gives way. So each record stands in it
once, after any number of kills, and also where the file was damaged, cut or deleted meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from raytune_hpo.owned import opened


class DerivedFile:
    """path: in a folder that is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told = 0  # bytes that the file has as they were told
        self._new = bytearray()  # told since
        self._rest: bytes | None = None  # what the file has after them; None: it has not been looked at

    def add(self, record: bytes) -> None:
        self._new += record

    def flush(self) -> None:
        """Let the file have what was told. A reader of the file never sees it shortened, unless it is another's."""
        if not self._new:
            return
        new, self._new = bytes(self._new), bytearray()
        rest = self._content() if self._rest is None else self._rest
        if rest.startswith(new):
            self._rest = rest[len(new) :]
        elif new.startswith(rest):
            self._append(new[len(rest) :])
            self._rest = b""
        else:
            write_whole(self.path, self._content()[: self._told] + new)
            self._rest = b""
        self._told += len(new)

    def close(self) -> None:
        """Everything has been told: what else the file has is of a journal whose last line was lost."""
        self.flush()
        if self._rest:
            write_whole(self.path, self._content()[: self._told])
            self._rest = b""

    def _content(self) -> bytes:
        try:
            with os.fdopen(opened(self.path), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def _append(self, data: bytes) -> None:
        with os.fdopen(_made(self.path), "ab") as file:
            file.write(data)


def write_whole(path: Path, data: bytes) -> None:
    """Let a file hold `data`: all of it or what it held before, unless the power fails. Nothing where it does."""
    with contextlib.suppress(FileNotFoundError), os.fdopen(opened(path), "rb") as file:
        if file.read() == data:
            return
    partial = path.with_name(".partial")  # a name in which no reader of the folder sees its like
    partial.unlink(missing_ok=True)
    with os.fdopen(_made(partial), "wb") as file:
        file.write(data)
    partial.replace(path)


def _made(path: Path) -> int:
    """A descriptor to write to, of a file that may have to be made."""
    with contextlib.suppress(FileNotFoundError):
        return opened(path, os.O_WRONLY)
    path.parent.mkdir(exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
