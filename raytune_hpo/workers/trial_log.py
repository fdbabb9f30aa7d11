"""What a trial prints, logs and warns, in a file of its own: RUN_DIR/logs/TRIAL.log.

In a process of its own that is all that goes to its stdout and stderr, of C code and of child processes too
(`ProcessLog`): both descriptors are the file. In the driver's process it is what the trial's own threads write to
Python's streams, which goes to the terminal as well (`ThreadLog`). A trial that says nothing has no file. Of one that
says more than HEAD_BYTES + TAIL_BYTES the beginning and the end are kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

#: The folder within the run directory.
FOLDER = "logs"
HEAD_BYTES = TAIL_BYTES = 512 * 1024
LEFT_OUT, MARK_BYTES = rb"\n---- (\d+) bytes left out\n", 64
#: How often a process looks whether its trial has begun to speak, or has said too much.
TICK_S = 0.5
#: Begins what a trial says that goes on elsewhere, or later.
AGAIN = "---- goes on in "


class TrialLog(Protocol):
    def begin(self, name: str) -> None:
        """What is said from now on is said by `name`. Raises OSError where the file cannot be opened."""

    def end(self) -> None:
        """The trial is over. Without effect where none has begun."""

    def look(self) -> None:
        """Let the file have its name, if something has been said: other processes may look for it now."""

    def close(self) -> None: ...


def spool_name(worker: str) -> str:
    """Of the file that takes a worker's output before it is known that there is any."""
    return f".{worker}"


def _opened(path: Path, *, create: bool) -> int:
    create_flag = os.O_CREAT if create else 0
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | create_flag, 0o644)


def _go_on(descriptor: int, worker: str) -> None:
    os.write(descriptor, f"{AGAIN}{worker}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())


def shorten(descriptor: int, slack: int = 1) -> int:
    """Cut the middle out of a log that is too long; answers how many bytes are left. Others may append meanwhile.

    slack: how many times too long it may become before, so that it is not cut at every line.
    """
    size = os.fstat(descriptor).st_size
    if size <= slack * (HEAD_BYTES + TAIL_BYTES) + MARK_BYTES:
        return size
    earlier = re.match(LEFT_OUT, os.pread(descriptor, MARK_BYTES, HEAD_BYTES))
    left_out = size - HEAD_BYTES - TAIL_BYTES
    if earlier is not None:
        left_out += int(earlier[1]) - len(earlier[0])
    tail = os.pread(descriptor, TAIL_BYTES, size - TAIL_BYTES)
    os.ftruncate(descriptor, HEAD_BYTES)
    os.write(descriptor, f"\n---- {left_out} bytes left out\n".encode() + tail)
    return os.fstat(descriptor).st_size


def tail_of(log: Path, spool: Path, size: int = 64 * 1024) -> str:
    """The end of what a dead worker's trial has said; its spool becomes its log, if there is none."""
    with contextlib.suppress(OSError):
        if spool.stat().st_size and not log.exists():
            spool.rename(log)
        else:
            spool.unlink()
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


class ProcessLog:
    """Of a worker's process. live: what is said goes to where it went before as well."""

    def __init__(self, folder: Path, worker: str, *, live: bool) -> None:
        self._folder, self._worker, self._live = folder, worker, live
        self._spool = folder / spool_name(worker)
        self._own = [os.dup(1), os.dup(2)]
        self._file: int | None = None  # the trial's, or the spool while nothing has been said
        self._path: Path | None = None  # that the spool is to have; None: the file has its name
        self._shown = 0  # bytes
        self._running = False
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None

    def begin(self, name: str) -> None:
        with self._lock:
            self.end()
            if self._thread is None:
                self._folder.mkdir(exist_ok=True)
                self._thread = threading.Thread(target=self._watch, daemon=True, name="trial log")
                self._thread.start()
            path = self._folder / f"{name}.log"
            try:
                found = _opened(path, create=False)
            except FileNotFoundError:
                self._path = path
                if self._file is None:
                    self._file = _opened(self._spool, create=True)
                self._shown = 0
            else:
                self._drop_spool()
                self._file, self._path = found, None
                self._shown = os.fstat(found).st_size
                _go_on(found, self._worker)
            self._running = True
            for number in (1, 2):
                os.dup2(self._file, number)

    def end(self) -> None:
        with self._lock:
            if not self._running:
                return
            _flush()
            for own, number in zip(self._own, (1, 2), strict=True):
                os.dup2(own, number)
            self._look(1)
            self._running = False
            if self._file is not None and self._path is None:
                os.close(self._file)
                self._file = None

    def close(self) -> None:
        with self._lock:
            self.end()
            self._drop_spool()

    def _drop_spool(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._spool.unlink(missing_ok=True)

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_S)
            with contextlib.suppress(OSError):
                self.look()

    def look(self, slack: int = 2) -> None:
        with self._lock:
            self._look(slack)

    def _look(self, slack: int) -> None:
        if not self._running or self._file is None:
            return
        size = os.fstat(self._file).st_size
        if size == 0:
            return
        if self._path is not None:
            self._spool.rename(self._path)
            self._path = None
        if self._live and size > self._shown:
            os.write(self._own[0], os.pread(self._file, size - self._shown, self._shown))
            self._shown = size
        left = shorten(self._file, slack)
        if left < size:
            self._shown = left


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be anybody's
            stream.flush()
    with contextlib.suppress(OSError, AttributeError):
        _c().fflush(None)


@functools.cache
def _c() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def clean(run_path: Path) -> None:
    """Remove what killed workers of earlier sessions have left where they had said nothing."""
    for spool in (run_path / FOLDER).glob(".*"):
        if spool.is_file() and not spool.is_symlink():
            spool.unlink(missing_ok=True)


class _Tee(io.TextIOBase):
    """A stream of Python's that a log hears as well. In all that is not writing it is the stream."""

    def __init__(self, stream: Any, hear: Callable[[str], None]) -> None:
        self._stream, self._hear = stream, hear

    def write(self, text: str) -> int:
        self._hear(text)
        return int(self._stream.write(text) or 0)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(getattr(self._stream, "encoding", "utf-8"))

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return getattr(self._stream, "errors", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ThreadLog:
    """Of an actor in the driver's own process. is_own: whether the thread that asks belongs to this trial, or log."""

    def __init__(self, folder: Path, worker: str, is_own: Callable[[str], bool]) -> None:
        self._folder, self._worker, self._is_own = folder, worker, is_own
        self._name: str | None = None
        self._file: int | None = None
        self._before: Any = None
        self._undo = contextlib.ExitStack()

    def begin(self, name: str) -> None:
        self.end()
        self._name = name
        self._undo.enter_context(_heard(self.hear))

    def end(self) -> None:
        self._undo.close()
        self._name = None
        if self._file is not None:
            shorten(self._file)
            os.close(self._file)
            self._file = None

    close = end

    def look(self) -> None: ...

    def hear(self, text: str) -> None:
        if self._name is None or not text or not self._is_own(self._name):
            return
        with contextlib.suppress(OSError):  # it is on the terminal
            if self._file is None:
                self._folder.mkdir(exist_ok=True)
                self._file = _opened(self._folder / f"{self._name}.log", create=True)
                if os.fstat(self._file).st_size:
                    _go_on(self._file, self._worker)
            os.write(self._file, text.encode(errors="replace"))
            shorten(self._file, slack=2)


@contextlib.contextmanager
def _heard(hear: Callable[[str], None]) -> Iterator[None]:
    """Let a log hear Python's streams, and the handlers of logging that write to them."""
    tees = {name: _Tee(getattr(sys, name), hear) for name in ("stdout", "stderr") if getattr(sys, name) is not None}
    before = {name: getattr(sys, name) for name in tees}
    handlers = [
        (handler, handler.stream, tees[name])
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler)
        for name in tees
        if handler.stream is before[name]
    ]
    for name, tee in tees.items():
        setattr(sys, name, tee)
    for handler, _, tee in handlers:
        handler.stream = tee
    try:
        yield
    finally:
        for handler, stream, tee in handlers:
            if handler.stream is tee:
                handler.stream = stream
        for name, tee in tees.items():
            if getattr(sys, name) is tee:
                setattr(sys, name, before[name])
