"""From an experiment as written to an experiment as resolved: every check, and every default that depends on others.

A wrong value is one ExperimentError that names the field, the value and what would be right, before any process starts.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.automatic import is_auto, scheduler_for, searcher_for
from raytune_hpo.experiment.checking import (
    check_folds,
    check_moving_rates,
    check_space_fits,
    checked_objective,
    checked_plateau,
    checked_task,
    is_class_trainable,
    wished_resources,
)
from raytune_hpo.experiment.chosen import ChosenScheduler, ChosenSearcher, chosen_scheduler, chosen_searcher
from raytune_hpo.experiment.resolved import EXECUTORS, ResolvedExperiment
from raytune_hpo.listeners.registry import check_listeners
from raytune_hpo.objective import Objective
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun, record
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.recipe import DATA_ORDERS
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.experiment.written import Experiment

MOST_REPLICATED = 100
DEFAULT_SAMPLES = 64
MOST = 10**9  # trials, epochs of one
MOST_POPULATION = 100_000


def resolve(written: Experiment) -> ResolvedExperiment:
    """Raises ExperimentError for any value that cannot work."""
    _check_scalars(written)
    task = checked_task(written.task)
    space = written.space if isinstance(written.space, SearchSpace) else SearchSpace(written.space)
    space.check_known()
    check_space_fits(task, space)
    objective = checked_objective(task, written.metric, written.mode)
    if objective.metric in ("epoch", "training_iteration"):
        expected = "is what schedulers count reports by: report the objective under another name"
        raise ExperimentError("metric", objective.metric, expected)
    plateau = written.early_stopping
    if plateau is not None:
        plateau = checked_plateau(task, record("early_stopping", EarlyStopping, plateau), objective)
    check_folds(task, written.folds)
    moving = written.hypergradient
    if moving is not None:
        moving = record("hypergradient", Hypergradient, moving)
    check_moving_rates(task, space, moving, written.lr_range)
    structural = task.structural_hyperparameters() if isinstance(task, Task) else None
    named = searcher_for(space, written.scheduler) if is_auto("searcher", written.searcher) else written.searcher
    searcher = chosen_searcher(named)
    by_name = (
        scheduler_for(searcher, written.max_epochs) if is_auto("scheduler", written.scheduler) else written.scheduler
    )
    scheduler = chosen_scheduler(
        by_name, space=space, objective=objective, max_epochs=written.max_epochs, structural=structural
    )
    _check_budgets(searcher, scheduler, written.max_epochs)
    keeping = record("checkpoint", Checkpointing, written.checkpoint)
    _check_replicate(written.replicate, searcher, scheduler, keeping)
    start_points = _start_points(written.start_points, space)
    resolved = ResolvedExperiment(
        name=written.name,
        task=task.with_objects(space.objects) if isinstance(task, Task) else task,
        space=space,
        objective=objective,
        searcher=searcher,
        scheduler=scheduler,
        num_samples=_samples(written, searcher, scheduler, space, objective, start_points),
        max_epochs=written.max_epochs,
        seed=written.seed,
        executor=written.executor,
        resources=_resources(task, written.resources),
        max_concurrent=written.max_concurrent,
        time_budget_s=written.time_budget_s,
        early_stopping=plateau,
        stop=record("stop", StopRun, written.stop),
        replicate=written.replicate,
        checkpoint=keeping,
        max_failures=written.max_failures,
        fail_fast=written.fail_fast,
        report_timeout_s=written.report_timeout_s,
        trial_timeout_s=written.trial_timeout_s,
        fresh_workers=written.fresh_workers,
        storage=_storage(written.storage),
        start_points=start_points,
        warm_start=_warm_start(written.warm_start),
        folds=written.folds,
        hypergradient=moving,
        lr_range=written.lr_range,
        data_order=written.data_order,
        on_finish=_command("on_finish", written.on_finish),
        on_failure=_command("on_failure", written.on_failure),
        listeners=check_listeners("listeners", written.listeners),
    )
    if written.executor == "lanes" and resolved.lanes_refusal is not None:
        raise ExperimentError("executor", "lanes", f"{resolved.lanes_refusal}; use processes or auto")
    if resolved.resources.strategy is not None:
        _check_ranks(resolved)
    return resolved


def _check_ranks(experiment: ResolvedExperiment) -> None:
    """Raise ExperimentError where a trial cannot be several processes."""
    task = experiment.task
    own = task if isinstance(task, Task) else None
    refused = {
        "a class Trainable trains in one process": own is None and is_class_trainable(task),
        "this task brings its own trainer, which is one process": own is not None and own.has_own_trainer,
        "this task takes its steps itself, and with them the gradients": own is not None and own.has_own_step,
        "hypergradients look ahead in one process": experiment.hypergradient is not None,
        "a learning-rate range test is one process": experiment.lr_range is not None,
    }
    why = next((reason for reason, holds in refused.items() if holds), None)
    if why is not None:
        raise ExperimentError("resources.strategy", "ddp", f"makes a trial several processes: {why}")
    if experiment.executor == "inline":
        raise ExperimentError(
            "executor", "inline", "is one process, and a trial with a strategy several: use processes"
        )


def _check_scalars(written: Experiment) -> None:
    if not isinstance(written.name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", written.name):
        raise ExperimentError(
            "name", written.name, "must be 1 to 100 letters, digits, '.', '_' or '-', the first one a letter or digit"
        )
    checks.integer("max_epochs", written.max_epochs, 1, MOST)
    checks.integer("seed", written.seed, 0, 2**63 - 1)
    checks.integer("max_failures", written.max_failures, 0)
    if written.fail_fast is not None:
        checks.integer("fail_fast", written.fail_fast, 1)
    if written.max_concurrent is not None:
        checks.integer("max_concurrent", written.max_concurrent, 1)
    if written.time_budget_s is not None:
        checks.number("time_budget_s", written.time_budget_s, 0, open_low=True)
    for name in ("report_timeout_s", "trial_timeout_s"):
        if getattr(written, name) is not None:
            checks.number(name, getattr(written, name), 0, open_low=True)
            if written.executor == "inline":
                expected = "ends a trial with its worker, and inline has none: use processes, lanes or auto"
                raise ExperimentError(name, getattr(written, name), expected)
    checks.one_of("executor", written.executor, EXECUTORS)
    checks.one_of("data_order", written.data_order, DATA_ORDERS)
    if not isinstance(written.fresh_workers, bool):
        raise ExperimentError("fresh_workers", written.fresh_workers, "must be True or False")
    if written.fresh_workers and written.executor in ("inline", "lanes"):
        expected = "gives each trial a process of its own: use executor processes or auto with it"
        raise ExperimentError("fresh_workers", True, expected)


def _resources(task: Any, given: Any) -> Resources:
    wish = wished_resources(task)
    if given is None:
        return wish or Resources()
    resources = record("resources", Resources, given)
    if wish not in (None, resources):
        expected = f"tune.with_resources asks for {wish}; leave one of both out"
        raise ExperimentError("resources", resources, expected)
    return resources


def _storage(storage: Any) -> str:
    if not isinstance(storage, str | Path) or not str(storage):
        raise ExperimentError("storage", storage, "must be the path of a folder")
    check_is_local("storage", storage)
    try:
        Path(storage).expanduser()
    except RuntimeError as error:
        raise ExperimentError("storage", str(storage), f"names nobody's home: {error}") from error
    return str(storage)


def _command(field: str, value: Any) -> str | None:
    """A command as words. Raises ExperimentError for what cannot be one."""
    if value is None:
        return None
    try:
        words = shlex.split(value) if isinstance(value, str) else []
    except ValueError as error:
        raise ExperimentError(field, value, f"cannot be read as words: {error}") from error
    if not words:
        raise ExperimentError(field, value, "must be a command, such as 'notify-send done'")
    return str(value)


def check_programs(commands: Mapping[str, Any]) -> None:
    """Raise ExperimentError where a command of the experiment's names a program that is not here. By whoever chooses
    it: a run whose program has gone meanwhile goes on."""
    for field in ("on_finish", "on_failure"):
        value = commands.get(field)
        if isinstance(value, str) and shutil.which(shlex.split(value)[0]) is None:
            raise ExperimentError(field, value, f"{shlex.split(value)[0]} is no program that can be found here")


def check_is_local(field: str, path: Any) -> None:
    """Raise ExperimentError for a URL, which `Path` would take for a folder of that name."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", str(path)):
        expected = "is a URL: runs live in folders, and a bucket can be mounted, or synced to afterwards"
        raise ExperimentError(field, str(path), expected)


def _start_points(points: Any, space: SearchSpace) -> tuple[Config, ...]:
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise ExperimentError("start_points", points, "must be a list of configs")
    return tuple(space.complete(p, f"start_points[{i}]") for i, p in enumerate(points))


def _warm_start(sources: Any) -> tuple[str, ...]:
    expected = 'run directories, "optuna:URL#STUDY", "ray:FOLDER" and .csv files'
    if not isinstance(sources, Sequence) or isinstance(sources, str):
        raise ExperimentError("warm_start", sources, f"must be a list of {expected}")
    for number, source in enumerate(sources):
        if not isinstance(source, str | Path) or not str(source):
            raise ExperimentError(f"warm_start[{number}]", source, f"must be one of {expected}")
    return tuple(dict.fromkeys(map(str, sources)))


def _check_budgets(searcher: ChosenSearcher, scheduler: ChosenScheduler, max_epochs: int) -> None:
    """Either the searcher or the scheduler decides how long trials run."""
    if not searcher.plans_budgets:
        return
    if scheduler.kind.plans_budgets:
        expected = f"decides how long trials run, and so does {searcher.name}; use fifo, asha or median with it"
        raise ExperimentError("scheduler", scheduler.name, expected)
    assert searcher.kind is not None
    assert searcher.options is not None
    searcher.kind.check_epochs(searcher.options, max_epochs)


def _check_replicate(
    replicate: Any, searcher: ChosenSearcher, scheduler: ChosenScheduler, keeping: Checkpointing
) -> None:
    checks.integer("replicate", replicate, 0, MOST_REPLICATED)
    if not replicate:
        return
    if replicate == 1:
        raise ExperimentError("replicate", 1, "compares trials: 2 or more of them, or 0")
    if scheduler.kind.is_population or scheduler.kind.is_of_one:
        expected = f"trains configs again, and under {scheduler.name} they change while they train: leave it out"
        raise ExperimentError("replicate", replicate, expected)
    if searcher.name == "repeat":
        raise ExperimentError("replicate", replicate, "is what searcher repeat does with all its trials: leave it out")
    if keeping.keep_trials is not None and keeping.keep_trials < replicate:
        expected = f"must be at most checkpoint.keep_trials, {keeping.keep_trials}: any of them may turn out the best"
        raise ExperimentError("replicate", replicate, expected)


def _samples(
    written: Experiment,
    searcher: ChosenSearcher,
    scheduler: ChosenScheduler,
    space: SearchSpace,
    objective: Objective,
    start_points: tuple[Config, ...],
) -> int:
    total = None
    if not searcher.is_object:
        epochs, seed = written.max_epochs, written.seed
        built = searcher.build(space, objective, max_epochs=epochs, seed=seed, start_points=start_points)
        total = built.total()
    if scheduler.kind.is_of_one:
        if written.num_samples not in (None, 1):
            raise ExperimentError("num_samples", written.num_samples, f"must be 1: a {scheduler.name} is one model")
        return 1
    if written.num_samples is None:
        return DEFAULT_SAMPLES if total is None else total
    checks.integer("num_samples", written.num_samples, 1, MOST)
    if scheduler.kind.is_population and written.num_samples > MOST_POPULATION:
        expected = f"is the population of {scheduler.name}, whose trials live all at once: at most {MOST_POPULATION:,}"
        raise ExperimentError("num_samples", written.num_samples, expected)
    if total is not None and written.num_samples > total:
        raise ExperimentError(
            "num_samples", written.num_samples, f"this search ends after {total} trials; leave it out to run all"
        )
    return written.num_samples
