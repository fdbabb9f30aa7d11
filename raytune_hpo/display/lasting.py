"""Streams that outlast their readers: what cannot be written is left out, and nothing else changes.

A run does not depend on who looks at it: the reader of a pipe may leave (`| head`), a terminal may be closed, the disk
behind a redirected stdout may be full, an encoding may lack a character.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any


class LastingStream:
    """A text stream that never refuses: characters that it has no code for become '?', and once a write has failed the
    rest is dropped.

    discards: whether what lies behind the stream becomes the null device then, so that neither what its buffer still
    holds nor what others write to it fails later. A pipe without a reader does in any case.
    """

    def __init__(self, stream: Any, *, discards: bool) -> None:
        self.stream = stream
        self._discards = discards
        self.lost = False
        self.why: OSError | ValueError | None = None  # it was lost

    def write(self, text: str) -> int:
        if not self.lost:
            try:
                self.stream.write(text)
            except UnicodeEncodeError as error:
                self.write(text.encode(error.encoding, "replace").decode(error.encoding))
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._lose(error)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self.lost:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: OSError | ValueError) -> None:
        self.lost, self.why = True, error
        if not self._discards and getattr(error, "errno", None) != errno.EPIPE:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self.stream.fileno())
            finally:
                os.close(null)
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def some_streams() -> Iterator[None]:
    """A context in which stdout and stderr are there, if only the null device: Ray does not start without."""
    with contextlib.ExitStack() as stack:
        for name, redirected in (("stdout", contextlib.redirect_stdout), ("stderr", contextlib.redirect_stderr)):
            if getattr(sys, name) is None:
                null = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(redirected(null))
        yield


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """A context in which this process's stdout and stderr last; for a process that is ours."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(some_streams())
        for redirected, stream in ((contextlib.redirect_stdout, sys.stdout), (contextlib.redirect_stderr, sys.stderr)):
            lasting: Any = LastingStream(stream, discards=True)
            stack.enter_context(redirected(lasting))
            stack.callback(lasting.flush)  # here, and not when the process ends, it is seen that nobody reads
        yield
