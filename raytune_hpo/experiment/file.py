"""Experiment files: what `raytune-hpo run FILE` reads, and the experiments of runs that were begun."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.chosen import OBJECT
from raytune_hpo.experiment.references import FILE_MODULE_PREFIX, import_first, load_module
from raytune_hpo.experiment.written import Experiment
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory


def load_experiment(path: str | Path) -> Experiment:
    """The Experiment that a Python file builds: its only one, or the one named `experiment`.

    A run directory, or the experiment.json in it, gives the experiment of that run.
    Raises ExperimentError where the file is missing, fails, or holds none or several.
    """
    path = Path(path)
    if path.is_dir() and not (path / DESCRIPTION).is_file():
        raise ExperimentError("experiment file", str(path), "must be a Python file (.py), or a run directory")
    if path.is_dir() or path.name == DESCRIPTION:
        directory = RunDirectory.open(path if path.is_dir() else path.parent)
        return written_again(directory, {})
    module = load_module(path)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Experiment)}
    if isinstance(found.get("experiment"), Experiment):
        return found["experiment"]
    if len(set(map(id, found.values()))) != 1:
        has = f"it has {len(found)}: {', '.join(found)}" if found else "it has none"
        raise ExperimentError(
            "experiment file", str(path), f"must build one Experiment, or name one of them 'experiment'; {has}"
        )
    return next(iter(found.values()))


def written_again(directory: RunDirectory, given: Mapping[str, Any]) -> Experiment:
    """The run's experiment. What was an object in it, and is not `given`, the experiment file in the run makes anew.

    Raises ExperimentError where that cannot be.
    """
    recorded = directory.description()["experiment"]
    given = {name: value for name, value in given.items() if value is not None}
    objects = [name for name in ("searcher", "scheduler") if recorded[name]["name"] == OBJECT]
    objects += ["task"] if "made" in recorded["task"] else []
    objects += ["listeners"] if recorded.get("listeners") else []
    missing = [name for name in objects if name not in given]
    file = directory.entry
    if file is not None:
        import_first(str(file.parent))  # what is named by its module may stand beside it
    made = None
    if missing and file is not None:
        try:
            made = load_experiment(file)
        except ExperimentError as error:
            if missing != ["listeners"]:
                raise
            # Listeners follow a run; that they cannot be made again is no reason not to go on with it.
            print(f"raytune-hpo: without the experiment's listeners: {error}", file=sys.stderr)
    if made is not None:
        given.update((name, getattr(made, name)) for name in missing)
        for name in ("searcher", "scheduler"):
            _check_same(name, recorded[name], getattr(made.resolved, name).described if name in missing else None)
    return Experiment.from_json(recorded, source=directory.source, given=given)


def _check_same(name: str, recorded: Mapping[str, Any], found: str | None) -> None:
    if found is not None and _same_file(found) != _same_file(recorded["class"]):
        expected = f"is what the experiment file makes now; the run was begun with {recorded['class']}"
        raise ExperimentError(name, found or "a name", expected)


def _same_file(described: str) -> str:
    """A class's description, in which a script run by itself and the same one loaded by name are one."""
    module, _, name = described.partition(":")
    return name if module == "__main__" or module.startswith(FILE_MODULE_PREFIX) else described


def parse_value(text: str) -> Any:
    """A value of --set: JSON where it parses as such (also True, False, None), text otherwise."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except (ValueError, RecursionError):
        return text
