"""One clock for all that is said of a run: seconds of running."""

from __future__ import annotations

from raytune_hpo.journal.events import Phased, SessionOpened, Step
from raytune_hpo.results.results import Results


class RunningClock:
    """Wall-clock times as seconds of running, from the start of the first session's process: what lies between two
    sessions is left out. Steps are asked for in order.

    A session begins with its first phase, which is written down soon after the session's opening. opened_at: when each
    session began, in seconds of running.
    """

    def __init__(self, results: Results) -> None:
        self._starts: list[float] = []
        for step in results.steps:
            for event in step.events:
                if isinstance(event, SessionOpened):
                    self._starts.append(step.at)
                elif isinstance(event, Phased) and self._starts:
                    self._starts[-1] = min(self._starts[-1], event.began)
        if not self._starts and results.steps:  # (a journal without sessions)
            self._starts = [results.steps[0].at]
        self.opened_at: list[float] = []
        self._shift = -self._starts[0] if self._starts else 0.0
        self._newest = 0.0

    def of(self, step: Step) -> float:
        for event in step.events:
            if isinstance(event, SessionOpened):
                self._shift = self._newest - self._starts[len(self.opened_at)]
                self.opened_at.append(self._newest)
        self._newest = max(self._newest, self.seconds(step.at))
        return self._newest

    def seconds(self, at: float) -> float:
        """Of a time of the session of the newest step."""
        return round(max(0.0, at + self._shift), 3)
