"""How many actors there should be, of a pool of processes or of arrays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from raytune_hpo.errors import ExperimentError

CAPACITY_CHECK_S = 5.0
DEATHS_AT_START = 3  # workers in a row that die before their first answer: they all will


class Staffing:
    """How many actors there should be: as many as have room, or the limit if that is less."""

    def __init__(self, capacity: Callable[[], int], limit: int | None) -> None:
        self._capacity = capacity
        self.limit(limit)
        self._wanted = 0
        self._deaths: list[str] = []

    def limit(self, limit: int | None) -> None:
        self._limit = math.inf if limit is None else limit
        self._next_check = 0.0

    def wanted(self) -> int:
        """Looked up every CAPACITY_CHECK_S. Raises ExperimentError if actors keep dying before they answer."""
        if len(self._deaths) >= DEATHS_AT_START:
            raise ExperimentError("worker", self._deaths[-1], "is why no worker process can start")
        now = time.monotonic()
        if now >= self._next_check:
            self._wanted = int(min(self._limit, self._capacity()))
            self._next_check = now + CAPACITY_CHECK_S
        return self._wanted

    def answered(self) -> None:
        self._deaths.clear()

    def lost(self, why: str | None = None) -> None:
        """An actor is gone; why, if it never answered."""
        self._next_check = 0.0
        if why is not None:
            self._deaths.append(why)
