"""Overrides of an experiment's fields: the paths of `--set FIELD=VALUE` and of `Experiment.override`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.space.spelled import is_spelled, spelled
from raytune_hpo.tasks import task_by_name
from raytune_hpo.training.task import Task

#: Fields that are records: "searcher.n_initial" sets one of theirs.
RECORDS = ("searcher", "scheduler", "resources", "stop", "checkpoint", "early_stopping", "hypergradient")


def changed_fields(
    given: Mapping[str, Any], changes: Mapping[str, Any], *, task: Any, space: SearchSpace
) -> dict[str, Any]:
    """The fields that `changes` (path -> value) replaces.

    given: every field of an experiment as the user wrote it, before defaults. task, space: the experiment's,
    checked. Raises ExperimentError for an unknown path.
    """
    values: dict[str, Any] = {}
    experiment_task, experiment_space = task, space
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        task = values.get("task", experiment_task)
        task = task_by_name(task) if isinstance(task, str) else task
        if head == "task" and rest:
            values["task"] = _with_task_option(task, rest, value)
        elif head == "space" and rest:
            space = values.get("space", experiment_space)
            space = space if isinstance(space, SearchSpace) else SearchSpace(space)
            if isinstance(value, Parameter) or (isinstance(value, str) and is_spelled(value)):
                parameter = value if isinstance(value, Parameter) else spelled(key, value)
                values["space"] = space.with_parameter(rest, parameter)
            else:
                values["space"] = space.with_constant(rest, value)
        elif rest and head in RECORDS:
            values[head] = {**_as_dict(head, values.get(head, given[head])), rest: value}
        elif key in given:
            values[key] = value
        elif isinstance(task, Task) and key in task.options():
            values["task"] = _with_task_option(task, key, value)
        else:
            names = [*given, *(task.options() if isinstance(task, Task) else ())]
            raise ExperimentError(f"--set {key}", value, checks.no_such("field", key, names))
    return values


def _with_task_option(task: Any, option: str, value: Any) -> Task:
    if not isinstance(task, Task):
        raise ExperimentError(f"--set task.{option}", value, "a function trainable has no options; set space.NAME")
    if option not in task.options():
        raise ExperimentError(f"--set task.{option}", value, checks.no_such("option", option, task.options()))
    return dataclasses.replace(task, **{option: value})


def _as_dict(field: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str | type):
        return {"name": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if value is not None and not isinstance(value, Mapping):
        raise ExperimentError(f"--set {field}", value, "is an object, whose options are its own")
    return dict(value or {})
