"""What is called once, in a process of Ray's: the loading of the data, the test of the winner.

Ray is imported when it is called: an experiment that is wrong is told so before that.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from raytune_hpo.experiment.references import FILE_MODULE_PREFIX, FunctionTrainable, defined_in
from raytune_hpo.training.task import Task
from raytune_hpo.workers.executors import import_paths
from raytune_hpo.workers.worker import called

if TYPE_CHECKING:
    from raytune_hpo.workers.pool import Workers


class CallError(Exception):
    """The called function failed; the message is its error, in a line."""


def loaded_data(task: Any, seed: int) -> Callable[[], Any]:
    """Gives what trials see of the data: loaded once, in a worker process; every node then holds one copy, which its
    workers share.

    Not a reference as it is: Ray starts no worker before its arguments are there, and workers have torch to import.
    """
    import ray

    if not isinstance(task, Task):
        return lambda: None  # function trainables load their data themselves
    return functools.partial(ray.get, _begin_in_worker(_load_data, task, seed))


def _begin_in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """A reference to what function(*arguments) will answer, called in a process of Ray's."""
    import ray
    from ray import cloudpickle

    call = cloudpickle.dumps((function, arguments))
    return ray.remote(num_cpus=0)(_called).remote(import_paths(), call)


def _called(paths: list[str], call: bytes) -> Any:
    sys.path.extend(p for p in paths if p not in sys.path)
    return called(call)


def _load_data(task: Task, seed: int) -> Any:
    return task.splits(seed).for_trials()


def call_in_worker(pool: Workers, function: Callable[..., Any], *arguments: Any) -> Any:
    """What function(*arguments) answers in a worker of the pool, or in a process of its own where there is none.

    Raises CallError where it fails.
    """
    import ray
    from ray import cloudpickle

    from raytune_hpo.workers.pool import cause

    actors = pool.actors()
    try:
        if not actors:
            return ray.get(_begin_in_worker(function, *arguments))
        return ray.get(actors[0].call.remote(cloudpickle.dumps((function, arguments))))
    except ray.exceptions.RayTaskError as error:
        raise CallError(cause(error)) from error


@contextlib.contextmanager
def importable_by_value(task: Task | FunctionTrainable) -> Iterator[None]:
    """Let workers have code of an experiment file, which they cannot import by name."""
    from ray import cloudpickle

    module = defined_in(task)
    if module is None or not module.__name__.startswith(FILE_MODULE_PREFIX):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
