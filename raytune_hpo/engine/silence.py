"""Trials that do not report: which are to be ended, by the experiment's timeouts, and which people should know of."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.results.text_table import some

#: After so long without a report people are told; where epochs take long, after so many of the longest.
SAID_AFTER_S = 600.0
SAID_AFTER_EPOCHS = 3.0


@dataclass
class _Heard:
    """begun: when the trial was given to its worker; last: its last sign of life; said: whether people know."""

    begun: float
    last: float
    said: bool = False


@dataclass(frozen=True)
class Overdue:
    """A trial that is to be ended. silent_s: for how long it has not reported."""

    trial: str
    why: str
    silent_s: float


class Silence:
    """Of the trials that workers have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._longest_s = 0.0

    @property
    def _long_s(self) -> float:
        """A silence that is out of the ordinary."""
        return max(SAID_AFTER_S, SAID_AFTER_EPOCHS * self._longest_s)

    def began(self, trial: str) -> None:
        now = self._clock()
        self._heard[trial] = _Heard(now, now)

    def reported(self, trial: str) -> None:
        heard, now = self._heard.get(trial), self._clock()
        if heard is not None:
            self._longest_s = max(self._longest_s, now - heard.last)
            heard.last, heard.said = now, False

    def overdue(
        self, running: Iterable[str], experiment: ResolvedExperiment, over: Collection[str] = ()
    ) -> Iterator[Overdue]:
        """Of those that run. The others are forgotten. over: those of them that have ended already, by a person or the
        scheduler, and whose code has not come back to hear of it."""
        now = self._clock()
        self._heard = {trial: self._heard[trial] for trial in running if trial in self._heard}
        for trial, heard in self._heard.items():
            silent_s, running_s = now - heard.last, now - heard.begun
            most, longest = experiment.report_timeout_s, experiment.trial_timeout_s
            if most is not None and silent_s > most:
                yield Overdue(trial, f"no report for {silent_s:.0f} s (report_timeout_s is {most:g})", silent_s)
            elif trial in over and silent_s > self._long_s:
                yield Overdue(trial, f"it has ended, and its code has not come back for {silent_s:.0f} s", silent_s)
            elif longest is not None and running_s > longest:
                why = f"not done {running_s:.0f} s after its start (trial_timeout_s is {longest:g})"
                yield Overdue(trial, why, silent_s)

    def news(self) -> str | None:
        """Which trials have been silent for long, each said once."""
        now, after_s = self._clock(), self._long_s
        silent = [t for t, heard in self._heard.items() if not heard.said and now - heard.last > after_s]
        for trial in silent:
            self._heard[trial].said = True
        if not silent:
            return None
        which = f"{some(silent)} {'has' if len(silent) == 1 else 'have'}"
        return f"{which} not reported for {after_s / 60:.0f} min: report_timeout_s would end trials that hang"
