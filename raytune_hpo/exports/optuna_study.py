"""A run as an Optuna study, for optuna-dashboard and whatever else reads one.

A trial that was stopped is a pruned one, one that failed or diverged a failed one, one that waits a waiting one. Optuna
takes only complete trials for the best: a winner that was stopped is a complete one there, and its attribute "status"
says what it is here. Values are the objective at the trial's best epoch, as everywhere here, of the config that was in
force then; intermediate values are the objective by epoch, as in the other exports. A parameter of a scale that Optuna
has not is on a linear one.
"""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.exports.place import Place
from raytune_hpo.results.curves import times, values_by_epoch
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Float, Int, Parameter
from raytune_hpo.states import Status

OPTUNA = 'needs Optuna: pip install "raytune-hpo[optuna]"'
#: The endings of a file that is an SQLite database; of any other name it is a journal of Optuna's.
DATABASES = (".db", ".sqlite", ".sqlite3")


def write_optuna(results: Results, place: Place) -> None:
    """One study, named as the run's folder. Raises ExperimentError where Optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ExperimentError("--to", "optuna", OPTUNA) from error
    from raytune_hpo.search.optuna_search import quiet

    with quiet():
        storage = _storage(place.path)
        direction = "maximize" if results.mode == "max" else "minimize"
        study = optuna.create_study(storage=storage, study_name=results.run_dir.name, direction=direction)
        study.set_metric_names([results.metric])
        experiment = results.experiment
        for key in ("name", "searcher", "scheduler", "max_epochs", "seed"):
            study.set_user_attr(key, experiment.get(key))
        study.set_user_attr("constants", experiment["space"]["constants"])
        place.headway.begin("reading the journal")
        trials = _trials(results)
        place.headway.begin("values", sum(map(_values, trials)))
        for trial in trials:
            study.add_trial(trial)
            place.headway.made(_values(trial))
    if isinstance(storage, optuna.storages.RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _values(trial: Any) -> int:
    """How much a trial is to write: itself, and what it reported."""
    return 1 + len(trial.params) + len(trial.user_attrs) + len(trial.intermediate_values)


def _storage(target: Path) -> Any:
    from optuna import storages
    from optuna.storages.journal import JournalFileBackend

    if target.suffix in DATABASES:
        return storages.RDBStorage(f"sqlite:///{target.absolute()}")
    return storages.JournalStorage(JournalFileBackend(str(target)))


def _trials(results: Results) -> list[Any]:
    from optuna.trial import TrialState as State
    from optuna.trial import create_trial

    space = SearchSpace.from_json(results.experiment["space"])
    trials = list(results.ledger.trials.values())
    configs = {t.id: space.values(t.best_config or t.config) for t in trials}
    distributions = {
        path: _distribution(parameter, [own[path] for own in configs.values() if path in own])
        for path, parameter in space.parameters.items()
    }
    winner = results.ledger.winner()
    states = {
        Status.COMPLETED: State.COMPLETE,
        Status.STOPPED: State.PRUNED,
        Status.PENDING: State.WAITING,
        Status.RUNNING: State.RUNNING,
        Status.PAUSED: State.RUNNING,
    }
    values, when = values_by_epoch(results), times(results)
    found = []
    for trial in trials:
        state = states.get(trial.status, State.FAIL)
        if state == State.COMPLETE and trial.best is None:
            state = State.FAIL  # it has reported nothing
        if trial is winner and trial.finished:
            state = State.COMPLETE
        params = {path: _plain(value) for path, value in configs[trial.id].items()}
        made = create_trial(
            state=state,
            value=trial.best if state in (State.COMPLETE, State.PRUNED) else None,
            params=params,
            distributions={path: distributions[path] for path in params},
            intermediate_values=values[trial.id],
            user_attrs=_attributes(trial),
        )
        made.datetime_start, made.datetime_complete = map(_local, when[trial.id])
        if not state.is_finished():
            made.datetime_complete = None
        elif made.datetime_complete is None:
            made.datetime_complete = made.datetime_start
        found.append(made)
    return found


def _distribution(parameter: Parameter, seen: list[Any]) -> Any:
    """Of a parameter's own values, and of any that trials had outside its range, which a scheduler may give them."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Float):
        ends = [parameter.low, parameter.high, *seen]
        return FloatDistribution(min(ends), max(ends), log=parameter.scale == "log" and min(ends) > 0)
    if isinstance(parameter, Int):
        numbers = [parameter.low, parameter.high, *seen]
        return IntDistribution(min(numbers), max(numbers), log=parameter.scale != "linear" and min(numbers) > 0)
    options = [_plain(parameter.value_at(i)) for i in range(parameter.n or 0)]
    return CategoricalDistribution(list(dict.fromkeys([*options, *map(_plain, seen)])))


def _plain(value: Any) -> Any:
    """As Optuna takes a category: a list or an object is its text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value, default=str)


def _local(at: float | None) -> datetime.datetime | None:
    return None if at is None else datetime.datetime.fromtimestamp(at)


def _attributes(trial: TrialState) -> dict[str, Any]:
    known = {
        "trial_id": trial.id,
        "status": trial.status.value,
        "reason": trial.reason,
        "best_epoch": trial.best_epoch,
        "epochs": trial.epoch,
        "seconds": round(trial.seconds, 3),
        "error": trial.error,
        "parent": trial.parent,
    }
    metrics = {
        f"best.{name}": value if not isinstance(value, float) or math.isfinite(value) else str(value)
        for name, value in trial.best_metrics.items()
    }
    return {name: value for name, value in (known | metrics).items() if value is not None}
