"""What an Experiment checks of its fields together: the task, the space that fits it, the metric, the moving rates.

Each raises ExperimentError naming the field, the value and what would be right. Neither ray nor torch is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, get_args

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.asked import by_whoever_asks
from raytune_hpo.experiment.references import FunctionTrainable, check_function
from raytune_hpo.objective import Mode, Objective
from raytune_hpo.settings import Hypergradient, Resources
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter, json_value
from raytune_hpo.tasks import task_by_name
from raytune_hpo.training.checked_task import check_task
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.hyperparameters import Hyperparameter, check_keys, check_value
from raytune_hpo.training.metrics import checked_metrics
from raytune_hpo.training.task import Task
from raytune_hpo.training.unit_steps import moved_parameters


def checked_task(task: Any) -> Task | FunctionTrainable:
    """The task of its name, or itself; None is one that others train."""
    if task is None:
        return by_whoever_asks
    if isinstance(task, str):
        task = task_by_name(task)
    if isinstance(task, Task):
        for name, value in task.options().items():
            json_value(f"task.{name}", value)
        task.check_is_described()
        check_task(task)
        task.check()
        checked_metrics(task.metrics())
        return task
    if is_class_trainable(task):
        trainable: FunctionTrainable = task
        return trainable
    if isinstance(task, type) or not callable(task):
        hint = f"; write {task.__name__}()" if isinstance(task, type) and issubclass(task, Task) else ""
        raise ExperimentError(
            "task", task, f"must be a task's name, a Task object or a function trainable f(config){hint}"
        )
    check_function(task)
    function: FunctionTrainable = task
    return function


def is_class_trainable(task: Any) -> bool:
    """Whether it is a subclass of Ray Tune's Trainable. Asked without importing ray."""
    return inspect.isclass(task) and any(
        cls.__name__ == "Trainable" and cls.__module__.startswith("ray.tune.") for cls in task.__mro__
    )


def wished_resources(task: Any) -> Resources | None:
    """What `tune.with_resources` asks of a trial of this task; None if it was not used. Raises ExperimentError."""
    wish = getattr(task, "_resources", None)
    if is_class_trainable(task) and "default_resource_request" in vars(task):
        wish = task.default_resource_request({})
    if wish is None or isinstance(task, Task):
        return None
    bundles = getattr(wish, "bundles", None)
    if bundles is None or len([b for b in bundles if b]) != 1:
        expected = "asks for several bundles, or decides by the config; one trial's resources are Resources(cpus, gpus)"
        raise ExperimentError("resources", "tune.with_resources", expected)
    (bundle,) = (b for b in bundles if b)
    others = [name for name in bundle if name not in ("CPU", "GPU")]
    if others:
        raise ExperimentError("resources", others[0], "trials have CPUs and GPUs only")
    return Resources(cpus=bundle.get("CPU", 0), gpus=bundle.get("GPU", 0))


def check_space_fits(task: Task | FunctionTrainable, space: SearchSpace) -> None:
    if not isinstance(task, Task):
        return
    known = task.hyperparameters()
    check_keys([*space.parameters, *space.constants], known)
    if "class_weight" in {*space.parameters, *space.constants} and "class_weight" not in task.model_hyperparameters():
        _check_class_weight(task, space)
    for path, parameter in space.parameters.items():
        for value in _extremes(parameter):
            _check(known[path], value, space)
    for path, value in space.constants.items():
        _check(known[path], value, space)


def _check(hyperparameter: Hyperparameter, value: Any, space: SearchSpace) -> None:
    """value: as configs hold it."""
    named = space.objects.get(hyperparameter.name, {})
    check_value(hyperparameter, named.get(value, value) if isinstance(value, str) else value)


def _check_class_weight(task: Task, space: SearchSpace) -> None:
    """Raise ExperimentError where a space weighs classes that the task's loss has none of."""
    own = task.has_own_loss or task.has_own_step or task.has_own_trainer
    if space.constants.get("class_weight") == "none" or not (own or task.kind not in ("classification", "multilabel")):
        return
    whose = "a loss of the task's own weighs by itself" if own else f"kind = {task.kind!r} has no classes"
    found = space.constants.get("class_weight", space.parameters.get("class_weight"))
    raise ExperimentError("space.class_weight", found, f"is of the default loss of classes and labels alone; {whose}")


def checked_objective(task: Task | FunctionTrainable, metric: Any, mode: Any) -> Objective:
    """The metric and its mode, the task's own where they are left out."""
    if isinstance(task, Task):
        metric = task.default_metric() if metric is None else metric
        reported = task.reported()
        right = reported[checks.one_of("metric", metric, reported)]
        mode = right if mode is None else mode
    if not isinstance(metric, str) or not metric:
        raise ExperimentError("metric", metric, "must name a value that the trainable reports")
    if mode not in get_args(Mode):
        raise ExperimentError("mode", mode, "must be 'min' or 'max'")
    if isinstance(task, Task) and mode != right:
        raise ExperimentError("mode", mode, f"{metric} is better when it is {'higher' if right == 'max' else 'lower'}")
    return Objective(metric, mode)


def checked_plateau(task: Task | FunctionTrainable, plateau: EarlyStopping, objective: Objective) -> EarlyStopping:
    """Early stopping with its metric and mode, the objective's where they are left out."""
    metric = plateau.metric or objective.metric
    if metric == objective.metric:
        right: Mode | None = objective.mode
    elif isinstance(task, Task):
        reported = {"train_loss": "min", **task.reported()}
        right = reported[checks.one_of("early_stopping.metric", metric, reported)]
    else:
        right = plateau.mode
    if right is None:
        raise ExperimentError("early_stopping.mode", None, f"must be 'min' or 'max': {metric} is not the objective")
    if plateau.mode not in (None, right):
        expected = f"{metric} is better when it is {'higher' if right == 'max' else 'lower'}"
        raise ExperimentError("early_stopping.mode", plateau.mode, expected)
    return dataclasses.replace(plateau, metric=metric, mode=right)


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
        if value is not None and isinstance(task, Task) and task.has_own_trainer:
            raise ExperimentError(name, value, "is the supervised trainer's; this task brings its own")
        if value is not None and isinstance(task, Task) and task.has_own_step:
            raise ExperimentError(
                name, value, "takes steps of the supervised trainer's; this task's are its train_step"
            )
    if hypergradient is not None:
        moved_parameters(hypergradient, space.parameters)
    if lr_range is None:
        return
    if lr_range != "auto":
        raise ExperimentError("lr_range", lr_range, "must be 'auto' or None")
    rate = space.parameters.get("lr")
    if not isinstance(rate, Float) or rate.step is not None:
        raise ExperimentError("lr_range", lr_range, "needs lr as a Float of the space without a step, to narrow it")


def _extremes(parameter: Parameter) -> list[Any]:
    if isinstance(parameter, Choice):
        return list(parameter.options)
    assert isinstance(parameter, Float | Int)
    return [parameter.low, parameter.high]
