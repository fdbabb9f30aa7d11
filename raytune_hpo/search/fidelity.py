"""How trials that trained for different lengths are compared: each by what it would show at max_epochs.

A scheduler stops most trials early, and only the better ones go on. So a loss of an early epoch is no full result, and
the trials that reached a late one are a chosen few. Both are handled by looking at the same trials twice: from one
level to the next, the trials that passed both tell how losses change on the way. That those were chosen does no harm,
since they were chosen by what is conditioned on (missing at random: Rubin 1976, Biometrika 63); that it is taken step
by step is the autoregressive model of Kennedy & O'Hagan (2000, Biometrika 87) for codes of several accuracies, here
without its dependence on the config, which a Gaussian process over config and epoch adds (`bayesopt_search`).

- A trial's loss at a level is its best up to there, as the winner is chosen by its best epoch.
- Losses are compared as the normal scores (Blom 1958) of their ranks among all marks of all trials: a loss of 1e300 is
  no more than the worst.
- `equated`: two levels are put on one scale by the mean and the deviation of those who passed both (linear equating,
  as between two forms of a test). Ranks are kept; how much a level is to be believed is not said.
- `expected`: the regression of the later on the earlier. A level that says nothing about the next moves what it says
  of any trial to the mean. For searches that rank trials and cannot say how sure they are of one.

With few pairs the deviation's ratio is drawn towards 1 and the correlation towards PRIOR_CORRELATION, as if PRIOR_PAIRS
more had been seen.

Notations
    K       number of levels, n of trials
    marks   [n, K] best losses up to each level, NaN beyond the last that a trial passed
    score   of a loss, to be minimized
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raytune_hpo.search.history import Suggestion
from raytune_hpo.space import Vector

FACTOR = 3  # between levels: the usual one of ASHA and Hyperband
PRIOR_PAIRS, PRIOR_CORRELATION = 4.0, 0.7


def levels(max_epochs: int) -> tuple[int, ...]:
    """max_epochs and thirds of it, down to an epoch; rising."""
    found = [max_epochs]
    while found[-1] > 1:
        found.append(math.ceil(found[-1] / FACTOR))
    return tuple(reversed(found))


def marks_of(suggestions: Sequence[Suggestion], k: int) -> Vector:
    """[n, k]"""
    beyond = [[math.nan] * (k - passed) for passed in range(k + 1)]
    rows = (s.marks + beyond[len(s.marks)] for s in suggestions)
    return np.fromiter(itertools.chain.from_iterable(rows), np.float64, k * len(suggestions)).reshape(-1, k)


def normal_scores(losses: Vector) -> Vector:
    """The normal scores [n] of the ranks of losses [n]; equal ones share their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Vector = ndtri((rankdata(losses) - 0.375) / (len(losses) + 0.25))
    return scores


def expected_scores(trials: Sequence[Suggestion], k: int) -> Vector:
    """[n] what is expected of each trial, to be minimized, at the highest of k levels that any of them has passed;
    infinite for those that failed or have passed none."""
    scores = np.full(len(trials), math.inf)
    shown = [i for i, s in enumerate(trials) if s.marks and not s.failed]
    if shown:
        scores[shown] = Comparison.of(marks_of([trials[i] for i in shown], k)).expected
    return scores


def expected_losses(trials: Sequence[Suggestion], k: int) -> Vector:
    """[n] as `expected_scores`, as losses: of a trial that has passed the highest level its own, of others that of the
    mark whose score is nearest. For what compares what it is told now with what it was told before."""
    found = np.full(len(trials), math.inf)
    shown = [i for i, s in enumerate(trials) if s.marks and not s.failed]
    if not shown:
        return found
    marks = marks_of([trials[i] for i in shown], k)
    comparison = Comparison.of(marks)
    losses = np.sort(marks[~np.isnan(marks)])
    scores, passed = normal_scores(losses), comparison.passed
    right = np.searchsorted(scores, comparison.expected).clip(1, max(len(scores) - 1, 1))
    nearer_left = comparison.expected - scores[right - 1] < scores[right.clip(0, len(scores) - 1)] - comparison.expected
    nearest = losses[np.where(nearer_left, right - 1, right).clip(0, len(losses) - 1)]
    found[shown] = np.where(passed == passed.max(), marks[np.arange(len(shown)), passed - 1], nearest)
    return found


@dataclass(frozen=True)
class Comparison:
    """Of n trials of which each has passed a level at least.

    passed   [n] the number of levels that each has passed
    equated  [n, K] scores, put on the scale of the highest level that any has passed; NaN where it has not passed
    expected [n] the score that is expected of each at that level
    """

    passed: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    equated: Vector
    expected: Vector

    @classmethod
    def of(cls, marks: Vector) -> Comparison:
        known = ~np.isnan(marks)
        scores = np.full(marks.shape, math.nan)
        scores[known] = normal_scores(marks[known])
        passed = known.sum(axis=1)
        equated = scores.copy()
        expected = np.where(passed == 1, scores[:, 0], math.nan)
        for k in range(1, int(passed.max(initial=1))):
            both = known[:, k]
            step = Step.between(scores[both, k - 1], scores[both, k])
            equated[:, :k] = step.mean + step.stretch * (equated[:, :k] - step.middle)
            expected = step.mean + step.slope * (expected - step.middle)
            expected[passed == k + 1] = scores[passed == k + 1, k]
        return cls(passed, equated, expected)


@dataclass(frozen=True)
class Step:
    """From the scores at one level to those at the next. middle, mean: of both; stretch: the ratio of their deviations;
    slope: of the regression."""

    middle: float
    mean: float
    stretch: float
    slope: float

    @classmethod
    def between(cls, one: Vector, other: Vector) -> Step:
        n = len(one)
        if n == 0:
            return cls(0.0, 0.0, 1.0, PRIOR_CORRELATION)
        a, b = one - one.mean(), other - other.mean()
        spread, later = float(np.sqrt(a @ a / n)), float(np.sqrt(b @ b / n))
        ratio = later / spread if n > 2 and spread > 0 and later > 0 else 1.0
        correlation = float(a @ b / n / (spread * later)) if n > 2 and spread > 0 and later > 0 else PRIOR_CORRELATION
        stretch = math.exp(n * math.log(ratio) / (n + PRIOR_PAIRS))
        belief = (n * max(correlation, 0.0) + PRIOR_PAIRS * PRIOR_CORRELATION) / (n + PRIOR_PAIRS)
        return cls(float(one.mean()), float(other.mean()), stretch, belief * stretch)
