"""Where search meets Ray: our algorithms as Ray Tune Searchers, and any Ray Tune Searcher as ours.

RaySearcher    a SearchAlgorithm in a plain `ray.tune.Tuner`
ForeignSearch  a user's own `ray.tune.search.Searcher` (OptunaSearch, ...) in this package's runs

This is the only module of `search` that imports Ray.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.sample import Domain

from raytune_hpo.atomic import write_atomically
from raytune_hpo.configs import Config, config_key
from raytune_hpo.errors import ExperimentError
from raytune_hpo.parameters import BELOW_ONE, Choice
from raytune_hpo.search.algorithm import Mode, Plan, SearchAlgorithm
from raytune_hpo.space import SearchSpace


def metric_value(metric: str, result: Mapping[str, Any] | None, error: bool) -> float | None:
    """The metric in a trial's last result; None when the trial failed or never reported it."""
    value = None if error or not result else result.get(metric)
    return None if value is None else float(value)


class RaySearcher(Searcher):  # type: ignore[misc]  # ray is untyped for mypy
    """`algorithm` as a Ray Tune searcher: `Tuner(..., tune_config=TuneConfig(search_alg=RaySearcher(...)))`.

    metric: the reported value to optimize. (TuneConfig's does not reach a searcher unless there is a
    param_space, and there is none here: the space and the mode are the algorithm's.)
    """

    _metric: str  # Ray's class keeps it, untyped for mypy

    def __init__(self, algorithm: SearchAlgorithm, metric: str) -> None:
        super().__init__(metric=metric, mode=algorithm.mode)
        self.algorithm = algorithm

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        if mode and mode != self.algorithm.mode:
            raise ExperimentError("mode", mode, f"the search algorithm was built with mode={self.algorithm.mode!r}")
        if metric and metric != self._metric:
            raise ExperimentError("metric", metric, f"the searcher was built with metric={self._metric!r}")
        if config:
            raise ExperimentError("param_space", config, "must be empty: the searcher brings its own space")
        return True

    def suggest(self, trial_id: str) -> Config | str | None:
        config = self.algorithm.suggest(trial_id)
        if config is None:
            return self.FINISHED if self.algorithm.exhausted else None
        # Ray may write into the config it is given; the history keeps its own.
        return _copy(config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.algorithm.observe(trial_id, metric_value(self._metric, result, error))

    def save(self, checkpoint_path: str) -> None:
        """Write the exact state as JSON, atomically: the file holds the old state or the new one."""
        state = {"metric": self._metric, "mode": self._mode, "algorithm": self.algorithm.state_dict()}
        write_atomically(Path(checkpoint_path), json.dumps(state).encode())

    def restore(self, checkpoint_path: str) -> None:
        """Take over a saved state; the algorithm must be fresh, over the same space, options and seed.

        Raises ExperimentError when the file is cut or belongs to another metric or mode.
        """
        try:
            with open(checkpoint_path) as file:
                state = json.load(file)
            saved, algorithm = (state["metric"], state["mode"]), state["algorithm"]
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError("checkpoint_path", checkpoint_path, f"is no saved searcher ({error})") from error
        if saved != (self._metric, self._mode):
            raise ExperimentError("checkpoint_path", checkpoint_path, f"was saved for metric, mode = {saved}")
        self.algorithm.load_state_dict(algorithm)


class ForeignSearch:
    """A user's Ray Tune searcher (OptunaSearch, HyperOptSearch, ...) behind the interface of SearchAlgorithm.

    A searcher that was built without a space of its own searches this experiment's, as its unit cube: one
    uniform number for each Float and Int, one choice for each Choice. So scales, steps and conditions hold with every
    searcher, whatever it supports itself (ray#6167, #28646). One that brings its own space must suggest configs
    that lie in the experiment's.

    Its state cannot be rebuilt from a history: `replay` asks it again and compares. So a resumed run needs a
    fresh searcher, seeded as the first one was, and the calls in their order.

    A failed or diverged trial is told as an error; whether it then counts as bad is the searcher's choice.
    Raises ExperimentError unless the searcher knows `metric` and `mode`.
    """

    name = "foreign"

    def __init__(self, searcher: Any, space: SearchSpace, *, metric: str, mode: Mode) -> None:
        if not isinstance(searcher, Searcher):
            raise ExperimentError("searcher", searcher, "must be a ray.tune.search.Searcher or a searcher's name")
        self.space = space
        self._in_cube = bool(searcher.set_search_properties(metric, mode, unit_cube(space)))
        if (searcher.metric, searcher.mode) != (metric, mode):
            found = (searcher.metric, searcher.mode)
            raise ExperimentError("searcher", found, f"must be built with metric={metric!r}, mode={mode!r}")
        self.searcher = searcher
        self.metric = metric
        self.mode: Mode = mode
        self.configs: dict[str, Config] = {}  # trial_id -> config, in the order of their suggestion
        self.exhausted = False
        self._done: set[str] = set()

    def total(self) -> int | None:
        return None

    def suggest(self, trial_id: str) -> Config | None:
        """The next config; None when there is none now, for good if `exhausted` is true.

        Raises ExperimentError when the config holds something that is no plain value, or lies outside the space.
        """
        answer = self.searcher.suggest(trial_id)
        if answer is None or answer == Searcher.FINISHED:
            self.exhausted = answer is not None
            return None
        config: Config = resolved("config", answer)
        if self._in_cube:
            config = from_cube(self.space, config)
        else:
            self.space.check(config)
        self.configs[trial_id] = config
        return _copy(config)

    def replay(self, trial_id: str, config: Config) -> None:
        """Bring the searcher along to a recorded suggestion.

        Raises ExperimentError when it does not suggest again what was recorded.
        """
        again = self.suggest(trial_id)
        if again is None or config_key(again) != config_key(config):
            expected = (
                f"the searcher suggests something else than was recorded for trial {trial_id} ({config_key(config)}); "
                "resume with a fresh searcher of the same options and seed"
            )
            raise ExperimentError("searcher", again, expected)

    def observe(self, trial_id: str, value: float | None) -> None:
        """Tell the final metric; None or a value that is not finite says that the trial failed."""
        self._done.add(trial_id)
        if value is None or not math.isfinite(value):
            self.searcher.on_trial_complete(trial_id, result=None, error=True)
        else:
            self.searcher.on_trial_complete(trial_id, result={self.metric: float(value)}, error=False)

    def plan(self, number: int) -> Plan:
        return Plan()

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        """Pass an intermediate report on; some searchers (BOHB, Optuna) listen to them."""
        self.searcher.on_trial_result(trial_id, {"training_iteration": epoch, self.metric: value})

    def pending(self) -> list[str]:
        """The ids of the trials that were suggested and not yet observed."""
        return [trial_id for trial_id in self.configs if trial_id not in self._done]


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


def resolved(where: str, value: Any) -> Any:
    """`value` as plain JSON data: numpy scalars and arrays become Python's.

    Raises ExperimentError naming the place of anything else, such as a Ray search-space object that a
    searcher left unresolved.
    """
    if isinstance(value, Mapping):
        return {str(k): resolved(f"{where}.{k}", v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(f"{where}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray):
        return resolved(where, value.tolist())
    if isinstance(value, Domain):
        raise ExperimentError(where, value, "the searcher left a Ray search-space object unresolved")
    if value is None or isinstance(value, bool | str | int | float):
        return value
    raise ExperimentError(where, value, "the searcher suggested something that is no plain value")


def _copy(config: Config) -> Config:
    copied: Config = json.loads(json.dumps(config))
    return copied
