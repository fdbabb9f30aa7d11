"""BayesOptSearch: Bayesian optimization over a mixed space, with one of three surrogates (`surrogates`).

From bayesian-optimization 3.x come the acquisition functions (`bayes_opt.acquisition`). From here come the
unit cube with ints, categories and conditions (`unit_cube`), parallel suggestions, robust targets, and the
maximisation of the acquisition over a mixed space. (The library's own TargetSpace knows neither conditions
nor log scales, and its suggest() repeats itself while trials are pending.)

- Targets are the normal scores of the ranks of the losses (Blom, 1958), the best highest: a loss of
  1e300 is no more than the worst one. Failed trials share the worst rank.
- Pending trials are believed to turn out as the model predicts, so that the next suggestion looks elsewhere.
- Kernels are learned anew at fixed numbers of finished trials (`refit_at`), always from the same start and
  with randomness keyed by that number: they are a function of the history alone.
- The model sees at most `max_observations` finished trials, the better half by loss and the most recent
  of the rest, which bounds the cost of a suggestion.

Notations: as in `unit_cube`, with
    targets   [n] to be maximized, of unit variance
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.limits import check_size
from raytune_hpo.search.surrogates import SURROGATES
from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.seeding import generator
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.states import Outcome

FIT_POINTS = 100  # length scales are fitted on so many points at most
MAX_PENDING = 200
APART = 1e-3  # least distance of a suggestion to every pending one
UNIFORM, LOCAL, ROUNDS, CENTRES = 512, 40, 4, 5  # candidates for the acquisition function


class BayesOptSearch(SearchAlgorithm):
    """One model of all trials; what is suggested maximizes its acquisition function.

    So many columns at most as the surrogate takes (`Surrogate.columns`): one a parameter, but one an option of an
    unordered Choice."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(10, low=2, high=100_000, doc="random configs until so many trials are finished")
        surrogate: str = option(
            "gp",
            choices=("gp", "forest", "sampled_gp"),
            doc="a Gaussian process; a forest of randomized trees, as in SMAC and scikit-optimize; or a Gaussian "
            "process with integrated kernel hyperparameters, as in Spearmint",
        )
        acquisition: str = option(
            "ei",
            choices=("ei", "ucb"),
            doc="expected improvement over the best by xi, or mean + kappa standard deviations",
        )
        xi: float = option(0.01, low=0.0, high=10.0, doc="of ei, in standard deviations of the targets")
        kappa: float = option(2.0, low=0.0, high=100.0, doc="of ucb")
        max_observations: int | None = option(
            None, low=10, high=2000, doc="finished trials in the model; unless given 200, for sampled_gp 100"
        )

    name = "bayesopt"
    options: Options

    def prepare(self) -> None:
        self._encoding = CubeEncoding(self.space)
        what = "columns (a parameter is one, an unordered Choice one an option)"
        check_size(self.name, self._encoding.width, SURROGATES[self.options.surrogate].columns, what)
        self._fitted: tuple[int, tuple[Any, ...]] = (-1, ())  # (finished trials, kernels): a cache of `_learned`

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        if len(self.order) < self.options.n_initial or attempt > 0:
            return self.space.sample(rng)
        finished = self._selected(
            self.observed(), self.options.max_observations or SURROGATES[self.options.surrogate].observations
        )
        with np.errstate(all="ignore"):  # the deviation at a known point may be 0
            return self._maximize(self._acquisition(finished, rng), finished, rng)

    # The model ------------------------------------------------------------------------------------

    def _selected(self, finished: list[Suggestion], limit: int) -> list[Suggestion]:
        if len(finished) <= limit:
            return finished
        ranked = sorted(range(len(finished)), key=lambda i: (finished[i].loss, i))
        best = set(ranked[: limit // 2])
        recent = [i for i in range(len(finished)) if i not in best][-(limit - len(best)) :]
        return [finished[i] for i in sorted(best.union(recent))]

    def _codes(self, suggestions: Sequence[Suggestion]) -> Vector:
        return self._encoding.encode(self._encoding.snap(np.array([s.unit for s in suggestions])))

    def _learned(self) -> tuple[Any, ...]:
        """What the surrogate learned from the first `refit_at(finished)` finished trials."""
        count = refit_at(len(self.order))
        if self._fitted[0] != count:
            finished = self._selected(self.observed()[:count], FIT_POINTS)
            rng = generator(self.seed, "surrogate", count)
            learned = SURROGATES[self.options.surrogate].learn(self._codes(finished), normal_scores(finished), rng)
            self._fitted = (count, learned)
        return self._fitted[1]

    def _acquisition(self, finished: list[Suggestion], rng: np.random.Generator) -> Callable[[Vector], Vector]:
        """codes [n, E] -> [n], to be maximized: the mean over the surrogate's models."""
        from bayes_opt.acquisition import ExpectedImprovement, UpperConfidenceBound

        codes, targets = self._codes(finished), normal_scores(finished)
        function: Any = UpperConfidenceBound(kappa=self.options.kappa)
        if self.options.acquisition == "ei":
            function = ExpectedImprovement(xi=self.options.xi)
            function.y_max = float(targets.max())
        pending = self.pending()[-MAX_PENDING:]
        more = self._codes(pending) if pending else codes[:0]
        models = SURROGATES[self.options.surrogate].models(self._learned(), codes, targets, more, rng)

        def value(points: Vector) -> Vector:
            mean, deviation = (np.array(moments) for moments in zip(*(model(points) for model in models), strict=True))
            found = function.base_acq(mean, np.maximum(deviation, 1e-9))
            result: Vector = np.nan_to_num(found.mean(axis=0), nan=-np.inf)
            if pending:
                # Close to its end a search would ask for one point in many copies that differ in the 5th digit.
                distances = np.linalg.norm(points[:, None, :] - more[None, :, :], axis=2)
                result[distances.min(axis=1) < APART] = -np.inf
            return result

        return value

    # The maximisation of the acquisition --------------------------------------------------------------

    def _maximize(
        self, function: Callable[[Vector], Vector], finished: list[Suggestion], rng: np.random.Generator
    ) -> Config:
        """The best new config among uniform points, neighbours of the best trials, and neighbours of those."""
        encoding, dimensions = self._encoding, len(self.space)
        best = sorted(finished, key=lambda s: s.loss)[:CENTRES]
        near = self._neighbours(np.array([s.unit for s in best]), LOCAL, (-2.5, -0.5), rng)
        units = encoding.snap(np.concatenate([rng.random((UNIFORM, dimensions)), near]))
        values = function(encoding.encode(units))
        for step in range(ROUNDS):
            top = units[np.argsort(-values, kind="stable")[:CENTRES]]
            more = encoding.snap(self._neighbours(top, LOCAL // 2, (-2.0 - step / 2, -1.0 - step / 2), rng))
            units = np.concatenate([units, more])
            values = np.concatenate([values, function(encoding.encode(more))])
        for index in np.argsort(-values, kind="stable"):
            config = self.space.from_unit(units[index])
            if config_key(config) not in self._seen:
                return config
        return self.space.sample(rng)

    def _neighbours(
        self, centres: Vector, each: int, exponents: tuple[float, float], rng: np.random.Generator
    ) -> Vector:
        """[centres * each, D]: some coordinates moved by a normal step of 10**(a number in `exponents`).

        A cell of an Int or an ordered Choice is left with every second step; an unordered Choice is drawn anew.
        """
        points = np.repeat(centres, each, axis=0)
        n, dimensions = points.shape
        moved = rng.random((n, dimensions)) < max(0.4, 1 / dimensions)
        moved[np.arange(n), rng.integers(dimensions, size=n)] = True
        size = np.maximum(10 ** rng.uniform(*exponents, size=(n, 1)), 0.75 * self._encoding.cells)
        steps = points + size * rng.standard_normal((n, dimensions))
        again = rng.random((n, dimensions))
        steps = np.where(np.array(self._encoding.categories) > 0, again, steps)
        result: Vector = np.where(moved, steps, points).clip(0.0, math.nextafter(1.0, 0.0))
        return result

    def observe(self, trial_id: str, outcome: Outcome, value: float | None, epoch: int) -> None:
        if not self.history[self._position[trial_id]].pending:  # a known result is corrected
            self._fitted = (-1, ())
        super().observe(trial_id, outcome, value, epoch)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fitted": (-1, ())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._fitted = (-1, ())
        super().load_state_dict(state)


def normal_scores(finished: Sequence[Suggestion]) -> Vector:
    """Targets [n] of finished trials: normal scores of the ranks, equal losses sharing their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    losses = np.array([s.loss for s in finished])
    scores: Vector = ndtri((rankdata(-losses) - 0.375) / (len(losses) + 0.25))
    spread = float(scores.std())
    return scores / spread if spread > 0 else scores


def refit_at(count: int) -> int:
    """The number of finished trials at the latest refit of the length scales: ever rarer as they settle."""
    step = 1 if count < 20 else 5 if count < 60 else 20
    return count - count % step
