"""Experiment files and the overrides of their fields: what `raytune-hpo run FILE --set FIELD=VALUE` reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.reference import load_module
from raytune_hpo.space import SearchSpace
from raytune_hpo.tasks import task_by_name
from raytune_hpo.training.task import Task

#: Fields that are records: "searcher.n_initial" sets one of theirs.
RECORDS = ("searcher", "scheduler", "resources", "stop", "checkpoint", "early_stopping")


def load_experiment(path: str | Path) -> Experiment:
    """The Experiment that a Python file builds: its only one, or the one named `experiment`.

    Raises ExperimentError where the file is missing, fails, or holds none or several.
    """
    module = load_module(Path(path))
    found = {name: value for name, value in vars(module).items() if isinstance(value, Experiment)}
    if isinstance(found.get("experiment"), Experiment):
        return found["experiment"]
    if len(set(map(id, found.values()))) != 1:
        has = f"it has {len(found)}: {', '.join(found)}" if found else "it has none"
        raise ExperimentError(
            "experiment file", str(path), f"must build one Experiment, or name one of them 'experiment'; {has}"
        )
    return next(iter(found.values()))


def parse_value(text: str) -> Any:
    """A value of --set: JSON where it parses as such (also True, False, None), text otherwise."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except (ValueError, RecursionError):
        return text


def changed_fields(experiment: Experiment, given: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that `changes` replaces, path -> value as `Experiment.override` takes them.

    given: the fields as the user wrote them, before defaults. Raises ExperimentError for an unknown path.
    """
    fields = [f.name for f in dataclasses.fields(experiment)]
    values: dict[str, Any] = {}
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        task = values.get("task", experiment.task)
        task = task_by_name(task) if isinstance(task, str) else task
        if head == "task" and rest:
            values["task"] = _with_task_option(task, rest, value)
        elif head == "space" and rest:
            space = values.get("space", experiment.search_space)
            space = space if isinstance(space, SearchSpace) else SearchSpace(space)
            values["space"] = space.with_constant(rest, value)
        elif rest and head in RECORDS:
            values[head] = {**_as_dict(values.get(head, given[head])), rest: value}
        elif key in fields:
            values[key] = value
        elif isinstance(task, Task) and key in task.options():
            values["task"] = _with_task_option(task, key, value)
        else:
            names = [*fields, *(task.options() if isinstance(task, Task) else ())]
            raise ExperimentError(f"--set {key}", value, checks.no_such("field", key, names))
    return values


def _with_task_option(task: Any, option: str, value: Any) -> Task:
    if not isinstance(task, Task):
        raise ExperimentError(f"--set task.{option}", value, "a function trainable has no options; set space.NAME")
    if option not in task.options():
        raise ExperimentError(f"--set task.{option}", value, checks.no_such("option", option, task.options()))
    return dataclasses.replace(task, **{option: value})


def _as_dict(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"name": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value or {})
