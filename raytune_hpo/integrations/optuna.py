"""An Optuna script as an experiment: `raytune_hpo.run(raytune_hpo.from_optuna(objective, ...))` in the place of
`study.optimize(objective, ...)`.

    objective(trial)  -> Objective, a function trainable: trial.suggest_* asks the config, and draws what it has not
    suggest_*         -> reporting.meet: told with the next report, journaled (`events.Discovered`); the space grows
    trial.report      -> reporting.report, which does not return where the trial is over: should_prune is False

Optuna is not imported: an objective's own `optuna.TrialPruned` is known by its name.
"""

from __future__ import annotations

import copyreg
import importlib
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.experiment import Experiment
from raytune_hpo.integrations.ray_tune.tuner import name_of
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import flatten
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.workers.reporting import meet, report, trial_id, trial_seed

METRIC = "value"
MODES = {"minimize": "min", "maximize": "max"}
PRUNERS = {
    "NopPruner": "fifo",
    "MedianPruner": "median",
    "SuccessiveHalvingPruner": "asha",
    "HyperbandPruner": "hyperband",
}
SAMPLERS = {"TPESampler": "optuna", "RandomSampler": "random", "GPSampler": "bayesopt"}


def from_optuna(
    objective: Callable[[Any], float],
    *,
    max_epochs: int | None = None,
    n_trials: int = 100,
    direction: str | None = None,
    timeout: float | None = None,
    study: Any = None,
    **changes: Any,
) -> Experiment:
    """The Experiment of an Optuna objective: what `study.optimize(objective, n_trials, timeout)` would search.

    max_epochs: how often a trial reports, at most; 1 for an objective that reports nothing. direction: "minimize" (the
    default, as in Optuna) or "maximize". study: of which the direction, the sampler and the pruner are taken, and
    nothing that is in it. changes: fields of Experiment, such as searcher, scheduler, seed, storage.
    Its metric is "value": what it reports; of an objective that reports nothing, what it returns. Raises
    ExperimentError for what has no equal here, with what to write.
    """
    if not callable(objective):
        raise ExperimentError("from_optuna", objective, "must be the objective, a function of a trial")
    if max_epochs is None:
        expected = "is how often a trial calls trial.report, at most; 1 where it does not"
        raise ExperimentError("from_optuna.max_epochs", None, expected)
    _let_integrations_travel()
    fields = {"searcher": "optuna", "scheduler": "median" if max_epochs > 1 else "fifo", **_of_study(study)}
    if direction is not None:
        if direction not in MODES:
            raise ExperimentError("from_optuna.direction", direction, f"must be one of {', '.join(MODES)}")
        fields["mode"] = MODES[direction]
    fields.setdefault("mode", "min")
    if timeout is not None:
        fields["time_budget_s"] = float(timeout)
    fields |= {
        "name": name_of(getattr(objective, "__name__", type(objective).__name__)),
        "task": Objective(objective),
        "space": SearchSpace({}, grows=True),
        "metric": METRIC,
        "num_samples": n_trials,
        "max_epochs": max_epochs,
    }
    return Experiment(**{**fields, **changes})


def _let_integrations_travel() -> None:
    """Scripts that name `optuna.integration`, a module of a class of its own, cannot be pickled otherwise."""
    module = sys.modules.get("optuna.integration")
    if module is not None and type(module) is not ModuleType:
        copyreg.pickle(type(module), _imported)


def _imported(module: ModuleType) -> tuple[Callable[[str], ModuleType], tuple[str]]:
    return importlib.import_module, (module.__name__,)


def _of_study(study: Any) -> dict[str, Any]:
    """What a study would search by."""
    if study is None:
        return {}
    directions = [str(getattr(one, "name", one)).lower() for one in getattr(study, "directions", ())]
    if len(directions) != 1 or directions[0] not in MODES:
        raise ExperimentError("from_optuna.study", directions, "has several objectives, or none: one is searched here")
    found = {"mode": MODES[directions[0]]}
    sampler, pruner = type(study.sampler).__name__, type(study.pruner).__name__
    if sampler not in SAMPLERS:
        expected = f"has no equal for a space that is met as it runs: {', '.join(SAMPLERS)}, or searcher=..."
        raise ExperimentError("from_optuna.study", sampler, expected)
    if pruner not in PRUNERS:
        raise ExperimentError("from_optuna.study", pruner, f"has no equal: {', '.join(PRUNERS)}, or scheduler=...")
    if getattr(study, "trials", None):
        warnings.warn(
            f"the {len(study.trials)} trials of the study are left out: this is a run of its own", stacklevel=3
        )
    return {**found, "searcher": SAMPLERS[sampler], "scheduler": PRUNERS[pruner]}


class Objective:
    """An objective as a function trainable."""

    def __init__(self, objective: Callable[[Any], float]) -> None:
        self.__name__ = getattr(objective, "__name__", type(objective).__name__)
        self.__wrapped__ = objective

    def __call__(self, config: dict[str, Any]) -> None:
        trial = Trial(flatten(config))
        try:
            value = self.__wrapped__(trial)
        except Exception as error:
            if type(error).__name__ != "TrialPruned" or not trial.reported:
                raise
            return  # by a rule of its own
        if value is None and trial.reported:
            return
        trial.finish(value)


class Trial:
    """What an objective is given: the calls of Optuna's Trial that ask for values and report.

    proposals: name -> value, of the searcher; what is not among them is drawn, from the trial's seed and the name.
    """

    def __init__(self, proposals: Mapping[str, Any]) -> None:
        self._proposals = proposals
        self._met: dict[str, Parameter] = {}
        self.params: dict[str, Any] = {}
        self.user_attrs: dict[str, Any] = {}
        self.system_attrs: dict[str, Any] = {}
        self.reported: list[float] = []
        self._step = -math.inf

    @property
    def number(self) -> int:
        """Its place in the run; 0 outside of one."""
        digits = trial_id().removeprefix("t")
        return int(digits) if digits.isdecimal() else 0

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if low == high:
            return float(self._fixed(name, float(low)))
        if step is not None:
            high = low + math.floor((high - low) / step + 1e-8) * step  # as Optuna does, which warns
        return float(self._suggested(name, lambda: Float(low, high, scale="log" if log else "linear", step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if low == high:
            return int(self._fixed(name, int(low)))
        high = low + (high - low) // step * step
        return int(self._suggested(name, lambda: Int(low, high, scale="log" if log else "linear", step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        for choice in choices:
            if not isinstance(choice, str | int | float | bool | None):
                expected = "must be None, bool, int, float or str: name the object, and look it up by that"
                raise TrialError(f"suggest_categorical({name!r}): {choice!r} {expected}")
        if len(choices) == 1:
            return self._fixed(name, choices[0])
        return self._suggested(name, lambda: Choice(list(choices)))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        return self.suggest_float(name, low, high, step=q)

    def report(self, value: float, step: int) -> None:
        """Returns where the trial goes on; of one that is over the code is unwound here."""
        if step <= self._step:
            warnings.warn(f"step {step} was reported before, and its value is left out", stacklevel=2)
            return
        self._step = step
        self.reported.append(float(value))
        report({METRIC: float(value)})

    def should_prune(self) -> bool:
        """Never where it is asked: `report` does not come back to a trial that is over."""
        return False

    def set_user_attr(self, key: str, value: Any) -> None:
        """Kept for the trial's own code."""
        self.user_attrs[key] = value

    def set_system_attr(self, key: str, value: Any) -> None:
        self.system_attrs[key] = value

    @property
    def study(self) -> Any:
        raise TrialError("trial.study has no equal: a trial knows of no other here")

    def finish(self, value: Any) -> None:
        """The objective has returned."""
        if isinstance(value, list | tuple):
            raise TrialError(f"the objective returned {len(value)} values: it is one that is searched here")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TrialError(f"the objective must return a number, not {value!r}") from None
        if not self.reported:
            report({METRIC: number})
        elif self.reported[-1] != number:
            last = self.reported[-1]
            text = (
                f"the objective returned {number:g}, and last reported {last:g}: trials are compared by their reports"
            )
            warnings.warn(text, stacklevel=2)

    def _fixed(self, name: str, value: Any) -> Any:
        self.params[name] = value
        return value

    def _suggested(self, name: str, made: Callable[[], Parameter]) -> Any:
        try:
            parameter = made()
        except ExperimentError as error:
            raise TrialError(f"trial.suggest: {name!r}: {error}") from error
        if not name or "." in name:
            raise TrialError(f"trial.suggest: {name!r}: a name must be text without a dot")
        if name in self._met:
            if self._met[name] != parameter:
                raise TrialError(
                    f"trial.suggest: {name!r} is asked for twice, as {self._met[name]!r} and {parameter!r}"
                )
            return self.params[name]
        value = self._proposals.get(name)
        if name not in self._proposals or not parameter.accepts(value):
            value = parameter.from_unit(float(generator(trial_seed(), "met", name).random()))
        self._met[name], self.params[name] = parameter, value
        values = {met: self.params[met] for met in self._met}
        meet(values, {met: one.to_json() for met, one in self._met.items()})
        return value
