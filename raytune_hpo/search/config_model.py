"""ConfigModel: what is believed of configs at max_epochs, from what trials have shown so far. Search and scheduler ask.

The epoch is one more column of the model's input: trials that were stopped early, or still run, are points at the
epoch that they reached (Swersky, Snoek & Adams, "Freeze-Thaw Bayesian Optimization", 2014, arXiv:1406.3896; Klein et
al., FABOLAS, 2017; Kandasamy et al., BOCA, 2017; the joint model of Klein, Tiao, Lienart, Archambeau & Seeger,
"Model-based Asynchronous Hyperparameter and Neural Architecture Search", 2020, arXiv:2003.10865). Here it is the
logarithm of the epoch under the surrogate's own kernel: its length scale, learned with the others, says how much of
what an early epoch shows holds at a late one. So an early epoch that misleads is learned to mislead.

- Losses of different epochs are put on one scale before (`fidelity.Comparison.equated`); targets are the normal scores
  of their ranks, the best highest. A failed trial is a point at max_epochs that shares the worst rank.
- Of each trial the newest level is a point. How levels go together is seen on further points, at the levels below, of
  the trials that got furthest.
- `limit` points at most: two thirds are of different trials, the better half of them and the most recent of the rest.
- The hyperparameters are learned anew at fixed numbers of things seen (`refit_at`), from what was seen until then, and
  with randomness keyed by that number: they are a function of the history alone.
- What is believed of the end is asked at the highest level that any trial has passed, max_epochs before long: beyond
  the data a model knows nothing but its prior.

Notations: as in `unit_cube`, with
    n        points; m points asked for
    S        models that are averaged over (`surrogates`)
    targets  [n] to be maximized, of unit variance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from raytune_hpo.search.fidelity import Comparison, marks_of, normal_scores
from raytune_hpo.search.history import History, Suggestion
from raytune_hpo.search.surrogates import SURROGATES, Model
from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace, Vector

FIT_POINTS = 100  # hyperparameters are learned on so many points at most
SPAN = 1.0  # the distance from epoch 1 to max_epochs, in the column of the epoch
OF_TRIALS = 2 / 3  # of the points: the share that are of different trials
BESIDE = 0.5  # the deviation of targets about a prior's mean, as the surrogate expects it
UNFITTED: Any = ((-1, False, 0), ())
#: codes [m, E] -> [m], to be maximized: what is believed before a trial has shown anything.
Mean = Callable[[Vector], Vector]


class Prior(Protocol):
    """What is believed of configs before a trial of this run has shown anything. version: another after a change."""

    @property
    def version(self) -> int: ...

    def mean(self, codes: Vector, targets: Vector) -> Mean | None:
        """Given what trials have shown: targets [n] of codes [n, E]. None where they do not bear it out."""


@dataclass(frozen=True)
class Points:
    """trials: [n], whose; codes: [n, E], and a column for the epoch where `timed`; targets: [n]."""

    trials: list[Suggestion]
    codes: Vector
    targets: Vector


@dataclass(frozen=True)
class Belief:
    """Of configs, at the epoch that is asked for. best: the highest mean of a config that was tried; tried: those
    trials, the best first. informed: whether it begins from a prior."""

    models: list[Model]
    best: float
    tried: list[Suggestion]
    epoch: float | None  # as in the column; None where the codes have none
    informed: bool = False

    def moments(self, codes: Vector) -> tuple[Vector, Vector]:
        """codes [m, E] -> mean [S, m], deviation [S, m]."""
        rows = codes if self.epoch is None else np.column_stack([codes, np.full(len(codes), self.epoch)])
        mean, deviation = (np.array(found) for found in zip(*(model(rows) for model in self.models), strict=True))
        return mean, np.maximum(deviation, 1e-9)


class ConfigModel:
    """surrogate: a name in SURROGATES; limit: points at most, unless given as many as the surrogate affords."""

    def __init__(self, space: SearchSpace, levels: Sequence[int], surrogate: str, seed: int, limit: int | None) -> None:
        self.encoding = CubeEncoding(space)
        self.levels = tuple(levels)
        self.seed = seed
        self._surrogate = SURROGATES[surrogate]
        self._limit = limit or self._surrogate.observations
        span = max(math.log(self.levels[-1]), 1e-9)
        self._times = SPAN * np.log(self.levels) / span
        #: a cache of `_learned`: ((things seen, whether there is a column for the epoch, version of the mean),
        #: hyperparameters)
        self._fitted: tuple[tuple[int, bool, int], tuple[Any, ...]] = UNFITTED

    def forget(self) -> None:
        """The history that it was asked of has changed, and not only grown."""
        self._fitted = UNFITTED

    def codes(self, trials: Sequence[Suggestion]) -> Vector:
        """[n, E]"""
        if not trials:
            return np.empty((0, self.encoding.width))
        return self.encoding.encode(self.encoding.snap(np.array([s.unit for s in trials])))

    def belief(
        self,
        history: History,
        pending: Sequence[Suggestion],
        rng: np.random.Generator,
        prior: Prior | None = None,
    ) -> Belief:
        """From what `history` shows, of which there must be something unless there is a prior. pending: trials that are
        believed to turn out as is predicted."""
        known = history.known()
        timed = any(not s.failed and len(s.marks) < len(self.levels) for s in known)
        points = self._points(known, self._limit, timed)
        mean = self._mean(prior, points)
        learned = self._learned(history, timed, prior)
        epoch = None
        if timed:
            epoch = float(self._times[max((len(s.marks) for s in known if not s.failed), default=1) - 1])
        more = self.codes(pending)
        rows = more if epoch is None else np.column_stack([more, np.full(len(more), epoch)])
        with np.errstate(all="ignore"):  # the deviation at a known point may be 0
            left = self._left(mean, points)
            models = self._surrogate.models(learned, points.codes, left, rows, rng)
            models = models if mean is None else [_over(mean, model) for model in models]
            belief = Belief(models, 0.0, [], epoch)
            merits = points.targets
            if timed:
                merits = belief.moments(points.codes[:, : self.encoding.width])[0].mean(axis=0)
        order = np.argsort(-merits, kind="stable")
        tried = {points.trials[i].trial_id: points.trials[i] for i in order}
        best = float(merits.max()) if len(merits) else 0.0
        return Belief(models, best, list(tried.values()), epoch, mean is not None)

    def _points(self, known: Sequence[Suggestion], limit: int, timed: bool) -> Points:
        trials = [s for s in known if s.failed or s.marks]
        shown = [i for i, s in enumerate(trials) if not s.failed]
        newest, losses = np.full(len(trials), len(self.levels) - 1), np.full(len(trials), math.inf)
        equated = np.empty((0, len(self.levels)))
        if shown:
            comparison = Comparison.of(marks_of([trials[i] for i in shown], len(self.levels)))
            equated = comparison.equated
            newest[shown] = comparison.passed - 1
            losses[shown] = equated[np.arange(len(shown)), newest[shown]]
        chosen = selected(losses, int(limit * OF_TRIALS) if timed else limit)
        at = [(i, int(newest[i]), float(losses[i])) for i in chosen]
        if timed:
            row = {i: k for k, i in enumerate(shown)}
            for i in sorted(chosen, key=lambda i: (-newest[i], losses[i])):
                if i in row:
                    at += [(i, k, float(equated[row[i], k])) for k in range(int(newest[i]) - 1, -1, -1)]
            at = at[:limit]
        of = [trials[i] for i, _, _ in at]
        codes = self.codes(of)
        if timed:
            codes = np.column_stack([codes, self._times[[k for _, k, _ in at]]])
        return Points(of, codes, targets_of(np.array([loss for _, _, loss in at])))

    def _learned(self, history: History, timed: bool, prior: Prior | None = None) -> tuple[Any, ...]:
        count = refit_at(len(history.shown))
        of = (count, timed, 0 if prior is None else prior.version)
        if self._fitted[0] != of:
            points = self._points(history.as_of(count), FIT_POINTS, timed)
            rng = generator(self.seed, "surrogate", count)
            targets = self._left(self._mean(prior, points), points)
            found = self._surrogate.learn(points.codes, targets, rng) if len(targets) else ()
            self._fitted = (of, found)
        return self._fitted[1]

    def _mean(self, prior: Prior | None, points: Points) -> Mean | None:
        """Of codes with or without their epoch: it is the same at all."""
        width = self.encoding.width
        found = None if prior is None else prior.mean(points.codes[:, :width], points.targets)
        return None if found is None else lambda rows: found(rows[:, :width])

    def _left(self, mean: Mean | None, points: Points) -> Vector:
        """What the surrogate is to learn of the targets."""
        return points.targets if mean is None else (points.targets - mean(points.codes)) / BESIDE

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fitted": UNFITTED}


def _over(mean: Mean, model: Model) -> Model:
    """A model of what is left of targets beside their mean."""

    def predict(rows: Vector) -> tuple[Vector, Vector]:
        found, deviation = model(rows)
        return mean(rows) + BESIDE * found, BESIDE * deviation

    return predict


def selected(losses: Vector, limit: int) -> list[int]:
    """The better half, and the most recent of the rest: `limit` positions, in their order."""
    if len(losses) <= limit:
        return list(range(len(losses)))
    ranked = sorted(range(len(losses)), key=lambda i: (losses[i], i))
    best = set(ranked[: limit // 2])
    recent = [i for i in range(len(losses)) if i not in best][-(limit - len(best)) :]
    return sorted(best.union(recent))


def targets_of(losses: Vector) -> Vector:
    """[n] of losses [n], infinite where a trial failed."""
    if not len(losses):
        return losses
    scores = -normal_scores(losses)
    spread = float(scores.std())
    return scores / spread if spread > 0 else scores


def refit_at(count: int) -> int:
    """The number of things seen at the latest refit: ever rarer as hyperparameters settle."""
    step = 1 if count < 40 else 5 if count < 120 else 20
    return count - count % step
