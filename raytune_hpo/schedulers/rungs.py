"""At which epochs trials are compared, and from which of them on that says something about the end.

A first rung at epoch 1 of 52 judges by the first two percent of a training, and on many problems that says little. By
default it is at a ninth of max_epochs. Once a run has curves of its own, they tell: the first rung is the earliest one
at which the newest trials that reached max_epochs had already been in nearly the order in which they ended (Spearman's
rank correlation of at least TELLING). As a search closes in on good configs, which are hard to tell apart early, it
rises by itself. Those trials are survivors of earlier rungs, and their order is harder to see than that of all; but it
is they that must not be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.schedulers.scheduler import SchedulerOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.space import SearchSpace

FIRST_RUNG = 9  # the first rung is by default at 1 in so many of max_epochs
TELLING = 0.8
FEWEST, NEWEST = 8, 12  # trials that have reached max_epochs: without so many nothing is told, and so many tell it


@dataclass(frozen=True)
class GraceOptions(SchedulerOptions):
    """Of the schedulers that let trials train for a while before they judge them."""

    grace_period: int | None = option(
        None,
        low=1,
        doc=f"epochs before a trial is judged; unless given max_epochs / {FIRST_RUNG}, and later where the run's own "
        "curves say that so few epochs tell little",
    )

    def first_rung(self, max_epochs: int) -> int:
        """The epoch at which trials are judged first, when the run begins."""
        return max(1, round(max_epochs / FIRST_RUNG)) if self.grace_period is None else self.grace_period

    def resolved(self, *, space: SearchSpace, max_epochs: int, structural: set[str] | None) -> Self:
        if self.grace_period is not None and self.grace_period > max_epochs:
            expected = f"must be at most max_epochs = {max_epochs}"
            raise ExperimentError("scheduler.grace_period", self.grace_period, expected)
        return self


class FirstRung:
    """The first rung of a run, as its trials move it.

    rungs: rising, the last one max_epochs. moves: whether it does. now: the epoch."""

    def __init__(self, rungs: Sequence[int], *, moves: bool) -> None:
        self.rungs, self.moves, self.now = tuple(rungs), moves, rungs[0]
        self._complete: list[Suggestion] = []
        self._news: str | None = None

    def ended(self, suggestion: Suggestion) -> None:
        """A trial has ended that was not stopped by a scheduler. Its marks are at the rungs."""
        if suggestion.failed or len(suggestion.marks) < len(self.rungs):
            return
        self._complete.append(suggestion)
        first = first_telling(self.rungs, self._complete) if self.moves else self.now
        if first != self.now:
            self.now = first
            self._news = f"trials are judged from epoch {first} on now: from there the good ones keep their order"

    def take_news(self) -> str | None:
        """What people should know since the last call."""
        news, self._news = self._news, None
        return news


def first_telling(rungs: Sequence[int], complete: Sequence[Suggestion]) -> int:
    """The first of `rungs` (rising, the last one max_epochs) to judge by.

    complete: the trials that have passed all of them, in the order in which they did; their marks are at the rungs.
    """
    if len(complete) < FEWEST or len(rungs) < 2:
        return rungs[0]
    from scipy.stats import spearmanr

    marks = np.array([s.marks for s in complete[-NEWEST:]])
    for k, rung in enumerate(rungs[:-1]):
        differ = np.ptp(marks[:, k]) > 0 and np.ptp(marks[:, -1]) > 0
        if differ and spearmanr(marks[:, k], marks[:, -1]).statistic >= TELLING:
            return rung
    return rungs[-2]
