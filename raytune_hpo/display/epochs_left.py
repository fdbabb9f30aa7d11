"""How many epochs a run has still to train, as far as its own trials tell.

A trial may go on to its last epoch, and most are stopped before it: of those that came as far as a trial is now, so
large a share went on from there. (Kaplan & Meier 1958: those that go on count up to where they are.)
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence

from raytune_hpo.results.trial import TrialState


class Lifetimes:
    """ended: the epochs at which trials ended before their last; reached: those that all trials are at, in order."""

    def __init__(self, ended: Iterable[int], reached: Sequence[int]) -> None:
        counts = Counter(ended)
        self._epochs = sorted(counts)
        self._went_on = [1 - counts[e] / (len(reached) - bisect.bisect_left(reached, e)) for e in self._epochs]
        self._known: dict[tuple[int, int], float] = {}

    def after(self, epoch: int, last: int) -> float:
        """The epochs that a trial trains, on average, that goes on at `epoch` and ends at `last` at the latest."""
        if (epoch, last) not in self._known:
            self._known[epoch, last] = self._after(epoch, last)
        return self._known[epoch, last]

    def _after(self, epoch: int, last: int) -> float:
        expected, share, at = 0.0, 1.0, epoch
        for i in range(bisect.bisect_right(self._epochs, epoch), len(self._epochs)):
            if self._epochs[i] >= last:
                break
            expected += share * (self._epochs[i] - at)
            share, at = share * self._went_on[i], self._epochs[i]
        return expected + share * max(0, last - at)

    def of_new(self, last: int) -> float:
        """The same of a trial that has not begun, which may end before its first epoch."""
        return self.after(-1, last) - 1


def epochs_left(trials: Sequence[TrialState], max_epochs: int, to_come: int) -> float:
    """Of the trials that have not ended, and of `to_come` more that have not been suggested."""
    reached = sorted(t.epoch for t in trials)
    ended = [(t.epoch, t.limit or max_epochs) for t in trials if t.finished]
    stopped = Lifetimes((epoch for epoch, last in ended if epoch < last), reached)
    left = sum(stopped.after(t.epoch, t.limit or max_epochs) for t in trials if not t.finished)
    if to_come > 0:  # what their own limits will be is as little known as where they will be stopped
        left += to_come * Lifetimes((epoch for epoch, _ in ended if epoch < max_epochs), reached).of_new(max_epochs)
    return left
