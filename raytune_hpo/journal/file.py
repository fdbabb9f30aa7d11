"""The journal's file: written with a sync a line, read whole, or followed as it grows.

Only a last line without its newline is torn: a crash in mid-write. A last line that is complete and does not fit is
damage; it is kept aside and named, and whoever goes on with the run deletes no checkpoint of before, since what the
line said of checkpoints is not known.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal import chain, format1
from raytune_hpo.journal.chain import BrokenError, Link
from raytune_hpo.journal.codec import MalformedError
from raytune_hpo.journal.events import Event, Step
from raytune_hpo.journal.order import Order
from raytune_hpo.owned import opened

TAIL = 1 << 16  # bytes in which the last line is looked for first
RECENT = 2048  # steps that the writer keeps at hand for those in its process who follow the journal


@dataclass(frozen=True)
class Reading:
    """What a journal says. link: what the next line is chained to; end: the offset after the last sound line.

    damage: what is wrong with the last line, in one sentence, None if nothing is; aside: its bytes. format: 1 or 2.
    doubted: whether it may have said more, so that nothing may be deleted by it.
    """

    steps: list[Step] = field(default_factory=list)
    link: Link = field(default_factory=Link)
    end: int = 0
    damage: str | None = None
    aside: bytes = b""
    format: int = 2
    doubted: bool = False


def read(path: Path, run_id: str) -> Reading:
    """All of a journal; nothing if there is none yet.

    Raises ExperimentError for a line that does not fit and is not the last, and for one of a newer version: that is no
    crash's doing; and where the file cannot be read.
    """
    if not os.path.lexists(path):
        return Reading()
    steps: list[Step] = []
    link, end, order = Link(), 0, Order()
    try:
        with os.fdopen(opened(path), "rb") as file:
            lines = list(file)
    except OSError as error:  # another user's, say
        raise ExperimentError("journal", str(path), f"cannot be read: {error.strerror or error}") from error
    of_format_1 = bool(lines) and format1.is_line(lines[0])
    reader = format1.reader() if of_format_1 else chain.read
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            break  # torn
        try:
            step, link_after = reader(line, link, run_id)
            order.follow(step)
        except (BrokenError, MalformedError) as error:
            damage = f"line {number} of {path.name} {_sentence(error)}"
            # Where the checksum fits, the line is as it was written: by a newer version, not by accident.
            whole = isinstance(error, MalformedError) and not of_format_1
            if number < len(lines) or whole:
                expected = _sentence(error) + ("" if whole else "; restore the journal from a backup")
                raise ExperimentError("journal", f"{path}:{number}", expected) from error
            return Reading(steps, link, end, damage, line, 1 if of_format_1 else 2)
        steps.append(step)
        link = link_after
        end += len(line)
    return Reading(steps, link, end, format=1 if of_format_1 else 2)


def _sentence(error: BrokenError | MalformedError) -> str:
    return str(error) if isinstance(error, BrokenError) else f"is damaged: {error}"


class Journal:
    """Writes steps. Each `append` is one write and one sync: what it returned from survives a power cut."""

    def __init__(
        self,
        path: Path,
        run_id: str,
        link: Link | None = None,
        offset: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """link, offset: where the sound part ends; what follows is cut off."""
        self.path, self.run_id = path, run_id
        self.link = link or Link()
        self._clock = clock
        self._file = opened(path, os.O_WRONLY | os.O_CREAT)
        self._recent: deque[Step] = deque(maxlen=RECENT)
        self._lock = threading.Lock()
        if offset is not None:
            os.ftruncate(self._file, offset)
        self.synced = os.lseek(self._file, 0, os.SEEK_END)  # bytes; what a reader may take for written

    def append(self, t: float, events: Sequence[Event]) -> Step:
        """t: seconds of running. Raises ExperimentError where the file was taken away."""
        self._check_place()
        step = Step(self.link.number + 1, round(t, 4), round(self._clock(), 3), tuple(events), self.link.events)
        line, link = chain.written(step, self.link, self.run_id)
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        with self._lock:
            self.link = link
            self.synced += len(line)
            self._recent.append(step)
        return step

    def _check_place(self) -> None:
        """Raises ExperimentError where the file is no longer where it was: what is written to it would be lost."""
        own = os.fstat(self._file)
        if own.st_nlink > 0:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                here = os.stat(self.path)
                # Or by its size: some file systems have no lasting number for a file.
                if os.path.samestat(own, here) or here.st_size == self.synced:
                    return
        raise ExperimentError("journal", str(self.path), "was moved, deleted or replaced while the run wrote it")

    def since(self, number: int) -> list[Step] | None:
        """The steps after line `number`; None if some of them are not at hand any more."""
        with self._lock:
            if self.link.number <= number:
                return []
            missing = self.link.number - number
            if missing > len(self._recent):
                return None
            return list(self._recent)[-missing:]

    def close(self) -> None:
        os.close(self._file)


class Cursor:
    """Follows a journal: every step once, in order, as soon as it is on disk.

    journal: the writer, where it is in this process; its memory spares the reading of what is fresh.
    """

    def __init__(self, path: Path, run_id: str, journal: Journal | None = None) -> None:
        self.path, self.run_id = path, run_id
        self._journal = journal
        self._link, self._offset = Link(), 0
        self._order: Order | None = Order()

    @classmethod
    def after(cls, path: Path, run_id: str, reading: Reading) -> Cursor:
        """One that goes on where a reading ended. Of format 1 nothing can follow: it is written anew to go on."""
        made, order = cls(path, run_id), Order()
        made._link, made._offset, made._order = reading.link, reading.end, order
        for step in reading.steps:
            order.follow(step)
        return made

    @classmethod
    def at_end(cls, path: Path, run_id: str) -> Cursor:
        """One that reads what comes from now on. The last line is taken by its own word, and whether events may follow
        the ones before is not looked at: so what is read costs what is new, however long the journal is."""
        made = cls(path, run_id)
        made._order = None
        with contextlib.suppress(FileNotFoundError), os.fdopen(opened(path), "rb") as file:
            end = file.seek(0, os.SEEK_END)
            size = TAIL
            while end:
                start = max(0, end - size)
                file.seek(start)
                lines = file.read(end - start).splitlines(keepends=True)
                whole = [line for line in lines[1 if start else 0 :] if line.endswith(b"\n")]
                link = chain.link_of(whole[-1]) if whole else None
                if link is not None:
                    made._link = link
                    made._offset = end - (0 if lines[-1].endswith(b"\n") else len(lines[-1]))
                    break
                if start == 0:
                    break
                size *= 4
        return made

    @property
    def events(self) -> int:
        """How many events of the run have been read."""
        return self._link.events

    def steps(self) -> list[Step]:
        """The steps since the last call. Raises ExperimentError for a line that does not fit."""
        if self._journal is not None and self._offset < 0:
            fresh = self._journal.since(self._link.number)
            if fresh is not None:
                for step in fresh:
                    self._link = Link(step.number, "", step.first + len(step.events))
                return fresh
            self._link, self._offset, skip = Link(), 0, self._link.number
            self._order = Order()
            return [step for step in self._from_file() if step.number > skip]
        return self._from_file()

    def _from_file(self) -> list[Step]:
        found: list[Step] = []
        end = math.inf if self._journal is None else self._journal.synced
        with os.fdopen(opened(self.path), "rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n") or self._offset >= end:
                    break
                try:
                    step, link = chain.read(line, self._link, self.run_id)
                    if self._order is not None:
                        self._order.follow(step)
                except (BrokenError, MalformedError) as error:
                    number = self._link.number + 1
                    raise ExperimentError("journal", f"{self.path}:{number}", _sentence(error)) from error
                self._link = link
                self._offset += len(line)
                found.append(step)
        if self._journal is not None:
            self._offset = -1  # from here on the writer's memory will do
        return found
