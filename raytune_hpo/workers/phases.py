"""The phases of a session: what the time between the command and the first report, and after the last, went into.

Measured where they happen, in the driver or a worker, on the wall clock, and journaled as `Phased` events.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from raytune_hpo.journal.events import Phased


class Phases:
    """Collects phases; `take` hands over those that are over. worker: whose they are, None for the driver's."""

    def __init__(self, worker: str | None = None) -> None:
        self._worker = worker
        self._over: list[Phased] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.time()
        try:
            yield
        finally:
            self.add(name, began, time.time())

    def add(self, name: str, began: float, ended: float) -> None:
        self._over.append(Phased(name, round(began, 3), round(ended, 3), self._worker))

    def since_process_start(self, name: str = "process") -> None:
        """From the start of this process until now; nothing where the system does not say when that was."""
        began = process_start()
        if began is not None:
            self.add(name, began, time.time())

    def take(self) -> list[Phased]:
        over, self._over = self._over, []
        return over


def process_start() -> float | None:
    """When this process began, in seconds since 1970. (proc_pid_stat(5), field 22, in ticks since boot.)"""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return None
