"""PB2: population based training whose explore step is a bandit.

Parker-Holder, Nguyen & Roberts, "Provably Efficient Online Hyperparameter Optimization with
Population-Based Bandits" (2020, arXiv:2002.02518). A trial that copies another's weights goes on with the
hyperparameters whose gain in score per epoch has the highest upper confidence bound, in a Gaussian process
over all intervals of the population so far. Small populations gain most: PBT's random steps need many members.

- Its kernel is the paper's: squared exponential over the hyperparameters and the score at which an interval
  began, times (1 - epsilon)^(|t - t'| / 2) over time, so that old intervals are forgotten.
- Where the other members are now counts as observed for the deviation, not for the mean, so that two trials
  are not sent to the same place (Desautels, Krause & Burdick 2014, "Parallelizing exploration-exploitation
  tradeoffs", as the paper does).
- Unordered choices have no neighbours: they are copied, or drawn afresh with resample_probability. The process
  then chooses the numbers that go with them. (The sequel's choice of categories by a bandit of their own,
  arXiv:2106.15883, is not built.)

Ours: gains and scores are ranks, since one diverging interval would drown all others in a standardization;
length scale, epsilon and noise are those of the largest marginal likelihood on a small grid, which is quick
and has one answer. Everything is derived from what the scheduler was told, so a replayed run makes it again.

Notations
    n, m    the number of intervals, of candidates
    E       the columns of a code: one for a number or an ordered choice, k for an unordered one of k options
    rows    [n, 2 + E] time in perturbation intervals, the level of the score in [0, 1], code
    gains   [n] the score's rise per epoch over an interval, as normal scores of the ranks
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.one_thread import one_thread
from raytune_hpo.schedulers.corrected import TIME, Pbt
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.space import SearchSpace, Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import BELOW_ONE, Choice, Parameter

MAX_INTERVALS, FIT_INTERVALS = 128, 64  # the newest ones, in the process and in the choice of its kernel
MAX_PENDING = 64
LENGTHS, EPSILONS, NOISES = (0.15, 0.35, 0.8), (0.02, 0.2), (0.01, 0.1, 0.4)
UNIFORM, LOCAL, ROUNDS, CENTRES = 160, 64, 2, 4  # candidates for the bound


@dataclass(frozen=True)
class Start:
    """Where an interval of a trial began: its epoch, its score (to be maximized), the config and its code [E]."""

    epoch: float
    score: float
    config: Config
    code: Vector


class Pb2(Pbt):
    """kappa: the deviations in the upper confidence bound; resample_probability: of an unordered choice; the other
    options are Pbt's.
    """

    KEY = "pb2"

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        *,
        mutate: list[str],
        resample_probability: float,
        kappa: float,
        **rest: Any,
    ) -> None:
        super().__init__(
            space, seed, mutate=mutate, perturbation=0.0, resample_probability=resample_probability, **rest
        )
        self._resample_probability = resample_probability
        self._kappa = kappa
        self._coded = [(path, space.parameters[path]) for path in space.paths if path in self._mutate]
        widths = [len(code(parameter, {}, path)) for path, parameter in self._coded]
        self._width = sum(widths)
        ends = itertools.accumulate(widths)
        self._columns = {path: end - w for (path, _), end, w in zip(self._coded, ends, widths, strict=True)}
        self._starts: dict[HostTrial, Start] = {}
        self._intervals: list[tuple[Start, float]] = []  # and the gain in score per epoch

    # What it is told ------------------------------------------------------------------------------------

    def on_trial_result(self, tune_controller: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        if trial not in self._starts:  # the score before the first report is not known
            self._starts[trial] = self._start(result[TIME], self._metric_op * result[self._metric], trial.config)
        return str(super().on_trial_result(tune_controller, trial, result))

    def _save_trial_state(self, state: Any, time: int, result: dict[str, Any], trial: HostTrial) -> float:
        score = float(super()._save_trial_state(state, time, result, trial))
        start = self._starts[trial]
        # With another config it goes on from its own weights: those it was to copy were gone.
        if time > start.epoch and start.config == trial.config:
            self._intervals.append((start, (score - start.score) / (time - start.epoch)))
        self._starts[trial] = self._start(time, score, trial.config)
        return score

    def _exploit_with(self, host: SchedulerHost, trial: HostTrial, donor: HostTrial, rng: np.random.Generator) -> None:
        super()._exploit_with(host, trial, donor, rng)
        donor_state = self._trial_state[donor]
        self._starts[trial] = self._start(donor_state.last_train_time, donor_state.last_score, trial.config)

    def _start(self, epoch: float, score: float, config: Config) -> Start:
        values = self._space.values(config)
        return Start(epoch, score, config, np.concatenate([code(p, values, path) for path, p in self._coded]))

    # What it makes of it ----------------------------------------------------------------------------------

    def _explored(self, trial: HostTrial, donor: HostTrial, rng: np.random.Generator) -> Config:
        space, values = self._space, self._space.values(donor.config)
        for path in space.paths:
            resampled = (
                path in self._mutate and space.parameters[path].categories and rng.random() < self._resample_probability
            )
            # Every path gets a value, so that one that becomes active has one; `build` drops the rest.
            if resampled or path not in values:
                values[path] = space.parameters[path].from_unit(rng.random())
        active = space.active(values)
        free = [p for p in space.paths if p in self._mutate and p in active and not space.parameters[p].categories]
        if free:
            with one_thread():
                units = self._most_promising(trial, donor, values, free, rng)
            values.update({p: space.parameters[p].from_unit(float(u)) for p, u in zip(free, units, strict=True)})
        return space.build(values)

    def _most_promising(
        self, trial: HostTrial, donor: HostTrial, values: dict[str, Any], free: list[str], rng: np.random.Generator
    ) -> Vector:
        """The unit coordinates of the parameters `free` with the highest bound, at the donor's time and score."""
        intervals = self._intervals[-MAX_INTERVALS:]
        scores = np.sort([start.score for start, _ in intervals])
        others = [s for t, s in self._starts.items() if t is not trial and not t.is_finished()][-MAX_PENDING:]
        gains = normal_scores(np.array([gain for _, gain in intervals]))
        bound = UpperBound(
            self._rows([start for start, _ in intervals], scores), gains, self._rows(others, scores), self._kappa
        )
        state = self._trial_state[donor]
        start = self._start(state.last_train_time, state.last_score, self._space.build(values))
        here = self._rows([start], scores)[0]
        columns = [2 + self._columns[path] for path in free]

        def of(units: Vector) -> Vector:
            rows = np.repeat(here[None], len(units), axis=0)
            rows[:, columns] = units
            return bound(rows)

        parameters = [self._space.parameters[path] for path in free]
        drawn = [rng.random((UNIFORM, len(free))), around(here[columns], LOCAL, 0.1, rng)]
        units = snap(np.concatenate(drawn), parameters)
        values_at = of(units)
        for step in range(ROUNDS):
            best = units[np.argsort(-values_at, kind="stable")[:CENTRES]]
            more = snap(around(best, LOCAL // 4, 0.05 / 4**step, rng), parameters)
            units, values_at = np.concatenate([units, more]), np.concatenate([values_at, of(more)])
        chosen: Vector = units[int(np.argmax(values_at))]
        return chosen

    def _rows(self, starts: list[Start], scores: Vector) -> Vector:
        """[n, 2 + E]; scores: the known ones, ascending."""
        times = [s.epoch / self._perturbation_interval for s in starts]
        levels = np.searchsorted(scores, [s.score for s in starts]) / max(len(scores), 1)
        codes = np.array([s.code for s in starts]).reshape(len(starts), self._width)
        return np.column_stack([times, levels, codes])


def code(parameter: Parameter, values: Mapping[str, Any], path: str) -> Vector:
    """The part of a code, [1] or [k], of the parameter at `path`; it is inactive where `values` has none.

    Two different options of an unordered Choice are at distance 1; an inactive number is in the middle.
    """
    if not parameter.categories:
        return np.array([parameter.to_unit(values[path]) if path in values else 0.5])
    one_hot = np.zeros(parameter.categories)
    if path in values:
        assert isinstance(parameter, Choice)
        one_hot[parameter.index_of(values[path])] = math.sqrt(0.5)
    return one_hot


class UpperBound:
    """mean + kappa deviations of a time-varying Gaussian process, as a function of rows [m, 2 + E].

    rows [n, 2 + E] and gains [n] are observed; at pending [p, 2 + E] something will be.
    """

    def __init__(self, rows: Vector, gains: Vector, pending: Vector, kappa: float) -> None:
        self.kappa = kappa
        self._rows, self._all = rows, np.concatenate([rows, pending])
        self.length, self.epsilon, self.noise = fit(rows[-FIT_INTERVALS:], gains[-FIT_INTERVALS:])
        self._weights = np.linalg.solve(self._noisy(rows), gains) if len(rows) else gains
        self._inverse = np.linalg.inv(np.linalg.cholesky(self._noisy(self._all)))

    def _kernel(self, a: Vector, b: Vector) -> Vector:
        return (1 - self.noise) * correlation(*distances(a, b), self.length, self.epsilon)

    def _noisy(self, rows: Vector) -> Vector:
        return self._kernel(rows, rows) + self.noise * np.eye(len(rows))

    def __call__(self, points: Vector) -> Vector:
        mean = self._kernel(points, self._rows) @ self._weights
        explained = np.square(self._kernel(points, self._all) @ self._inverse.T).sum(axis=1)
        result: Vector = mean + self.kappa * np.sqrt(np.maximum(1 - self.noise - explained, 0.0))
        return result


def distances(a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Squared distances of codes and levels, and distances in time, of rows [n, 2 + E] and [m, 2 + E]: [n, m] both."""
    squared = np.square(a[:, None, 1:] - b[None, :, 1:]).sum(axis=2)
    return squared, np.abs(a[:, None, 0] - b[None, :, 0])


def correlation(squared: Vector, apart: Vector, length: float, epsilon: float) -> Vector:
    """The paper's kernel, of variance 1."""
    result: Vector = np.exp(-squared / (2 * length**2)) * (1 - epsilon) ** (apart / 2)
    return result


def fit(rows: Vector, gains: Vector) -> tuple[float, float, float]:
    """The length scale, epsilon and share of noise of the largest marginal likelihood on the grid."""
    best, found = -math.inf, (LENGTHS[1], EPSILONS[1], NOISES[1])
    if len(rows) < 3:
        return found
    squared, apart = distances(rows, rows)
    for length, epsilon in itertools.product(LENGTHS, EPSILONS):
        # One decomposition serves every share of noise.
        variances, vectors = np.linalg.eigh(correlation(squared, apart, length, epsilon))
        projected = np.square(vectors.T @ gains)
        for noise in NOISES:
            total = (1 - noise) * np.maximum(variances, 0.0) + noise
            likelihood = -0.5 * float((projected / total).sum() + np.log(total).sum())
            if likelihood > best:
                best, found = likelihood, (length, epsilon, noise)
    return found


def normal_scores(values: Vector) -> Vector:
    """Normal scores [n] of the ranks of values [n], of unit variance (Blom 1958); 0 where all are equal."""
    from scipy.special import ndtri

    if not len(values):
        return values
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    scores: Vector = ndtri((ranks - 0.375) / (len(values) + 0.25))
    spread = float(scores.std())
    return scores / spread if spread > 0 else scores


def around(centres: Vector, each: int, step: float, rng: np.random.Generator) -> Vector:
    """[centres * each, d] normal steps from centres [d] or [c, d], inside the cube."""
    points = np.repeat(np.atleast_2d(centres), each, axis=0)
    result: Vector = (points + step * rng.standard_normal(points.shape)).clip(0.0, BELOW_ONE)
    return result


def snap(units: Vector, parameters: list[Parameter]) -> Vector:
    """units [m, d] with whole numbers and ordered choices in the middle of their cells.

    Those of a log scale stay where they are: its cells have no common width.
    """
    snapped = units.copy()
    for column, parameter in enumerate(parameters):
        if parameter.even:
            snapped[:, column] = parameter.snap(units[:, column])
    return snapped
