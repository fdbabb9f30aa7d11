"""Where search meets Ray: our algorithms as Ray Tune Searchers, and any Ray Tune Searcher as ours.

RaySearcher    a SearchAlgorithm in a plain `ray.tune.Tuner`
ForeignSearch  a user's own `ray.tune.search.Searcher` (OptunaSearch, ...) in this package's runs

This is the only module of `search` that imports Ray.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.result import DONE, TRAINING_ITERATION
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain
from ray.tune.stopper import Stopper

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.search.algorithm import Search, SearchAlgorithm
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, plain
from raytune_hpo.space.parameters import BELOW_ONE, Choice
from raytune_hpo.states import Outcome


@dataclass
class Heard:
    """What a running trial has reported: its last epoch, its best value, and whether its last one is finite."""

    epoch: int = 0
    best: float | None = None
    finite: bool = True


class RaySearcher(Searcher):  # type: ignore[misc]  # ray is untyped for mypy
    """`algorithm` as a Ray Tune searcher:

        searcher = RaySearcher(search.build("bohb", {}, space, Objective("loss", "min"), max_epochs=27, seed=0))
        Tuner(..., tune_config=TuneConfig(search_alg=searcher), run_config=RunConfig(stop=searcher.stopper()))

    The metric, the mode and the space are the algorithm's. (TuneConfig's metric does not reach a searcher unless there
    is a param_space, and there is none here.) An epoch is a report, Ray's `training_iteration`.

    The stopper ends each trial at the epoch that its plan says, max_epochs or a share of them. A plan's `parent` cannot
    be had in a Tuner, which has no way to begin a trial with another's checkpoint: a carried config of coarse_to_fine
    trains from scratch, for as many epochs as its round says. Neither can its `repeat`.
    """

    def __init__(self, algorithm: SearchAlgorithm) -> None:
        self.objective = algorithm.objective
        super().__init__(metric=self.objective.metric, mode=self.objective.mode)
        self.algorithm = algorithm
        self._heard: dict[str, Heard] = {}  # of the trials that run

    def stopper(self) -> Stopper:
        """For `RunConfig(stop=...)`: ends a trial at the epoch that its plan says."""
        return PlannedEpochs(self)

    def last_epoch(self, trial_id: str) -> int:
        """The epoch at which a trial is complete."""
        return self.algorithm.plan_for(trial_id).epochs(self.algorithm.max_epochs)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        if mode and mode != self.objective.mode:
            raise ExperimentError("mode", mode, f"the search algorithm was built with mode={self.objective.mode!r}")
        if metric and metric != self.objective.metric:
            raise ExperimentError("metric", metric, f"the searcher was built with metric={self.objective.metric!r}")
        if config:
            raise ExperimentError("param_space", config, "must be empty: the searcher brings its own space")
        return True

    def suggest(self, trial_id: str) -> Config | str | None:
        config = self.algorithm.suggest(trial_id)
        if config is None:
            return self.FINISHED if self.algorithm.exhausted else None
        # Ray may write into the config it is given; the history keeps its own.
        copied: Config = json.loads(json.dumps(config))
        return self.algorithm.space.given(copied)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._hear(trial_id, result)

    def _hear(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Take a result; whether its epoch is a new one. (A trial that failed repeats those since its checkpoint.)"""
        if result.get(self.objective.metric) is None:
            return False
        value, epoch = float(result[self.objective.metric]), int(result.get(TRAINING_ITERATION, 0))
        heard = self._heard.setdefault(trial_id, Heard())
        heard.finite = math.isfinite(value)
        if self.objective.better(value, heard.best):
            heard.best = value
        if epoch <= heard.epoch:
            return False
        heard.epoch = epoch
        self.algorithm.report(trial_id, epoch, value)
        return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        new = self._hear(trial_id, result or {})
        heard = self._heard.pop(trial_id, None)
        # Ray stops a trial at a result of which the searcher hears here first. One that it has heard of comes again,
        # as done, where the function returned.
        returned = (result or {}).get(DONE, False) and not new
        if error or heard is None:
            outcome = Outcome.FAILED
        elif not heard.finite:
            outcome = Outcome.DIVERGED
        elif returned or heard.epoch >= self.last_epoch(trial_id):
            outcome = Outcome.COMPLETED
        else:
            outcome = Outcome.STOPPED
        best, epoch = (None, 0) if heard is None else (heard.best, heard.epoch)
        self.algorithm.observe(trial_id, outcome, best if outcome.eligible else None, epoch)

    def save(self, checkpoint_path: str) -> None:
        """Write the exact state as JSON, atomically: the file holds the old state or the new one."""
        state = {
            "metric": self.objective.metric,
            "mode": self.objective.mode,
            "heard": {trial_id: asdict(heard) for trial_id, heard in self._heard.items()},
            "algorithm": self.algorithm.state_dict(),
        }
        write_atomically(Path(checkpoint_path), json.dumps(state).encode())

    def restore(self, checkpoint_path: str) -> None:
        """Take over a saved state; the algorithm must be fresh, over the same space, options and seed.

        Raises ExperimentError when the file is cut or belongs to another metric or mode.
        """
        try:
            with open(checkpoint_path) as file:
                state = json.load(file)
            saved, algorithm = (state["metric"], state["mode"]), state["algorithm"]
            heard = {trial_id: Heard(**fields) for trial_id, fields in state["heard"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError("checkpoint_path", checkpoint_path, f"is no saved searcher ({error})") from error
        if saved != (self.objective.metric, self.objective.mode):
            raise ExperimentError("checkpoint_path", checkpoint_path, f"was saved for metric, mode = {saved}")
        self.algorithm.load_state_dict(algorithm)
        self._heard = heard


class PlannedEpochs(Stopper):  # type: ignore[misc]  # ray is untyped for mypy
    """Ends the trials of a RaySearcher at the epochs that it planned."""

    def __init__(self, searcher: RaySearcher) -> None:
        self.searcher = searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return int(result[TRAINING_ITERATION]) >= self.searcher.last_epoch(trial_id)

    def stop_all(self) -> bool:
        return False


class ForeignSearch(Search):
    """A user's Ray Tune searcher (OptunaSearch, HyperOptSearch, ...) as a search of this package's runs.

    A searcher that was built without a space of its own searches this experiment's, as its unit cube: one
    uniform number for each Float and Int, one choice for each Choice. So scales, steps and conditions hold with every
    searcher, whatever it supports itself (ray#6167, #28646). One that brings its own space must suggest configs
    that lie in the experiment's.

    Its state cannot be rebuilt from a history: `replay` asks it again and compares. So a resumed run needs a
    fresh searcher, seeded as the first one was, and the calls in their order.

    A failed or diverged trial is told as an error; whether it then counts as bad is the searcher's choice.
    Raises ExperimentError unless the searcher knows the objective's metric and mode.
    """

    def __init__(self, searcher: Any, space: SearchSpace, objective: Objective) -> None:
        super().__init__(space, objective)
        if not isinstance(searcher, Searcher):
            raise ExperimentError("searcher", searcher, "must be a ray.tune.search.Searcher or a searcher's name")
        metric, mode = objective.metric, objective.mode
        self._in_cube = bool(searcher.set_search_properties(metric, mode, unit_cube(space)))
        inner = searcher
        while inner.metric is None and isinstance(getattr(inner, "searcher", None), Searcher):
            inner = inner.searcher  # ConcurrencyLimiter, Repeater: the metric is of the searcher that they wrap
        if (inner.metric, inner.mode) != (metric, mode):
            found = (inner.metric, inner.mode)
            raise ExperimentError("searcher", found, f"must be built with metric={metric!r}, mode={mode!r}")
        self.searcher = searcher

    def suggest(self, trial_id: str) -> Config | None:
        """Raises ExperimentError when the config holds something that is no plain value, or lies outside the space."""
        answer = self.searcher.suggest(trial_id)
        if answer is None or answer == Searcher.FINISHED:
            self.exhausted = answer is not None
            return None
        config: Config = plain("config", answer)
        if self._in_cube:
            return from_cube(self.space, config)
        self.space.check(config)
        return config

    def observe(self, trial_id: str, outcome: Outcome, value: float | None, epoch: int) -> None:
        if not outcome.eligible or value is None or not math.isfinite(value):
            self.searcher.on_trial_complete(trial_id, result=None, error=True)
        else:
            self.searcher.on_trial_complete(trial_id, result={self.objective.metric: float(value)}, error=False)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """Some searchers (BOHB, Optuna) listen to reports."""
        self.searcher.on_trial_result(trial_id, {TRAINING_ITERATION: epoch, self.objective.metric: value})


def unit_cube(space: SearchSpace) -> dict[str, Domain]:
    """A space for foreign searchers: path -> a uniform number for a Float or Int, an option's index for a Choice."""
    return {
        path: tune.choice(list(range(p.n))) if isinstance(p, Choice) else tune.uniform(0.0, 1.0)
        for path, p in space.parameters.items()
    }


def from_cube(space: SearchSpace, point: Mapping[str, Any]) -> Config:
    """The config of a suggestion over `unit_cube(space)`."""
    values: dict[str, Any] = {}
    for path, parameter in space.parameters.items():
        if isinstance(parameter, Choice):
            values[path] = parameter.value_at(int(point[path]))
        else:
            values[path] = parameter.from_unit(min(max(float(point[path]), 0.0), BELOW_ONE))
    return space.build(values)
