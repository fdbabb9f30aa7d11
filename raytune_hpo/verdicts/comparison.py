"""Which config is better, and which only looks it: statistics over few repetitions. Nothing here runs anything.

Notations
    k, n   configs, repetitions of each; `values` is [k, n] or [n], a metric in its own units
    paired repetition r of two configs had the same seed and the same data: their difference is what is judged

Five repetitions are few, and those of one data set are not independent, so a plain bootstrap of them is far too sure
of itself. What is done about it:

- Intervals use Student's t with the variance of Nadeau & Bengio (2003, "Inference for the generalization error",
  Machine Learning 52): s^2 (1/n + n_validation/n_train) in place of s^2/n. Splits drawn again and again from one
  pool share their samples; that the pool itself is a sample shows in none of them. Without it, two configs that learn
  pure noise differ "significantly" far more often than the level says (tests/verdicts/test_comparison.py measures it).
  With k-fold cross-validation each fold is such a repetition (Bouckaert & Frank 2004, PAKDD), and two configs'
  folds are taken as if independent, since only each one's deviation is known: wide, on the safe side.
- A difference of shares (accuracy) counted on m samples has at least the variance |d| (1 - |d|) / m (McNemar 1947:
  that many samples must have changed sides), even if, being counted, it came out the same every time.
- The mean of one config has a bootstrap interval: percentiles, stretched about the mean so that their width is that
  of the interval above (the percentile interval of n values is too narrow by sqrt((n - 1)/n) and by z/t: Hesterberg
  2015, "What teachers should know about the bootstrap", The American Statistician 69).
- Several comparisons with one config are corrected by Holm (1979, Scandinavian J. of Statistics 6). That the first was
  chosen as the best of these very values needs no more: it is called better only if it beats every other, and the
  chance that an undeserving one does so is greatest when two are equal and the rest far behind (Gutmann & Maymin
  1987, "Is the selected population the best?", Annals of Statistics 15).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.objective import Mode

Array = np.ndarray[Any, Any]

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Design:
    """How the repetitions came by their values.

    overlap: validation samples per training sample, where each repetition draws both anew from one pool; 0 where
    they are independent. samples: how many validation samples a share (accuracy) is counted on, None for any other
    metric. folds: of a cross-validation, whose means the values are; 1 for none.
    """

    overlap: float = 0.0
    samples: int | None = None
    folds: int = 1


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval at CONFIDENCE, in the metric's units. One without width knows nothing of the noise,
    and is on no side of anything."""

    estimate: float
    low: float
    high: float

    @property
    def above_zero(self) -> bool:
        return 0 < self.low < self.high

    @property
    def below_zero(self) -> bool:
        return self.low < self.high < 0

    @property
    def tells_nothing(self) -> bool:
        """Whether it is away from 0 without a width."""
        return self.low == self.high != 0


@dataclass(frozen=True)
class Difference:
    """How much better the reference is than `other` (its row), positive for better. interval: at the level at which
    Holm's procedure judged it, so that it excludes 0 exactly if the difference is beyond noise."""

    other: int
    interval: Interval


def mean_interval(values: Array, design: Design, rng: np.random.Generator, deviations: Array | None = None) -> Interval:
    """The mean of [n] repetitions of one config with its stretched bootstrap interval.

    deviations: [n] standard deviations over the folds, for a design with folds.
    """
    from scipy import special

    mean, n = float(values.mean()), len(values)
    error, freedom = _error(values, design, _least_of_mean(mean, design), deviations)
    half = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error
    plain = math.sqrt(values.var() / n)  # the deviation of the resampled means
    low, high = mean - half, mean + half
    if plain > 0:
        means = values[rng.integers(0, n, (RESAMPLES, n))].mean(1)
        ends = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        stretch = half / (plain * float(special.ndtri((1 + CONFIDENCE) / 2)))
        low, high = (mean + (float(end) - mean) * stretch for end in ends)
    if design.samples is not None:
        low, high = max(low, 0.0), min(high, 1.0)  # a share
    return Interval(mean, low, high)


def differences(
    values: Array, reference: int, mode: Mode, design: Design, deviations: Array | None = None
) -> list[Difference]:
    """How much better the reference is than each other row of [k, n], in the rows' order, Holm's correction for k - 1.

    deviations: [k, n], as for `mean_interval`.
    """
    others = [row for row in range(len(values)) if row != reference]
    gains = [_gain(values[reference] - values[row], mode) for row in others]
    found = []
    for row, gain in zip(others, gains, strict=True):
        mean = _clean(float(gain.mean()), values)
        joint = None if deviations is None else np.hypot(deviations[reference], deviations[row])
        found.append((row, mean, *_error(gain, design, _least(abs(mean), design), joint)))
    levels = _holm([_p_value(mean, error, freedom) for _, mean, error, freedom in found])
    return [
        Difference(row, _student(mean, error, freedom, level))
        for (row, mean, error, freedom), level in zip(found, levels, strict=True)
    ]


def margin(
    values: Array, bound: float, mode: Mode, design: Design, chosen_from: int, deviations: Array | None = None
) -> Interval:
    """How much better the mean of [n] repetitions is than a fixed value, positive for better.

    chosen_from: of how many configs it is the best: Bonferroni's correction, since here the choice does matter.
    """
    gain = _gain(values - bound, mode)
    mean, level = float(values.mean()), float(gain.mean())
    error, freedom = _error(gain, design, _least_of_mean(mean, design), deviations)
    return _student(level, error, freedom, (1 - CONFIDENCE) / chosen_from)


def shift(now: Array, then: Array, mode: Mode, design: Design) -> Interval:
    """How much better the repetitions `now` are than the same ones `then`; both [n], paired."""
    gain = _gain(now - then, mode)
    mean = float(gain.mean())
    error, freedom = _error(gain, design, _least(abs(mean), design), None)
    return _student(mean, error, freedom, 1 - CONFIDENCE)


def shift_from_search(now: Array, row: int, searched: float, trials: int, mode: Mode, design: Design) -> Interval:
    """How much better row `row` of [k, n] repetitions is than the one value that a search had for it.

    A prediction interval, from the deviation pooled over the k rows. The search reported the best of `trials` values,
    and the luckiest of so many lies far out: Bonferroni's correction for as many.
    """
    k, n = now.shape
    gain = float(_gain(now[row].mean() - np.float64(searched), mode))
    variance = max(float(now.var(axis=1, ddof=1).mean()), _least(abs(gain), design))
    error = math.sqrt(variance * (1 + 1 / n + design.overlap))
    return _student(gain, error, k * (n - 1), (1 - CONFIDENCE) / max(1, trials))


def best_row(values: Array, mode: Mode) -> int:
    """The row of [k, n] with the best mean, the first of equal ones."""
    means = _gain(values.mean(1), mode)
    # Sums of the same values in another order differ in the last digit.
    return int(np.isclose(means, means.max(), rtol=1e-12, atol=0).argmax())


def _clean(difference: float, values: Array) -> float:
    """0 where a difference of values is nothing but rounding."""
    return 0.0 if abs(difference) < 1e-12 * float(np.abs(values).max()) else difference


def _gain(difference: Any, mode: Mode) -> Any:
    return difference if mode == "max" else -difference


def _least(share: float, design: Design) -> float:
    """The least variance of a share, or of a difference of shares, that is counted on `design.samples` samples.

    All of so many samples is no certainty: it counts as all but half a one.
    """
    if design.samples is None:
        return 0.0
    share = min(share, 1 - 0.5 / design.samples)
    return share * (1 - share) / design.samples


def _least_of_mean(mean: float, design: Design) -> float:
    """The same of a share by itself, where none is no certainty either; 0 of what is no share."""
    if design.samples is None or not 0 <= mean <= 1:
        return 0.0
    return _least(max(mean, 0.5 / design.samples), design)


def _error(values: Array, design: Design, least: float, deviations: Array | None) -> tuple[float, int]:
    """(standard error of the mean of [n], degrees of freedom)."""
    n, variance = len(values), float(values.var(ddof=1))
    freedom = n - 1
    if design.folds > 1 and deviations is not None:
        variance = max(float((deviations**2).mean()), design.folds * variance)
        freedom = n * (design.folds - 1)
    return math.sqrt(max(variance, least) * (1 / (n * design.folds) + design.overlap)), freedom


def _student(estimate: float, error: float, freedom: int, level: float) -> Interval:
    from scipy import special

    half = float(special.stdtrit(freedom, 1 - level / 2)) * error
    return Interval(estimate, estimate - half, estimate + half)


def _p_value(mean: float, error: float, freedom: int) -> float:
    from scipy import special

    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * special.stdtr(freedom, -abs(mean) / error))


def _holm(p_values: Sequence[float]) -> list[float]:
    """The level at which Holm's procedure judges each: alpha/m for the smallest p, then alpha/(m - 1), ...; all that
    come after the first that is not rejected are judged at its level."""
    levels = [0.0] * len(p_values)
    level, open_ = 0.0, True
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if open_:
            level = (1 - CONFIDENCE) / (len(p_values) - step)
            open_ = p_values[i] <= level
        levels[i] = level
    return levels
