"""The trials of another run of ours, finished or not."""

from __future__ import annotations

import math
from collections.abc import Collection

from raytune_hpo.evidence.records import Record, Records, no_metric
from raytune_hpo.journal.events import Reported
from raytune_hpo.objective import Objective
from raytune_hpo.results.results import load_results
from raytune_hpo.space.configs import flatten


def read(place: str, source: str, objective: Objective, names: Collection[str] = ()) -> Records:
    """Of a trial whose config changed while it trained: the one of its best epoch, and what it has shown under all."""
    results = load_results(place)
    curves: dict[str, dict[int, float]] = {}
    reported: set[str] = set()
    for event in results.of(Reported):
        reported.update(event.metrics)
        value = event.metrics.get(objective.metric)
        if isinstance(value, int | float):
            curves.setdefault(event.trial, {})[event.epoch] = float(value)
        elif objective.metric in event.metrics:
            curves.setdefault(event.trial, {})[event.epoch] = math.nan
    if results.ledger.trials and not curves:
        raise no_metric(source, objective.metric, reported)
    found = Records(source)
    for trial in results.ledger.trials.values():
        if trial.replicate_of is not None:
            found.without["trained one of the others again"] += 1
        elif trial.id not in curves:
            found.without["reported nothing"] += 1
        else:
            config = trial.best_config or trial.config
            found.trials.append(Record(flatten(config), dict(sorted(curves[trial.id].items()))))
    return found
