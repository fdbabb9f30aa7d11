"""The time of benchmarks/gpu.py: what each part may take, and how it ends at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Item = TypeVar("Item")

REASONS = {signal.SIGTERM: "ended by SIGTERM", signal.SIGINT: "ended by SIGINT", signal.SIGALRM: "time is out"}
#: Long enough for the processes that were started to be ended.
AGAIN_S = 10.0


class OutOfTimeError(Exception):
    """Of a row or a part: the next one begins."""


class Stopped(BaseException):
    """Of the program: by a signal, or since its minutes are over."""


@dataclass(frozen=True)
class Clock:
    """until: a time of the monotonic clock."""

    until: float

    @property
    def left_s(self) -> float:
        return self.until - time.monotonic()

    def check(self) -> None:
        """Raises OutOfTimeError where the time is out."""
        if self.left_s <= 0:
            raise OutOfTimeError

    def shared(self, items: Sequence[Item], shares: Sequence[float] | None = None) -> Iterator[tuple[Item, Clock]]:
        """Each item with its time: its share of what those before it have left."""
        weights = list(shares or [1.0] * len(items))
        for i, item in enumerate(items):
            left = max(0.0, self.left_s)
            yield item, Clock(time.monotonic() + left * weights[i] / sum(weights[i:]))


class Ending:
    """Raises Stopped in the main thread at a signal, and when the time is out; again later, as code of others may
    swallow it."""

    def __init__(self, until: float) -> None:
        self.signal: int | None = None
        for number in REASONS:
            signal.signal(number, self._raise)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, until - time.monotonic()), AGAIN_S)

    def _raise(self, number: int, _: Any) -> None:
        if self.signal is None:
            self.signal = number
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
        raise Stopped(REASONS[signal.Signals(self.signal)])

    def over(self) -> None:
        """The files are being finished: nothing interrupts that."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in REASONS:
            signal.signal(number, signal.SIG_IGN)

    @property
    def exit_code(self) -> int:
        return 0 if self.signal in (None, signal.SIGALRM) else 128 + int(self.signal)
