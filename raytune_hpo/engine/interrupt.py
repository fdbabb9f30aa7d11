"""Ctrl-C, SIGTERM and a closed terminal as a request: the first asks the run to save and stop, another one ends it at
once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

EXIT_INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt:
    """A context in which SIGINT, SIGTERM and SIGHUP set `requested`.

    A second Ctrl-C or SIGTERM ends the process at once: everything journaled so far is safe. A second SIGHUP does not:
    a closed terminal sends several. One that is ignored (nohup) stays so. Outside the main thread, where Python
    delivers no signals, it does nothing.
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
            for number in SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                before = signal.signal(number, self._handle)
                self._before.setdefault(number, before)

    @contextlib.contextmanager
    def kept_from_children(self) -> Iterator[None]:
        """A context whose processes never see a SIGHUP: they must outlast the terminal, to save what they train."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGHUP:
            return
        if self.requested:
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        if self._on_request is not None:
            self._on_request()
