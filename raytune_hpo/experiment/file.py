"""Experiment files: what `raytune-hpo run FILE` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.loading import load_module
from raytune_hpo.experiment.written import Experiment
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory


def load_experiment(path: str | Path) -> Experiment:
    """The Experiment that a Python file builds: its only one, or the one named `experiment`.

    A run directory, or the experiment.json in it, gives the experiment of that run: by today's code, or the run's copy
    of it where some of that is gone.
    Raises ExperimentError where the file is missing, fails, or holds none or several.
    """
    path = Path(path)
    if path.is_dir() and not (path / DESCRIPTION).is_file():
        raise ExperimentError("experiment file", str(path), "must be a Python file (.py), or a run directory")
    if path.is_dir() or path.name == DESCRIPTION:
        from raytune_hpo.experiment.reopened import written_again

        return written_again(RunDirectory.open(path if path.is_dir() else path.parent))
    return experiment_in(path)


def experiment_in(path: Path) -> Experiment:
    """As `load_experiment`, of a Python file."""
    found = {name: value for name, value in vars(load_module(path)).items() if isinstance(value, Experiment)}
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
