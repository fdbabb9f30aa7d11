"""retest: months later, train a run's best configs and a few fresh samples on today's data and code.

Each retest is a run of its own in RUN_DIR/retest/001, 002, ... (`repeating`), and once it is judged
(`verdicts.retesting`) a line of RUN_DIR/retest/history.jsonl. The test split is never opened.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import CodeChoice, reopened
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.owned import inside
from raytune_hpo.results.results import load_results
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.verdicts.repeating import (
    MAX_CONFIGS,
    MAX_SEEDS,
    begin_or_go_on,
    best_distinct,
    repeated_experiment,
    same_work,
)
from raytune_hpo.verdicts.repetitions import design_of, repeated_configs
from raytune_hpo.verdicts.retesting import (
    Retest,
    changed_versions,
    judge,
    old_configs,
    read_history,
    write_history,
)

RETEST = "retest"
ATTEMPTS = 100
KEPT_TRIALS = 1
"""Nothing is made of a retest's checkpoints once it is finished."""


def retest(
    run_dir: str | Path,
    k: int = 5,
    fresh: int = 5,
    seeds: int = 3,
    *,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    task: Task | FunctionTrainable | None = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    verbose: bool = False,
    headway: Headway = UNSEEN,
) -> Retest | None:
    """Train the k old best configs and `fresh` random samples of the space `seeds` times each, and judge the old one.

    None if it was interrupted. Killed or interrupted, the same call goes on.

    data: in place of the task's option data_dir. changes: of task options, resources and max_concurrent, as of
    `Experiment.override`. task: in place of the recorded one, for tasks defined in a prompt or a notebook. code: as of
    `resume`. headway: told of what follows the training, which listeners see.

    Raises ExperimentError, before anything is started, if the run has fewer distinct configs, is in use, or the changed
    task does not fit the run's configs.
    """
    checks.integer("-k", k, 2, MAX_CONFIGS)
    checks.integer("--fresh", fresh, 1, MAX_CONFIGS)
    checks.integer("--seeds", seeds, 2, MAX_SEEDS)
    here = Path.cwd()
    directory = RunDirectory.open(run_dir)
    description = directory.description()
    directory.lock()
    try:
        results = load_results(directory.path)
        old = old_configs(results, best_distinct(results))[:k]
        if len(old) < k:
            expected = f"the run has {len(old)} distinct configs with a report; -k takes 2 or more of them"
            raise ExperimentError("-k", k, expected)
        with reopened(directory, {"task": task}, code=code) as again:
            experiment = again.say()
            experiment = experiment.override(_changes(experiment, changes or {}, data, here))
            base = inside(directory.path, RETEST)
            history = read_history(base)
            number = _number(base, history)
            configs = [o.config for o in old]
            configs += _samples(experiment.resolved.space, experiment.seed, number, fresh, configs)
            derived = repeated_experiment(experiment, configs, seeds, RETEST, keep_trials=KEPT_TRIALS)
            folder = base / f"{number:03d}"
            _check_same(folder, derived)
            repeated = begin_or_go_on(
                folder, derived, again=again, task=task, address=address, listeners=listeners, verbose=verbose
            )
            if repeated.status != "finished":
                return None
            headway.begin("judging the repetitions")
            runnable = derived.resolved.task
            loaded = derived.resolved.recipe().load() if isinstance(runnable, Task) else None
            design, notice = design_of(derived.resolved, loaded)
            made = judge(
                results,
                number,
                old,
                repeated_configs(repeated),
                mode=derived.resolved.objective.mode,
                seeds=seeds,
                design=design,
                changes=changed_versions(description, RunDirectory.open(folder).description()),
                notices=() if notice is None else (notice,),
            )
            history.append(made.line(time.strftime("%Y-%m-%dT%H:%M:%S%z")))
            write_history(base, history)
            return replace(made, history=tuple(history))
    except OSError as error:
        raise ExperimentError("storage", error.filename or str(directory.path), str(error.strerror or error)) from error
    finally:
        directory.unlock()


def _changes(experiment: Experiment, changes: Mapping[str, Any], data: str | None, here: Path) -> dict[str, Any]:
    """`changes` with --data, a path from `here`. Raises ExperimentError for what a retest may not change."""
    task = experiment.resolved.task
    options = task.options() if isinstance(task, Task) else {}
    for key, value in changes.items():
        allowed = key in options or key == "max_concurrent" or key.startswith(("task.", "resources."))
        if not allowed:
            expected = "a retest changes a task's options, resources.* and max_concurrent alone: the rest is the run's"
            raise ExperimentError(f"--set {key}", value, expected)
    if data is None:
        return dict(changes)
    if "data_dir" not in options:
        listed = f"; its options: {', '.join(options)} (--set)" if options else ""
        raise ExperimentError("--data", data, f"this run's task has no option data_dir{listed}")
    if {"data_dir", "task.data_dir"} & set(changes):
        raise ExperimentError("--data", data, "data_dir is set twice")
    return {**changes, "data_dir": str(here / data)}


_NUMBER = re.compile(r"[0-9]{3,6}")


def _number(base: Path, history: list[dict[str, Any]]) -> int:
    """Of the retest to go on with, or of a new one."""
    judged = {line["number"] for line in history}
    begun = {int(p.name) for p in base.iterdir() if _NUMBER.fullmatch(p.name)} if base.is_dir() else set()
    unfinished = begun - judged
    return max(unfinished) if unfinished else 1 + max(judged, default=0)


def _samples(space: SearchSpace, seed: int, number: int, wanted: int, known: list[Config]) -> list[Config]:
    """Random configs of the space that are not known; fewer where it has no more."""
    keys = {config_key(c) for c in known}
    found: list[Config] = []
    for attempt in range(ATTEMPTS * wanted):
        config = space.sample(generator(seed, "retest", number, attempt))
        if config_key(config) not in keys:
            keys.add(config_key(config))
            found.append(config)
        if len(found) == wanted:
            break
    if not found:
        raise ExperimentError("--fresh", wanted, "the space has no other config than the old best")
    return found


def _check_same(folder: Path, derived: Experiment) -> None:
    """Raise ExperimentError if other work was begun there."""
    if not (folder / DESCRIPTION).is_file():
        return
    if not same_work(RunDirectory.open(folder).description()["experiment"], derived):
        expected = "was begun with other options or data and is not finished: repeat that command, or delete the folder"
        raise ExperimentError("retest", str(folder), expected)
