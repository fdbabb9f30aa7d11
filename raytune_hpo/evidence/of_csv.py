"""The rows of a table: a column a hyperparameter, one of the metric, one of the epoch where there are several a trial.

    lr,momentum,validation_loss                    a trial a row
    trial,epoch,lr,momentum,validation_loss        an epoch a row

Columns that other tools name config.lr, config/lr, params_lr, params.lr, metrics.NAME or summary.NAME are found, too.
"""

from __future__ import annotations

import math
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


def read(place: str, source: str, objective: Objective) -> Records:
    path = Path(place).expanduser()
    if not path.is_file():
        raise ExperimentError("--from", source, "no such file")
    if path.stat().st_size > MOST_BYTES:
        raise ExperimentError("--from", source, "is too large for a table of trials (1 GiB at most)")
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (OSError, ValueError, UnicodeError) as error:  # (pandas' own are ValueErrors)
        raise unreadable(source, error) from error
    table.columns = [str(name) for name in table.columns]
    names = [objective.metric, *(prefix + objective.metric for prefix in OF_METRIC)]
    metric = next((name for name in names if name in table), None)
    if metric is None:
        raise no_metric(source, objective.metric, table.select_dtypes("number").columns)
    epoch = next((name for name in EPOCHS if name in table and name != metric), None)
    trial = next((name for name in TRIALS if name in table and name != metric), None)
    found = Records(source)
    groups: dict[Any, tuple[dict[str, Any], dict[int, float]]] = {}
    for number, row in enumerate(table.to_dict("records")):
        key = number if trial is None or epoch is None else row[trial]
        values, curve = groups.setdefault(key, ({}, {}))
        values.update({_name(str(name)): _value(v) for name, v in row.items() if name != metric and not _is_missing(v)})
        at = 1 if epoch is None or _is_missing(row[epoch]) else row[epoch]
        if not isinstance(at, int | float) or at != int(at) or at < 0:
            raise ExperimentError("--from", source, f"line {number + 2}: {epoch} = {at!r} is no epoch")
        value = row[metric]
        if not _is_missing(value) and not isinstance(value, int | float):
            raise ExperimentError("--from", source, f"line {number + 2}: {metric} = {value!r} is no number")
        curve[int(at)] = float(value)
    for values, curve in groups.values():
        first = min(curve)
        shifted = {e + (first == 0): value for e, value in sorted(curve.items())}
        if all(map(math.isnan, shifted.values())):
            found.without["has no value"] += 1
        else:
            found.trials.append(Record(values, shifted))
    return found


def _name(column: str) -> str:
    prefix = next((p for p in OF_CONFIG if column.startswith(p)), "")
    return column[len(prefix) :].replace("/", ".")


def _value(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
