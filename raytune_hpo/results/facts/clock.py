"""Seconds of running: of all sessions, their start-up included, the time between them left out."""

from __future__ import annotations

from raytune_hpo.journal import events
from raytune_hpo.journal.events import Step
from raytune_hpo.results.results import Results

#: No run takes as long. (A journal may be a stranger's.)
FAR_S = 1e10


class Clock:
    """Wall-clock times as seconds of running. It is shown the steps in order.

    A session begins with its first phase, which is written down soon after the session's opening. opened_at: when each
    began; before: when the last step was written.
    """

    def __init__(self, results: Results) -> None:
        self._starts: list[float] = []
        self.opened_at: list[float] = []
        self.before = 0.0
        for step in results.steps:
            for event in step.events:
                if isinstance(event, events.SessionOpened):
                    self._starts.append(_written(step))
                elif isinstance(event, events.Phased) and self._starts:
                    self._starts[-1] = min(self._starts[-1], event.began)
        self._number = -1
        if not self._starts and results.steps:
            self._starts, self._number = [_written(results.steps[0])], 0
        self._shift = -self._starts[0] if self._starts else 0.0

    def at(self, step: Step) -> float:
        """When the step was written."""
        for event in step.events:
            if isinstance(event, events.SessionOpened):
                self._number += 1
                self.opened_at.append(self.before)
                self._shift = self.before - self._starts[self._number]
        self.before = self.seconds(_written(step))
        return self.before

    def seconds(self, at: float) -> float:
        """at: seconds since 1970, within the session of the last step."""
        return round(min(max(0.0, at + self._shift), FAR_S), 3)


def _written(step: Step) -> float:
    """Steps of format 1 have no time of the clock: their seconds of running stand for it."""
    return step.at or step.t
