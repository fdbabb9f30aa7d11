"""The trials of a folder of Ray Tune's: params.json and result.json of each trial. Its pickles are not opened."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.evidence.records import Record, Records, no_metric, unreadable
from raytune_hpo.objective import Objective
from raytune_hpo.space.configs import flatten

PARAMS, RESULTS = "params.json", "result.json"
EPOCH = "training_iteration"
#: What Ray adds to every result.
OF_RAY = (
    EPOCH,
    "iterations_since_restore",
    "pid",
    "time_since_restore",
    "time_this_iter_s",
    "time_total_s",
    "timestamp",
)


def read(place: str, source: str, objective: Objective, names: Collection[str] = ()) -> Records:
    """place: the folder of an experiment, or one that holds a single such."""
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise ExperimentError("--from", source, "is no folder")
    trials = list(_trials(folder))
    if not trials:
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(_trials(path))]
        if len(inner) > 1:
            names = ", ".join(path.name for path in inner[:8])
            raise ExperimentError("--from", source, f"holds several experiments: name one of them: {names}")
        trials = [trial for path in inner for trial in _trials(path)]
    if not trials:
        raise ExperimentError("--from", source, f"holds no trial of Ray Tune's (a folder with {PARAMS})")
    found, names_there = Records(source), set[str]()
    for trial in trials:
        try:
            values = flatten(json.loads((trial / PARAMS).read_text()))
            rows = list(_rows(trial / RESULTS))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise unreadable(f"{source}, {trial.name}", error) from error
        curve: dict[int, float] = {}
        for number, row in enumerate(rows, 1):
            numbers = (name for name, v in row.items() if isinstance(v, int | float) and not isinstance(v, bool))
            names_there.update(n for n in numbers if "." not in n and not n.startswith("config/") and n not in OF_RAY)
            if objective.metric in row:
                epoch = row.get(EPOCH, number)
                curve[epoch if isinstance(epoch, int) and epoch > 0 else number] = _number(row[objective.metric])
        if curve:
            found.trials.append(Record(values, dict(sorted(curve.items()))))
        else:
            found.without["reported nothing" if not rows else f"reported no {objective.metric}"] += 1
    if not found.trials and names_there:
        raise no_metric(source, objective.metric, names_there)
    return found


def _trials(folder: Path) -> Iterator[Path]:
    return (path.parent for path in sorted(folder.glob(f"*/{PARAMS}")))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Nested names dotted; Ray's own name of one, a/b, means the same."""
    if not path.is_file():
        return
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the last line of a process that was killed
        if isinstance(row, dict):
            flat = flatten(row)
            yield {**{name.replace(".", "/"): value for name, value in flat.items()}, **flat}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
