"""All parts together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.advice import advice
from raytune_hpo.results.facts.course import best_so_far, rungs
from raytune_hpo.results.facts.curves import shown_curves
from raytune_hpo.results.facts.family import family
from raytune_hpo.results.facts.run import best, cost, failures, run, warnings
from raytune_hpo.results.facts.timeline import timeline
from raytune_hpo.results.importance import importance
from raytune_hpo.results.ped_anova import ped_anova
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState

Facts = dict[str, Any]


def facts(results: Results) -> Facts:
    """Parts by name. A part that a damaged file hides is {"damaged": why}."""
    times = timeline(results)
    found: Facts = strict(
        {
            "run": run(results),
            "best": best(results),
            "cost": cost(results, times),
            "space": results.experiment["space"],
            "trials": trials(results),
            "rounds": whole(lambda: results.rounds),
            "curves": shown_curves(results),
            "best_so_far": best_so_far(results),
            "importance": {**importance(results).to_json(), "ped_anova": ped_anova(results)},
            "rungs": rungs(results),
            "lineage": family(results),
            "timeline": times,
            "failures": failures(results),
            "warnings": warnings(results),
            "advice": [one.to_json() for one in advice(results)],
        }
    )
    return found


def trials(results: Results) -> list[dict[str, Any]]:
    """The rows of `Results.rows`; best_config: the config of the best epoch, where it has changed since."""
    return [trial_row(results, trial) for trial in results.ledger.trials.values()]


def trial_row(results: Results, trial: TrialState) -> dict[str, Any]:
    row = results.row(trial)
    if trial.best_config and trial.best_config != trial.config:
        row["best_config"] = trial.best_config
    return row


def whole(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except ExperimentError as error:
        return {"damaged": str(error)}


def strict(value: Any) -> Any:
    """Plain JSON data: what is not finite is None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): strict(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [strict(own) for own in value]
    return value
