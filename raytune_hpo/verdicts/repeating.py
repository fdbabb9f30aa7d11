"""Repeating configs of a run: an experiment derived from its own, in a run directory within its directory.

That is a complete run directory, so a repetition that was killed goes on like any run: by the command that
began it, or by `raytune-hpo resume RUN_DIR/confirm`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.engine.run import resume, run
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import Reopened
from raytune_hpo.listeners.listener import Listener
from raytune_hpo.owned import inside
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.settings import StopRun
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory
from raytune_hpo.training.task import Task

MAX_CONFIGS, MAX_SEEDS = 100, 1000


def repeated_experiment(
    experiment: Experiment, configs: Sequence[Config], seeds: int, purpose: str, *, keep_trials: int | None
) -> Experiment:
    """`experiment` with these configs, each trained `seeds` times, in place of its search.

    Every trial may run to max_epochs: no scheduler, no budget and no target stops it, only the experiment's early
    stopping. The seed stays, since the test split depends on it; the repetitions have training seeds and splits
    of their own (`search.algorithm.Plan.repeat`).
    """
    kept = experiment.resolved.checkpoint
    checkpoint = {"every": kept.every, "keep": kept.keep}
    return experiment.override(
        {
            "name": f"{experiment.name[:90]}-{purpose}",
            "searcher": {"name": "repeat", "repeats": seeds},
            "scheduler": "fifo",
            "listeners": (),  # the search's own
            "on_finish": None,
            "on_failure": None,
            "start_points": [dict(c) for c in configs],
            "warm_start": (),
            "num_samples": None,
            "time_budget_s": None,
            "stop": StopRun(),
            "replicate": 0,
            "lr_range": None,  # the configs hold the rates that it gave
            "checkpoint": {**checkpoint, "keep_trials": keep_trials},
        }
    )


def best_distinct(results: Results) -> list[TrialState]:
    """The trials that may win, the best first, without those whose config a better one had."""
    if results.experiment["searcher"]["name"] == "repeat":
        expected = "repeats configs that were given: nothing was selected in it; name the run that they come from"
        raise ExperimentError("run directory", str(results.run_dir), expected)
    found: dict[str, TrialState] = {}
    for trial in results.top(len(results.ledger.trials)):
        found.setdefault(config_key(trial.best_config), trial)
    return list(found.values())


def same_work(recorded: dict[str, Any], experiment: Experiment) -> bool:
    """Whether a recorded experiment trains the same configs as often, as long and on the same data."""
    wanted = json.loads(json.dumps(experiment.to_json()))

    def work(e: dict[str, Any]) -> list[Any]:
        fields = ("searcher", "start_points", "seed", "max_epochs", "metric")
        return [*(e[name] for name in fields), e.get("folds"), e["task"].get("options")]

    return work(recorded) == work(wanted)


def begin_or_go_on(
    path: Path,
    experiment: Experiment,
    *,
    again: Reopened,
    task: Task | FunctionTrainable | None,
    address: str | None,
    listeners: Sequence[Listener],
    verbose: bool,
) -> Results:
    """Run `experiment` in `path`, or go on with what was begun there. again: the run that its configs come from.

    Raises ExperimentError if its trials fail alike.
    """
    inside(path.parent, path.name)
    if (path / DESCRIPTION).is_file():
        results = resume(path, task=task, address=address, listeners=listeners, verbose=verbose)
    else:
        RunDirectory(path).clear_begun()
        results = run(experiment, path, code=again.code, address=address, listeners=listeners, verbose=verbose)
    if results.close_reason is not None:
        expected = f"stopped: {results.close_reason}; once that is mended, raytune-hpo retry tries them again there"
        raise ExperimentError("repetitions", str(path), expected)
    return results
