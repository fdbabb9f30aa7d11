"""Replicates: the best trials of a run trained again from other seeds (`Experiment.replicate`), and what that says.

The best of many noisy figures flatters itself, and of trials that differ by less than their noise the first is chance.
So the contenders, the best k trials, are trained again, each from the same new seeds and on the same new splits
(`search.algorithm.Plan.repeat`), as long as the best of them by the mean is not apart from the others: a race (Maron &
Moore, "Hoeffding races", 1994; Birattari et al., F-Race, 2002), which whoever has fallen behind leaves. A replicate is
never the winner: its config's own trial is, ranked by the mean. All of it is a function of the trials that there are.

Notations
    noise  the deviation between trainings of one config, pooled over the contenders
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.objective import Objective
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import config_key
from raytune_hpo.states import MAX_EPOCHS, PLATEAU, Status

MOST_ROUNDS = 4
FIRST_REPEAT = 1000  # `Plan.repeat` of the first round: those below are of the searcher repeat, and so of `confirm`
APART = 2.0  # standard errors of a difference of two means


@dataclass(frozen=True)
class Contender:
    """again: its replicates, in order; but for those that have ended at an earlier last epoch than its own."""

    trial: TrialState
    again: list[TrialState]

    @property
    def ended(self) -> list[TrialState]:
        """Those that were not cut short, by the end of the run or by a person."""
        return [t for t in self.again if t.finished and (t.status != Status.STOPPED or t.reason == PLATEAU)]

    @property
    def values(self) -> list[float]:
        """The metric of its trainings that ended well, its own first."""
        own = [] if self.trial.best is None else [self.trial.best]
        return own + [t.best for t in self.ended if t.status.eligible and t.best is not None]

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def summary(self) -> dict[str, Any]:
        """trials: the replicates; values: of those that ended well; failed: how many did not; mean: with its own value,
        by which it is ranked; std: between all of them, None of one."""
        values = self.values
        return {
            "trials": [t.id for t in self.ended],
            "values": values[1:],
            "failed": sum(not t.status.eligible for t in self.ended),
            "mean": self.mean,
            "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        }

    def rank(self, objective: Objective) -> tuple[bool, float, int]:
        """Whether it has failed on another seed, then its mean."""
        failed = any(not t.status.eligible for t in self.ended)
        return failed, objective.loss(self.mean), self.trial.index


def contenders(trials: Iterable[TrialState]) -> list[Contender]:
    """Those that have replicates, in the order in which these were begun."""
    trials = list(trials)
    by_id, found = {t.id: t for t in trials}, dict[str, list[TrialState]]()
    for t in trials:
        if t.replicate_of is not None:
            found.setdefault(t.replicate_of, []).append(t)
    return [
        Contender(by_id[parent], [t for t in again if t.reason != MAX_EPOCHS or t.epoch >= by_id[parent].epoch])
        for parent, again in found.items()
    ]


def ranked(trials: Iterable[TrialState], objective: Objective) -> list[TrialState]:
    """All that may be the winner, the best first: by the mean those that were trained again, once each of them was."""
    trials = list(trials)
    order = sorted((t for t in trials if t.eligible and t.best is not None), key=lambda t: t.rank(objective))
    raced = contenders(trials)
    if not raced or not all(c.ended for c in raced):
        return order
    first = [c.trial for c in sorted(raced, key=lambda c: c.rank(objective)) if c.trial.eligible]
    return first + [t for t in order if t not in first]


def due(trials: Iterable[TrialState], objective: Objective, k: int) -> list[str]:
    """The trials to be trained again now, of a run whose other trials have all ended; none where the race is over."""
    trials = list(trials)
    raced, best = contenders(trials), first_of(trials, objective, k)
    if not raced:
        return [t.id for t in best] if len(best) > 1 else []
    began = min(t.index for t in trials if t.replicate_of is not None)
    there = {c.trial.id for c in raced if c.again}
    late = [t.id for t in best if t.id not in there and (t.reopened or t.index > began or _again(t, raced))]
    if late:
        return late  # it had failed, and has ended well since; or has come, or trained on, after the race
    order = sorted((c for c in raced if c.trial.eligible), key=lambda c: c.rank(objective))
    if len(order) < 2 or max(len(c.again) for c in order) >= MOST_ROUNDS:
        return []
    first = order[0]
    near = [c for c in order[1:] if not c.rank(objective)[0] and not apart(first, c, noise(raced))]
    return [first.trial.id, *(c.trial.id for c in near)] if near else []


def _again(trial: TrialState, raced: Iterable[Contender]) -> bool:
    """Whether it has trained on since its replicates have ended."""
    return any(c.trial is trial and not c.again for c in raced)


def first_of(trials: Iterable[TrialState], objective: Objective, k: int) -> list[TrialState]:
    """The k best by their own value, of different configs; of those that trained to the end, if there are any two."""
    order = sorted((t for t in trials if t.eligible and t.best is not None), key=lambda t: t.rank(objective))
    distinct = list({config_key(t.best_config): t for t in reversed(order) if t.limit is None}.values())[::-1]
    whole = [t for t in distinct if t.status == Status.COMPLETED or t.reason == PLATEAU]
    return (whole if len(whole) > 1 else distinct)[:k]


def noise(raced: Iterable[Contender]) -> float:
    """0 where no contender was trained twice."""
    squares, freedom = 0.0, 0
    for c in raced:
        values = np.array(c.values)
        if len(values) > 1:
            squares += float(np.square(values - values.mean()).sum())
            freedom += len(values) - 1
    return math.sqrt(squares / freedom) if freedom else 0.0


def apart(one: Contender, other: Contender, spread: float) -> bool:
    error = spread * math.sqrt(1 / len(one.values) + 1 / len(other.values))
    return abs(one.mean - other.mean) > APART * error
