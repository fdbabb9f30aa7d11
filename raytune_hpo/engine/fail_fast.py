"""When a run is stopped because its trials fail alike: the fault is then in what they share, not in their configs."""

from __future__ import annotations

import re

from raytune_hpo.journal.events import Ended, Event, Reported, SessionOpened
from raytune_hpo.states import Outcome

#: Of an error that a config's own size explains: a larger batch or model than the memory takes.
MEMORY = re.compile(r"out of memory|\bMemoryError\b|OutOfMemoryError", re.IGNORECASE)


class FailFast:
    """Counts the trials in a row that failed for good with the same error.

    The same is the same place in the code (`RunDirectory.write_error`), or, without a traceback, the same text. A
    report of any trial, or a new session, begins a new row; running out of memory neither begins nor goes on with one.
    limit: so many stop the run, None never. reason: why it is to stop, None while it is not; it stays for the session.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.reason: str | None = None
        self._place: str | None = None
        self._row = 0

    def take(self, event: Event) -> None:
        """Take note of an event of the run."""
        if isinstance(event, SessionOpened):
            self._row, self.reason = 0, None
        elif isinstance(event, Reported):
            self._row = 0
        elif isinstance(event, Ended) and event.outcome == Outcome.FAILED:
            self._failed(event)

    def _failed(self, event: Ended) -> None:
        error = event.error or event.reason
        if MEMORY.search(error):
            return
        place = event.file or error
        self._row = self._row + 1 if place == self._place else 1
        self._place = place
        if self.limit is not None and self._row >= self.limit and self.reason is None:
            trials = f"{self._row} trials in a row" if self._row > 1 else "a trial"
            file = f" (traceback: {event.file})" if event.file else ""
            self.reason = f"{trials} failed: {error}{file}"
