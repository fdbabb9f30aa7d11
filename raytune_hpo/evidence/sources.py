"""Which reader a text names."""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection
from pathlib import Path

from raytune_hpo.errors import ExperimentError
from raytune_hpo.evidence.records import Records
from raytune_hpo.objective import Objective

#: prefix -> module, whose `read(place, source, objective)` answers Records.
READERS = {"run": "of_run", "optuna": "of_optuna", "ray": "of_ray", "csv": "of_csv"}
FORMS = "RUN_DIR, optuna:URL#STUDY, ray:FOLDER or a .csv file"


def read(source: str, objective: Objective, names: Collection[str] = ()) -> Records:
    """The trials of `source`: a run directory, "optuna:sqlite:///x.db#study" (the study may be left out where there is
    one), "ray:FOLDER" of Ray Tune's results, or a table "runs.csv". objective: the metric that is looked up there, and
    which way is better. names: of the hyperparameters that are looked for, so that a table's column of such a name is
    one.

    Raises ExperimentError where it cannot be read, or knows no such metric.
    """
    if not isinstance(source, str) or not source:
        raise ExperimentError("--from", source, f"must be {FORMS}")
    prefix, _, place = source.partition(":")
    if prefix not in READERS or not place:
        prefix, place = ("csv" if source.lower().endswith(".csv") else "run"), source
    if prefix == "run" and not Path(place).is_dir():
        raise ExperimentError("--from", source, f"is no folder: must be {FORMS}")
    reader = importlib.import_module(f"raytune_hpo.evidence.{READERS[prefix]}")
    found: Records = reader.read(place, source, objective, names)
    found.source = _one_name(prefix, place)
    return found


def _one_name(prefix: str, place: str) -> str:
    """The same for the same source, however it was named."""
    if prefix == "optuna":
        return f"optuna:{place}"
    path = os.path.realpath(os.path.expanduser(place))
    return f"{prefix}:{path}" if prefix == "ray" else path
