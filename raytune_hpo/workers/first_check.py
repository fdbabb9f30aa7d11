"""A task is tried before a run's first trial, and by `validate --deep`: which configs, and where.

ResolvedExperiment -> configs_to_try -> deep_remarks   in this process, for a person
                                     -> first_remarks  in the first worker of a run
"""

from __future__ import annotations

import bdb
import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from raytune_hpo.errors import ExperimentError, TaskError, users_place
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.seeding import generator
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task
from raytune_hpo.workers.process_state import ProcessState


def configs_to_try(experiment: ResolvedExperiment) -> list[dict[str, Any]]:
    """The space's usual config, and two with every parameter at its low and at its high end, so that no value is in all
    of them; none of what has no steps of ours."""
    if not isinstance(experiment.task, Task) or experiment.task.has_own_trainer:
        return []
    ends = ({path: p.from_unit(u) for path, p in experiment.space.parameters.items()} for u in (0.0, 1.0))
    return [experiment.usual_config(), *map(experiment.space.build, ends)]


def deep_remarks(experiment: ResolvedExperiment) -> list[str]:
    """What a person should know of the experiment's task and its data. Raises ExperimentError, of the task's own code
    TaskError."""
    task, configs = experiment.task, configs_to_try(experiment)
    if not isinstance(task, Task):
        return ["deep: a function loads and trains by itself, there is nothing to be tried of it"]
    task.prepare()
    recipe = experiment.recipe()
    data = _loaded(task, recipe.load)
    found = recipe.remarks(data)
    if not configs:
        return [*found, "deep: this task brings its own trainer, of which nothing is tried"]
    from raytune_hpo.training.deep_check import deep_check
    from raytune_hpo.training.oddities import of_loading

    device = "cuda" if experiment.resources.gpus > 0 else "cpu"
    drawn = experiment.space.sample(generator(experiment.seed, "deep check"))
    tried = deep_check(task, data, [*configs, drawn], device, experiment.objective.metric)
    return [*found, *tried, *of_loading(task, data, experiment.seed)]


def _loaded(task: Task, load: Any) -> TrialData:
    """Raises TaskError, with the file and line of `load`, for data that cannot be trained on."""
    name = f"{type(task).__name__}.load"
    try:
        data: TrialData = load()
    except TaskError:
        raise
    except ExperimentError as error:
        from raytune_hpo.training.watched_task import blamed_on, fault

        if error.field == "task" and isinstance(error.__cause__, Exception):
            with blamed_on(task, "load"):
                raise error.__cause__ from None
        if error.field.startswith(name):
            text, cause = str(error).removeprefix(name).removeprefix(".").removeprefix(" = "), error.__cause__
            place = None if cause is None else users_place(cause)
            raise fault(task, "load", text, place=place) from error
        raise
    return data


def first_remarks(
    recipe: Recipe, data: TrialData, configs: Sequence[dict[str, Any]], device: str, threads: int
) -> list[str]:
    """What a run should say of its task before the first trial. Raises TaskError where no trial could be trained.

    threads: of a trial's.
    The process is left as it was, hears no warning and stops at no breakpoint: trials are to have theirs.
    """
    import torch

    from raytune_hpo.training.deep_check import first_check

    state = ProcessState.found()
    torch.set_num_threads(threads)
    try:
        with _undisturbed():
            return first_check(recipe.task, data, configs, device)
    except (TaskError, bdb.BdbQuit):
        raise
    except Exception:  # a full disk, or a fault of the check's own: the trials will tell
        return []
    finally:
        state.put_back()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """By warnings and breakpoints of this thread, that is: others share the hooks."""
    here = threading.get_ident()

    def silenced(hook: Any) -> Any:
        return lambda *given, **named: hook(*given, **named) if threading.get_ident() != here else None

    hooks = ((warnings, "showwarning"), (sys, "breakpointhook"))
    before = [getattr(module, name) for module, name in hooks]
    within = [silenced(hook) for hook in before]
    for (module, name), hook in zip(hooks, within, strict=True):
        setattr(module, name, hook)
    try:
        yield
    finally:
        for (module, name), hook, own in zip(hooks, before, within, strict=True):
            if getattr(module, name) is own:
                setattr(module, name, hook)
