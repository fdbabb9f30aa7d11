"""The rows of a table: a column a hyperparameter, one of the metric, one of the epoch where there are several a trial.

    lr,momentum,validation_loss                    a trial a row
    trial,epoch,lr,momentum,validation_loss        an epoch a row

Columns that other tools name config.lr, config/lr, params_lr, params.lr, metrics.NAME or summary.NAME are found, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.evidence.records import Record, Records, no_metric, unreadable
from raytune_hpo.objective import Objective

OF_CONFIG = ("config.", "config/", "params_", "params.", "param_")
OF_METRIC = ("metrics.", "metrics/", "summary.", "summary/")
EPOCHS = ("epoch", "training_iteration", "step")
TRIALS = ("trial", "trial_id", "run", "run_id", "id", "ID", "number")
MOST_BYTES = 1 << 30
NO_NUMBER = ("", "nan", "na", "n/a", "none", "null")


def read(place: str, source: str, objective: Objective, names: Collection[str] = ()) -> Records:
    path = Path(place).expanduser()
    if not path.is_file():
        raise ExperimentError("--from", source, "no such file")
    if path.stat().st_size > MOST_BYTES:
        raise ExperimentError("--from", source, "is too large for a table of trials (1 GiB at most)")
    import pandas as pd

    try:
        # As text: "None" and "NA" may be options of a Choice, and what a number is says the space.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeError) as error:  # (pandas' own are ValueErrors)
        raise unreadable(source, error) from error
    columns = [str(name) for name in table.columns]
    table.columns = columns
    wanted = [objective.metric, *(prefix + objective.metric for prefix in OF_METRIC)]
    metric = next((name for name in wanted if name in columns), None)
    if metric is None:
        raise no_metric(source, objective.metric, columns)
    own = {metric, *names, *(name.rpartition(".")[2] for name in names)}
    epoch = next((name for name in EPOCHS if name in columns and name not in own), None)
    trial = next((name for name in TRIALS if name in columns and name not in own), None)
    found = Records(source)
    groups: dict[Any, tuple[dict[str, Any], dict[int, float]]] = {}
    for number, row in enumerate(table.to_dict("records")):
        key = number if trial is None or epoch is None else row[trial]
        values, curve = groups.setdefault(key, ({}, {}))
        told = {_name(str(name)): text for name, text in row.items() if text != "" and name not in (metric, epoch)}
        values.update(told)
        at = 1 if epoch is None or row[epoch] == "" else _epoch(row[epoch], f"line {number + 2}: {epoch}", source)
        curve[at] = _number(row[metric], f"line {number + 2}: {metric}", source)
    for values, curve in groups.values():
        shifted = {e + (min(curve) == 0): value for e, value in sorted(curve.items())}
        if all(map(math.isnan, shifted.values())):
            found.without["has no value"] += 1
        else:
            found.trials.append(Record(values, shifted))
    return found


def _epoch(text: str, where: str, source: str) -> int:
    try:
        epoch = float(text)
    except ValueError:
        epoch = math.nan
    if not math.isfinite(epoch) or epoch != int(epoch) or not 0 <= epoch < 1e9:
        raise ExperimentError("--from", source, f"{where} = {text!r} is no epoch")
    return int(epoch)


def _number(text: str, where: str, source: str) -> float:
    if text.strip().lower() in NO_NUMBER:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise ExperimentError("--from", source, f"{where} = {text!r} is no number") from None


def _name(column: str) -> str:
    prefix = next((p for p in OF_CONFIG if column.startswith(p)), "")
    return column[len(prefix) :].replace("/", ".")
