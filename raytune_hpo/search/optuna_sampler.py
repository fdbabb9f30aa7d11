"""SamplerSearch: an object of any of Optuna's samplers, or of a user's own, over our space.

The other half of `optuna_search`: there, three of Optuna's samplers are one of our algorithms, with a state that is
its history; here, whatever the user gives keeps its own state in a study of its own, in memory. Each trial is asked
for parameter by parameter in `space.order`: conditions are define-by-run. The coordinates are those of
`optuna_search.distribution`, so every scale, step and option holds with every sampler.
"""

from __future__ import annotations

import copy
import importlib.util
import math
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.search.algorithm import Search
from raytune_hpo.search.hyperopt_search import from_label
from raytune_hpo.search.optuna_search import coordinate, distribution, quiet
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Outcome


class SamplerSearch(Search):
    """A user's Optuna sampler (TPESampler(seed=1), GPSampler(seed=1), ...) as a search of this package's runs.

    The sampler is copied, so that every run begins with it as it was given. Its state cannot be rebuilt from a history:
    `replay` asks it again and compares. One without a seed goes on too, with other suggestions than it would have made.

    A failed or diverged trial is a failed one of Optuna's, which its samplers forget. A stopped one is pruned: they
    judge it by its reports. A sampler with nothing left to ask for (BruteForceSampler) ends the search.
    Raises ExperimentError for what is no sampler, and where Optuna is not installed.
    """

    def __init__(self, sampler: Any, space: SearchSpace, objective: Objective) -> None:
        super().__init__(space, objective)
        if importlib.util.find_spec("optuna") is None:
            raise ExperimentError("searcher", sampler, 'needs Optuna: pip install "raytune-hpo[optuna]"')
        import optuna

        if not isinstance(sampler, optuna.samplers.BaseSampler):
            raise ExperimentError("searcher", sampler, "must be an object of an optuna.samplers.BaseSampler")
        self._sampler = sampler
        with quiet():
            direction = "minimize" if objective.mode == "min" else "maximize"
            self.study = optuna.create_study(sampler=copy.deepcopy(sampler), direction=direction)
        self.study.stop = self._stop  # Optuna's own raises an error outside of `optimize`
        self._distributions = {path: distribution(p) for path, p in space.parameters.items()}
        self._has_seed: bool | None = None
        self._running: dict[str, Any] = {}  # trial_id -> Optuna's trial

    def replay(self, trial_id: str, config: Config) -> None:
        """Asked again, it must say the same; one without a seed, which never does, is given what it had said."""
        if self._has_seed is None:
            self._has_seed = self._is_seeded()
        if self._has_seed:
            super().replay(trial_id, config)
            return
        values = self.space.values(config)
        self.study.enqueue_trial({path: coordinate(self.space.parameters[path], v) for path, v in values.items()})
        super().replay(trial_id, config)

    def _is_seeded(self) -> bool:
        """Whether two of it draw the same."""
        with quiet():
            one, other = (SamplerSearch(self._sampler, self.space, self.objective) for _ in range(2))
            return one.suggest("t00000") == other.suggest("t00000")

    def _stop(self) -> None:
        self.exhausted = True

    def suggest(self, trial_id: str) -> Config | None:
        if self.exhausted:
            return None
        values: dict[str, Any] = {}
        with quiet():
            trial = self.study.ask()
            for path in self.space.order:
                if self.space.is_active(path, values):
                    try:
                        drawn = asked(trial, path, self._distributions[path])
                    except ValueError as error:  # BruteForceSampler over floats, ...
                        name = type(self.study.sampler).__name__
                        raise ExperimentError("searcher", name, f"cannot draw {path}: {error}") from error
                    values[path] = from_label(self.space.parameters[path], drawn)
        self._running[trial_id] = trial
        return self.space.build(values)

    def report(self, trial_id: str, epoch: int, value: float) -> None:
        with quiet():
            self._running[trial_id].report(value, epoch)

    def observe(self, trial_id: str, outcome: Outcome, value: float | None, epoch: int) -> None:
        from optuna.trial import TrialState

        trial = self._running.pop(trial_id)
        with quiet():
            if not outcome.eligible or value is None or not math.isfinite(value):
                self.study.tell(trial, state=TrialState.FAIL)
            elif outcome is Outcome.COMPLETED:
                self.study.tell(trial, value)
            else:
                if self.study.get_trials(deepcopy=False)[trial.number].last_step is None:
                    trial.report(value, epoch)  # a pruned trial's value is the one that it reported last
                self.study.tell(trial, state=TrialState.PRUNED)


def asked(trial: Any, path: str, asked_for: Any) -> Any:
    """The coordinate that a sampler draws for a parameter."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(asked_for, CategoricalDistribution):
        return trial.suggest_categorical(path, asked_for.choices)
    suggest = trial.suggest_float if isinstance(asked_for, FloatDistribution) else trial.suggest_int
    return suggest(path, asked_for.low, asked_for.high, log=asked_for.log)
