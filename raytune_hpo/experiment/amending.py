"""Amendments: what of a run's experiment may be changed once it has begun, and what the run is from there on.

    asked {"num_samples": "+64", "space.lr": "Float(1e-5, 1e-2, scale='log')"}
      -> amended(experiment, asked)  -> Amendment: the experiment from here on, its fields that differ, as JSON

The state of an amended run is the one that its new experiment makes of the recorded events: searcher and scheduler are
made anew and told again of everything (`engine.population`). What cannot be kept true by that is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.resolve import check_programs
from raytune_hpo.experiment.resolved import ResolvedExperiment
from raytune_hpo.experiment.written import Experiment
from raytune_hpo.journal.events import Amended
from raytune_hpo.schedulers.rungs import GraceOptions
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import parameter_from_json
from raytune_hpo.space.space import describe
from raytune_hpo.training.task import Task

_ANOTHER = "begin another run with it: raytune-hpo run RUN_DIR --set {}=..."
_OTHERWISE = f"the trials so far were trained otherwise; {_ANOTHER}"
#: Field -> why it stays, and what to do instead.
REFUSED = {
    "task": f"the trials so far are of the task as it was; {_ANOTHER}",
    "metric": f"the trials so far were judged by it; {_ANOTHER}",
    "mode": f"the trials so far were judged by it; {_ANOTHER}",
    "seed": f"the data's split and all that was drawn follow from it; {_ANOTHER}",
    "folds": _OTHERWISE,
    "data_order": _OTHERWISE,
    "hypergradient": _OTHERWISE,
    "lr_range": _OTHERWISE,
    "early_stopping": f"trials that it has ended stay ended, and would be compared with others; {_ANOTHER}",
    "start_points": "they come first: raytune-hpo enqueue RUN_DIR --config '{{...}}' tries a config next",
    "warm_start": "it is read once, as a run begins: raytune-hpo import RUN_DIR --from ... tells it more",
    "name": "the run directory is named after it: rename that",
    "storage": "the run directory lies there: move that",
    "listeners": "they are a session's: raytune-hpo resume RUN_DIR --listen ...",
}
#: Fields that the driver alone reads: trials that run are not disturbed by them.
OF_DRIVER = frozenset(
    {
        *("num_samples", "time_budget_s", "searcher", "scheduler", "stop", "replicate", "max_failures", "fail_fast"),
        *("on_finish", "on_failure"),
    }
)
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"\+?([0-9]+(?:\.[0-9]+)?)(s|m|min|h|d)?")


@dataclass(frozen=True)
class Amendment:
    """experiment: as it is from here on. event: what the journal says of it."""

    experiment: ResolvedExperiment
    event: Amended

    @property
    def of_driver(self) -> bool:
        fixed = isinstance(self.experiment.task, Task) or bool(self.experiment.space.objects)
        return self.event.changes.keys() <= (OF_DRIVER if fixed else {*OF_DRIVER, "space"})

    @property
    def remarks(self) -> list[str]:
        """What people should know of it besides."""
        found = []
        space, task = self.experiment.space, self.experiment.task
        scheduled = "lr_schedule" in space.parameters or space.constants.get("lr_schedule", "constant") != "constant"
        if "max_epochs" in self.event.changes and isinstance(task, Task) and scheduled:
            epochs = self.experiment.max_epochs
            found.append(f"learning-rate schedules are of {epochs} epochs for what is trained from here on")
        if "scheduler" in self.event.changes and "max_epochs" in self.event.changes:
            first = self.event.changes["scheduler"].get("grace_period")
            found += [f"trials are judged from epoch {first} on, as before"] if first is not None else []
        return found


def amended(
    resolved: ResolvedExperiment, asked: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Amendment:
    """asked: path -> value, as of `Experiment.override`; a text "+N" adds to `num_samples`, `max_epochs` and
    `time_budget_s`, which also takes "2h". defaults: what the trials so far have of parameters that are new, where
    the task has no default of its own.

    Raises ExperimentError for what may not change, for what changes nothing, and for what an experiment refuses.
    """
    if not asked:
        raise ExperimentError("amend", {}, "needs at least one FIELD=VALUE, such as num_samples=128")
    for path in asked:
        _check_may_change(path, asked[path])
    before = written(resolved)
    values = {path: _absolute(path, value, resolved) for path, value in asked.items()}
    values |= _kept_rungs(resolved, values)
    if resolved.start_points and any(path.partition(".")[0] == "space" for path in values):
        # Those of the space as it is now; they have been tried, or lie outside.
        space = before.override({**values, "start_points": ()}).resolved.space
        adapted = (space.adapted(point, defaults or {}) for point in resolved.start_points)
        values["start_points"] = [point for point in adapted if point is not None]
    after = before.override(values)
    old, new = before.to_json(), after.to_json()
    changes = {name: new[name] for name in new if new[name] != old[name]}
    for name in changes:
        if name in REFUSED and name not in values:  # a task's own option, say
            _check_may_change(name, next(iter(asked.values())))
    if not changes:
        listed = ", ".join(f"{path}={value}" for path, value in asked.items())
        raise ExperimentError("amend", listed, "changes nothing: the experiment is so already")
    check_programs(changes)
    _check_fits(resolved, after.resolved, changes, asked)
    given = _defaults(resolved, after.resolved, dict(defaults or {}))
    replaced = {name: old[name] for name in changes}
    return Amendment(after.resolved, Amended(_said(asked, old, new), changes, replaced, given))


def amended_space(resolved: ResolvedExperiment, space: SearchSpace) -> Amendment:
    """Of an experiment whose space is what its trials have asked for."""
    after = written(resolved).override({"space": space})
    old, new = resolved.space, space
    met = [path for path in new.parameters if path not in old.parameters]
    asked = f"met: {', '.join(met)}" if met else "met: other ranges or conditions"
    event = Amended(asked, {"space": new.to_json()}, {"space": old.to_json()}, grown=True)
    return Amendment(after.resolved, event)


def written(resolved: ResolvedExperiment) -> Experiment:
    """The experiment whose every field is given, with the objects of this one."""
    given: dict[str, Any] = {"task": resolved.task, "space": resolved.space, "listeners": resolved.listeners}
    if resolved.searcher.is_object:
        given["searcher"] = resolved.searcher.given
    if resolved.scheduler.given is not None:
        given["scheduler"] = resolved.scheduler.given
    return Experiment.from_json(resolved.to_json(), given=given)


def _check_may_change(path: str, value: Any) -> None:
    head = path.partition(".")[0]
    if head in REFUSED:
        raise ExperimentError(f"amend {path}", value, f"stays as it is: {REFUSED[head].format(path)}")


def _absolute(path: str, value: Any, resolved: ResolvedExperiment) -> Any:
    """A value that adds to the present one, as what comes of it."""
    if path == "time_budget_s" and isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if found is None:
            raise ExperimentError(f"amend {path}", value, "must be seconds, or such as 90m, +2h, +1d")
        seconds = float(found[1]) * _SECONDS[found[2] or ""]
        return seconds + (resolved.time_budget_s or 0.0) if value.startswith("+") else seconds
    if path in ("num_samples", "max_epochs") and isinstance(value, str) and re.fullmatch(r"\+?[0-9]+", value):
        return int(value) + (getattr(resolved, path) if value.startswith("+") else 0)
    if isinstance(value, Mapping) and value.keys() == {"parameter"} and path.startswith("space."):
        try:
            return parameter_from_json(value["parameter"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ExperimentError(f"amend {path}", value["parameter"], f"is no parameter: {error}") from None
    return value


def _kept_rungs(resolved: ResolvedExperiment, values: Mapping[str, Any]) -> dict[str, Any]:
    """Trials were judged from an epoch on that follows from max_epochs: it stays where it was."""
    options = resolved.scheduler.options
    epochs = values.get("max_epochs")
    touched = any(path.partition(".")[0] == "scheduler" for path in values)
    if touched or not isinstance(epochs, int) or not isinstance(options, GraceOptions):
        return {}
    first = options.first_rung(resolved.max_epochs)
    return {} if options.grace_period is not None or epochs < first else {"scheduler.grace_period": first}


def _check_fits(
    before: ResolvedExperiment, after: ResolvedExperiment, changes: Mapping[str, Any], asked: Mapping[str, Any]
) -> None:
    old, new = before.scheduler.kind, after.scheduler.kind
    if {"max_epochs", "space"} & changes.keys() and before.searcher.plans_budgets:
        field = "max_epochs" if "max_epochs" in changes else "space"
        expected = (
            f"is what {before.searcher.name} has cut into rounds: begin another run, with the best of this one's box"
        )
        raise ExperimentError(f"amend {field}", asked.get(field, "..."), expected)
    for name, chosen in (("searcher", before.searcher), ("scheduler", before.scheduler)):
        told_again = {"space", "max_epochs", name} & changes.keys()
        if chosen.is_object and told_again:
            expected = (
                f"{name} {chosen.name} is an object, which cannot be told again of what has been: begin another run"
            )
            raise ExperimentError(f"amend {min(told_again)}", asked.get(min(told_again), "..."), expected)
    if (old.is_population, old.is_of_one) != (new.is_population, new.is_of_one):
        expected = f"cannot follow {before.scheduler.name}: begin another run with it"
        raise ExperimentError("amend scheduler", after.scheduler.name, expected)
    if "scheduler" in changes and new.plans_budgets and not new.promotes:
        expected = "plans its brackets from the beginning of a run: begin another run with it"
        raise ExperimentError("amend scheduler", after.scheduler.name, expected)
    if after.searcher.is_object and "searcher" in changes:
        raise ExperimentError(
            "amend searcher", after.searcher.name, "is an object, which was not told of what has been"
        )
    if after.max_epochs < before.max_epochs:
        expected = f"must be above {before.max_epochs}: trials have trained so far already (stop them one by one)"
        raise ExperimentError("amend max_epochs", after.max_epochs, expected)


def _defaults(before: ResolvedExperiment, after: ResolvedExperiment, given: dict[str, Any]) -> dict[str, Any]:
    """What the trials so far have of each parameter that is new."""
    known = {*before.space.parameters, *before.space.constants}
    fresh = [path for path in after.space.parameters if path not in known]
    for path, value in given.items():
        if path not in fresh:
            raise ExperimentError(f"--default {path}", value, "is of no parameter that this amendment adds")
    defaults = {}
    for path in fresh:
        hyperparameters = before.task.hyperparameters() if isinstance(before.task, Task) else {}
        if path not in given and path not in hyperparameters:
            expected = f"is new: say what the trials so far have of it, --default {path}=VALUE"
            raise ExperimentError(f"amend space.{path}", after.space.to_json()["parameters"][path], expected)
        defaults[path] = given[path] if path in given else hyperparameters[path].default
        value, parameter = after.space.recorded(path, defaults[path]), after.space.parameters[path]
        if not parameter.accepts(value):
            raise ExperimentError(f"--default {path}", value, f"must lie in {describe(parameter)}")
    return {path: after.space.recorded(path, value) for path, value in defaults.items()}


def _said(asked: Mapping[str, Any], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """One line: "num_samples 32 -> 64, scheduler.grace_period=3"."""
    plain = (str, int, float, bool, type(None))
    return ", ".join(
        f"{path} {old[path]} -> {new[path]}"
        if path in old and isinstance(old[path], plain) and isinstance(new[path], plain)
        else f"{path}={value}"
        for path, value in asked.items()
    )
