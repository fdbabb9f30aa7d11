"""retry: go on with a run after trying its failed trials again, once what made them fail is mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.engine.run import go_on
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import CodeChoice
from raytune_hpo.results.results import Results
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import Status
from raytune_hpo.training.task import Task


def retry(
    run_dir: str | Path,
    trials: Sequence[str] | None = None,
    *,
    task: Task | FunctionTrainable | None = None,
    space: SearchSpace | Mapping[str, Any] | None = None,
    searcher: Any = None,
    scheduler: Any = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    verbose: bool = False,
) -> Results:
    """Try failed trials of an interrupted or finished run again, and go on with the run, as `resume` does.

    trials: which; None for all that failed. Each goes on from its newest checkpoint, if one is left, and its failures
    count from 0. The rest as of `resume`. The winner's test split stays as it was opened, if it was.
    Raises ExperimentError, before anything is started, for a trial that is not there or has not failed.
    """
    given = {"task": task, "space": space, "searcher": searcher, "scheduler": scheduler}
    named = [trials] if isinstance(trials, str) else trials
    return go_on(run_dir, given, code, address, listeners, verbose, reopen=lambda results: to_reopen(results, named))


def to_reopen(results: Results, named: Sequence[str] | None) -> list[str]:
    """The trials to try again. Raises ExperimentError."""
    where, known = str(results.run_dir), results.ledger.trials
    for trial_id in named or ():
        if trial_id not in known:
            there = f"there are {next(iter(known))} to {next(reversed(known))}" if known else "there is none"
            raise ExperimentError("trial", trial_id, f"no such trial in this run; {there}")
        status = known[trial_id].status
        if status != Status.FAILED:
            raise ExperimentError("trial", trial_id, f"is {status}: what can be tried again are trials that failed")
    found = [t.id for t in known.values() if t.status == Status.FAILED and (named is None or t.id in named)]
    if not found:
        raise ExperimentError("run directory", where, "has no failed trial to try again")
    if results.stop_reason is not None:
        expected = f"was stopped ({results.stop_reason}): none of its trials is continued"
        raise ExperimentError("run directory", where, expected)
    return found
