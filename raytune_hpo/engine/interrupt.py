"""Ctrl-C and SIGTERM as a request: the first asks the run to save and stop, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_INTERRUPTED = 130


class Interrupt:
    """A context in which SIGINT and SIGTERM set `requested`.

    A second Ctrl-C ends the process at once: everything journaled so far is safe. Outside the main
    thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self, on_request: Any = None) -> None:
        self.requested = False
        self._on_request = on_request
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.arm()
        return self

    def arm(self) -> None:
        """Take the signals, again if need be: `ray.init` puts handlers of its own in our place."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        if self._on_request is not None:
            self._on_request()
