"""BayesOptSearch: Bayesian optimization over a mixed space, with one of three surrogates (`surrogates`).

From bayesian-optimization 3.x come the acquisition functions (`bayes_opt.acquisition`). From here come the
unit cube with ints, categories and conditions (`unit_cube`), parallel suggestions, the model of configs and epochs
(`config_model`), and the maximisation of the acquisition over a mixed space. (The library's own TargetSpace knows
neither conditions nor log scales, and its suggest() repeats itself while trials are pending.)

- A trial that was stopped, is paused or still runs counts at the epoch that it has reached, and no more than what that
  epoch has turned out to be worth; what is predicted and maximized is the value at max_epochs.
- Pending trials are believed to turn out as the model predicts, so that the next suggestion looks elsewhere.
- What is known from elsewhere is the mean that the model begins from, for as long as this run's trials bear it out
  (`source_models`). Until n_initial trials have shown something, most suggestions are then the best configs of there.
- The model sees at most `max_observations` points, which bounds the cost of a suggestion.

Notations: as in `config_model`
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.one_thread import one_thread
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.config_model import Belief, ConfigModel
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.limits import check_size
from raytune_hpo.search.source_models import LOOK_ROUND, SourceModels
from raytune_hpo.search.surrogates import SURROGATES
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config, config_key

MAX_PENDING = 200
APART = 1e-3  # least distance of a suggestion to every pending one
TRIED = 50  # of each source
UNIFORM, LOCAL, ROUNDS, CENTRES = 512, 40, 4, 5  # candidates for the acquisition function


class BayesOptSearch(SearchAlgorithm):
    """One model of all trials; what is suggested maximizes its acquisition function.

    So many columns at most as the surrogate takes (`Surrogate.columns`): one a parameter, but one an option of an
    unordered Choice."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        n_initial: int = option(10, low=2, high=100_000, doc="random configs until so many trials have shown something")
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
            None, low=10, high=2000, doc="points in the model; unless given 200, for sampled_gp 100"
        )

    name = "bayesopt"
    uses_evidence = "observations"
    options: Options

    def prepare(self) -> None:
        surrogate = self.options.surrogate
        self._model = ConfigModel(self.space, self.past.levels, surrogate, self.seed, self.options.max_observations)
        self._encoding = self._model.encoding
        self._sources = SourceModels(self.space, surrogate, self.seed, self.options.max_observations)
        what = "columns (a parameter is one, an unordered Choice one an option)"
        check_size(self.name, self._encoding.width, SURROGATES[surrogate].columns, what)

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        few = len(self.known()) < self.options.n_initial
        anywhere = self.space.sample(rng) if few or attempt > 0 else None
        if anywhere is not None and (attempt > 0 or not self.elsewhere or number % LOOK_ROUND == 1):
            return anywhere
        pending = self.pending()[-MAX_PENDING:]
        with one_thread(), np.errstate(all="ignore"):  # the deviation at a known point may be 0
            self._sources.learn(self.elsewhere)
            belief = self._model.belief(self.past, pending, rng, self._sources if self.elsewhere else None)
            acquisition = self._acquisition(belief, pending)
            if anywhere is not None:
                return (self._best_of_elsewhere(acquisition) if belief.informed else None) or anywhere
            return self._maximize(acquisition, [*belief.tried[:CENTRES], *self._sources.best(CENTRES)], rng)

    def _best_of_elsewhere(self, function: Callable[[Vector], Vector]) -> Config | None:
        """The best new one of the configs that were good elsewhere: before this run has shown much, what was seen is a
        better guide than what a model makes of it."""
        tried = self._sources.best(TRIED)
        codes = self._model.codes(tried)
        for index in np.argsort(-function(codes), kind="stable"):
            config: Config = tried[index].config
            if config_key(config) not in self._seen:
                return config
        return None

    def _acquisition(self, belief: Belief, pending: Sequence[Suggestion]) -> Callable[[Vector], Vector]:
        """codes [n, E] -> [n], to be maximized: the mean over the surrogate's models."""
        from bayes_opt.acquisition import ExpectedImprovement, UpperConfidenceBound

        function: Any = UpperConfidenceBound(kappa=self.options.kappa)
        if self.options.acquisition == "ei":
            function = ExpectedImprovement(xi=self.options.xi)
            function.y_max = belief.best
        others = self._model.codes(pending)

        def value(codes: Vector) -> Vector:
            found = function.base_acq(*belief.moments(codes))
            result: Vector = np.nan_to_num(found.mean(axis=0), nan=-np.inf)
            if len(others):
                # Close to its end a search would ask for one point in many copies that differ in the 5th digit.
                distances = np.linalg.norm(codes[:, None, :] - others[None, :, :], axis=2)
                result[distances.min(axis=1) < APART] = -np.inf
            return result

        return value

    # The maximisation of the acquisition --------------------------------------------------------------

    def _maximize(
        self, function: Callable[[Vector], Vector], best: list[Suggestion], rng: np.random.Generator
    ) -> Config:
        """The best new config among uniform points, neighbours of the best trials, and neighbours of those."""
        encoding, dimensions = self._encoding, len(self.space)
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

    def corrected(self) -> None:
        self._model.forget()
