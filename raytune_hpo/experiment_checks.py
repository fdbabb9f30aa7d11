"""What an Experiment checks of its fields together: the task, the space that fits it, the metric, the moving rates.

Each raises ExperimentError naming the field, the value and what would be right. Neither ray nor torch is imported.
"""

from __future__ import annotations

from typing import Any, get_args

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode
from raytune_hpo.parameters import Choice, Float, Int, Parameter
from raytune_hpo.reference import FunctionTrainable, check_function
from raytune_hpo.search import SEARCHERS
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space import SearchSpace
from raytune_hpo.tasks import task_by_name
from raytune_hpo.training.hyperparameters import TRAINER_HYPERPARAMETERS, check_keys, check_value
from raytune_hpo.training.task import Task
from raytune_hpo.training.unit_steps import moved_parameters

DEFAULT_METRIC = {"classification": "validation_accuracy", "regression": "validation_loss"}
FOREIGN = "foreign"


def checked_task(task: Any) -> Task | FunctionTrainable:
    """The task of its name, or itself."""
    if isinstance(task, str):
        task = task_by_name(task)
    if isinstance(task, Task):
        task.check()
        return task
    if isinstance(task, type) or not callable(task):
        hint = f"; write {task.__name__}()" if isinstance(task, type) and issubclass(task, Task) else ""
        raise ExperimentError(
            "task", task, f"must be a task's name, a Task object or a function trainable f(config){hint}"
        )
    check_function(task)
    function: FunctionTrainable = task
    return function


def check_space_fits(task: Task | FunctionTrainable, space: SearchSpace) -> None:
    if not isinstance(task, Task):
        return
    known = {**TRAINER_HYPERPARAMETERS, **task.model_hyperparameters()}
    check_keys([*space.parameters, *space.constants], known)
    for path, parameter in space.parameters.items():
        for value in _extremes(parameter):
            check_value(known[path], value)
    for path, value in space.constants.items():
        check_value(known[path], value)


def checked_metric(task: Task | FunctionTrainable, metric: Any, mode: Any) -> tuple[str, Mode]:
    """The metric and its mode, the task's own where they are left out."""
    if isinstance(task, Task):
        metric = DEFAULT_METRIC[task.kind] if metric is None else metric
        reported = task.metrics()
        right = reported[checks.one_of("metric", metric, reported)]
        mode = right if mode is None else mode
    if not isinstance(metric, str) or not metric:
        raise ExperimentError("metric", metric, "must name a value that the trainable reports")
    if mode not in get_args(Mode):
        raise ExperimentError("mode", mode, "must be 'min' or 'max'")
    if isinstance(task, Task) and mode != right:
        raise ExperimentError("mode", mode, f"{metric} is better when it is {'higher' if right == 'max' else 'lower'}")
    return metric, mode


def check_folds(task: Task | FunctionTrainable, folds: Any) -> None:
    if folds is None:
        return
    checks.integer("folds", folds, 2, 100)
    if not isinstance(task, Task):
        raise ExperimentError("folds", folds, "needs a task; a function trainable splits its own data")
    if not task.exchangeable:
        raise ExperimentError("folds", folds, "this task's validation samples are chosen, not drawn")


def check_moving_rates(
    task: Task | FunctionTrainable, space: SearchSpace, hypergradient: Hypergradient | None, lr_range: Any
) -> None:
    for name, value in (("hypergradient", hypergradient), ("lr_range", lr_range)):
        if value is not None and not isinstance(task, Task):
            raise ExperimentError(name, value, "needs a task; a function trainable trains by itself")
    if hypergradient is not None:
        moved_parameters(hypergradient, space.parameters)
    if lr_range is None:
        return
    if lr_range != "auto":
        raise ExperimentError("lr_range", lr_range, "must be 'auto' or None")
    if not isinstance(space.parameters.get("lr"), Float):
        raise ExperimentError("lr_range", lr_range, "needs lr as a Float of the space, to narrow it")


def foreign_name(searcher: Any) -> dict[str, Any]:
    """How a searcher object of Ray Tune's is written down: it cannot be saved, only named."""
    # Asked without importing ray, which an experiment file with such an object has imported already.
    if isinstance(searcher, type) or not all(hasattr(searcher, m) for m in ("suggest", "on_trial_complete", "metric")):
        expected = f"must be one of {', '.join(SEARCHERS)}, or an object of a ray.tune.search.Searcher"
        raise ExperimentError("searcher", searcher, expected)
    return {"name": FOREIGN, "class": f"{type(searcher).__module__}:{type(searcher).__qualname__}"}


def _extremes(parameter: Parameter) -> list[Any]:
    if isinstance(parameter, Choice):
        return list(parameter.options)
    assert isinstance(parameter, Float | Int)
    return [parameter.low, parameter.high]
