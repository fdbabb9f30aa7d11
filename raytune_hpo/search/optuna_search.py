"""OptunaSearch: Optuna's samplers over our space. An optional extra: `pip install "raytune-hpo[optuna]"`.

Akiba, Sano, Yanase, Ohta & Koyama, "Optuna: A Next-generation Hyperparameter Optimization Framework" (2019).
The samplers are Optuna's own and asked directly (`infer_relative_search_space`, `sample_relative`,
`sample_independent`), parameter by parameter in `space.order`: conditions are define-by-run.

- tpe     the tree-structured Parzen estimator, multivariate and grouped by conditions (Falkner, Klein & Hutter,
          2018). It asks which trials are good, now: the study holds the history in the order of suggestion,
          pending trials as running ones, which it takes for bad (the constant liar). Of the older trials
          only the best and the most recent stay, which bounds the cost of a suggestion.
- cmaes   CMA-ES on the numbers that are always active; everything else is drawn at random.
- nsgaii  the genetic algorithm NSGA-II, here for one objective.
  Both leave notes on trials (of which generation they are). The study holds the finished trials, each as if
  it had been suggested right before it was observed. So nothing waits for a whole generation.

Each suggestion has a sampler and a seed of its own. The study is a function of the history, and a cache:
its trial number 0 is the one asked for, and runs for ever. What it is told of a trial that was stopped is the loss
that is expected of it at max_epochs (`fidelity`): for tpe now, and also of paused and running trials that have shown
something; for the others as it looked when the trial ended. (Optuna itself would rank pruned trials behind all complete
ones, the longer before the shorter.) A failed trial is a complete one with an infinite
loss (Optuna would forget it). Optuna's logger and its experimental warnings are off during a suggestion.

Left out: QMC (its state is a count of calls; searcher "random" with sampler="sobol" is the same sequence) and
GP (searcher "bayesopt").
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import option
from raytune_hpo.search.algorithm import SearchAlgorithm, SearchOptions
from raytune_hpo.search.fidelity import expected_losses
from raytune_hpo.search.history import Suggestion
from raytune_hpo.search.hyperopt_search import from_label, to_label
from raytune_hpo.search.limits import check_size
from raytune_hpo.seeding import derive_seed
from raytune_hpo.space import Vector
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter

WINDOW = 200  # every so many finished trials, TPE's study is made anew ...
KEPT_BEST, KEPT_RECENT = 50, 100  # ... from so many of them
MODEL_ATTEMPTS = 4  # a config that was suggested before is drawn again by the sampler, then at random


@dataclass
class _Mirror:
    """A study that shows the history up to some point. told: finished trials in it or left out of it."""

    study: Any
    asked: Any  # the FrozenTrial number 0
    window: int  # the number of finished trials of which only some are in the study
    told: int = 0
    numbers: dict[int, int] = field(default_factory=dict)  # position in the history -> number in the study
    next: int = 0  # the first position in the history that is not in the study


MOST_PARAMETERS, MOST_OF_CMAES = 2000, 100


class OptunaSearch(SearchAlgorithm):
    """MOST_PARAMETERS parameters at most, of its cmaes MOST_OF_CMAES. Raises ExperimentError where Optuna is not
    installed."""

    @dataclass(frozen=True)
    class Options(SearchOptions):
        sampler: str = option("tpe", choices=("tpe", "cmaes", "nsgaii"), doc="Optuna's")
        n_initial: int = option(10, low=1, high=100_000, doc="random configs until so many trials are finished")
        n_candidates: int = option(
            24, low=1, high=10_000, doc="draws of tpe, the best of which by the ratio of densities is taken"
        )
        population: int | None = option(
            None, low=4, high=100_000, doc="of cmaes and nsgaii, Optuna's own default unless given"
        )

    name = "optuna"
    uses_evidence = "starts"
    options: Options

    def prepare(self) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise ExperimentError("searcher", "optuna", 'needs Optuna: pip install "raytune-hpo[optuna]"')
        most = MOST_OF_CMAES if self.options.sampler == "cmaes" else MOST_PARAMETERS
        check_size(self.name, len(self.space), most, f"parameters with its {self.options.sampler}")
        self._distributions: dict[str, Any] = {}
        self._mirror: _Mirror | None = None

    def propose(self, number: int, attempt: int, rng: np.random.Generator) -> Config:
        known = self.known() if self.options.sampler == "tpe" else self.order
        if len(known) < self.options.n_initial or attempt >= MODEL_ATTEMPTS:
            return self.space.sample(rng)
        with quiet():
            self._distributions = self._distributions or {p: distribution(v) for p, v in self.space.parameters.items()}
            mirror = self._reflect()
            sampler = self._sampler(int(rng.integers(2**31)))
            return self.space.build(self._ask(sampler, mirror))

    def _sampler(self, seed: int) -> Any:
        from optuna import samplers

        if self.options.sampler == "tpe":
            return samplers.TPESampler(
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=0,
                n_ei_candidates=self.options.n_candidates,
                seed=seed,
            )
        if self.options.sampler == "cmaes":
            return samplers.CmaEsSampler(popsize=self.options.population, warn_independent_sampling=False, seed=seed)
        more = {} if self.options.population is None else {"population_size": self.options.population}
        return samplers.NSGAIISampler(seed=seed, **more)

    def _ask(self, sampler: Any, mirror: _Mirror) -> dict[str, Any]:
        """path -> value of the active parameters, asked for one after the other."""
        study, trial = mirror.study, mirror.asked
        relative = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        values: dict[str, Any] = {}
        for path in self.space.order:
            parameter = self.space.parameters[path]
            if self.space.is_active(path, values):
                if path not in relative:
                    drawn = sampler.sample_independent(study, trial, path, self._distributions[path])
                else:
                    drawn = relative[path]
                values[path] = from_label(parameter, drawn)
        return values

    # The study --------------------------------------------------------------------------------------

    def _reflect(self) -> _Mirror:
        """The study of the whole history, made from the one before where that is possible."""
        window = len(self.order) - len(self.order) % WINDOW if self.options.sampler == "tpe" else 0
        if self._mirror is None or self._mirror.window != window:
            self._mirror = self._new_mirror(window)
        if self.options.sampler == "tpe":
            self._suggestions_in_order(self._mirror)
        else:
            self._observations_in_order(self._mirror)
        return self._mirror

    def _new_mirror(self, window: int) -> _Mirror:
        import optuna

        study = optuna.create_study()
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
        return _Mirror(study, study.get_trials(deepcopy=False)[0], window)

    def _suggestions_in_order(self, mirror: _Mirror) -> None:
        """The rest of the history joins the study in the order of suggestion, and its results after that."""
        left_out: set[int] = set()
        if mirror.next == 0:
            old = self.order[: mirror.window]
            ranked = self.ranked([self.history[i] for i in old])
            best = [self.past.position[s.trial_id] for s in ranked[:KEPT_BEST]]
            recent = [i for i in old if i not in set(best)][-KEPT_RECENT:]
            left_out = set(old).difference(best, recent)
        for position in range(mirror.next, len(self.history)):
            if position not in left_out:
                self._add(mirror, position)
        mirror.next = len(self.history)
        self._tell_all(mirror)

    def _tell_all(self, mirror: _Mirror) -> None:
        """What is expected of a trial changes with what others show: each is complete as soon as it has shown
        something, and is told anew every time."""
        from optuna.trial import TrialState

        trials = mirror.study.get_trials(deepcopy=False)
        positions = list(mirror.numbers)
        scores = self._losses([self.history[i] for i in positions])
        for position, score in zip(positions, scores, strict=True):
            suggestion, trial = self.history[position], trials[mirror.numbers[position]]
            if suggestion.marks or not suggestion.pending:
                trial.state, trial.values = TrialState.COMPLETE, [float(score)]

    def _observations_in_order(self, mirror: _Mirror) -> None:
        """Every newly finished trial is suggested, as its config says, and told."""
        sampler = self._sampler(derive_seed(self.seed, "optuna"))
        for position in self.order[mirror.told :]:
            self._add(mirror, position)
            trial = mirror.study.get_trials(deepcopy=False)[-1]
            space = sampler.infer_relative_search_space(mirror.study, trial)
            sampler.sample_relative(mirror.study, trial, space)  # for the notes that it leaves on the trial
            mirror.told += 1
            # By those that have finished so far, so that it is the same whenever it is told.
            before = [self.history[i] for i in self.order[: mirror.told]]
            mirror.study.tell(mirror.numbers[position], float(self._losses(before)[-1]))

    def _losses(self, trials: Sequence[Suggestion]) -> Vector:
        return expected_losses(trials, len(self.past.levels))

    def _add(self, mirror: _Mirror, position: int) -> None:
        from optuna.trial import TrialState, create_trial

        values = self.space.values(self.history[position].config)
        params = {path: coordinate(self.space.parameters[path], value) for path, value in values.items()}
        distributions = {path: self._distributions[path] for path in values}
        mirror.numbers[position] = len(mirror.numbers) + 1
        mirror.study.add_trial(create_trial(state=TrialState.RUNNING, params=params, distributions=distributions))

    def corrected(self) -> None:
        self._mirror = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mirror": None}


def coordinate(parameter: Parameter, value: Any) -> float | int:
    """A parameter's value for Optuna; `hyperopt_search.from_label` is the inverse.

    1 - value for a reverse log scale, the index for a Choice and for an Int unless its scale is log; of a Float with a
    step, whose values Optuna would have with other roundings, what its place is.
    """
    label = to_label(parameter, value)
    return label if parameter.n is None else round(label)


def distribution(parameter: Parameter) -> Any:
    """Optuna's distribution of `coordinate`."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Float) and parameter.places is not None:
        return distribution(parameter.places)
    if isinstance(parameter, Float):
        ends = coordinate(parameter, parameter.low), coordinate(parameter, parameter.high)
        return FloatDistribution(min(ends), max(ends), log=parameter.scale != "linear")
    if isinstance(parameter, Int) and parameter.scale == "log":
        return IntDistribution(parameter.low, parameter.high, log=True)
    if parameter.categories:
        return CategoricalDistribution(range(parameter.categories))
    assert isinstance(parameter, Int | Choice)
    return IntDistribution(0, parameter.n - 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing: neither its logger nor what it warns of as experimental."""
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
