"""Ready tasks by name. A task's module is imported when it is first asked for.

`from raytune_hpo.tasks import Digits` and `task_by_name("digits")` give the same task.

What this folder may not do: train.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.tasks.california_housing import CaliforniaHousing
    from raytune_hpo.tasks.cifar10 import Cifar10
    from raytune_hpo.tasks.diabetes import Diabetes
    from raytune_hpo.tasks.digits import Digits
    from raytune_hpo.tasks.linear import LinearExtrapolation
    from raytune_hpo.tasks.mnist import Mnist
    from raytune_hpo.tasks.mnist_cnn import MnistCnn

TASKS: dict[str, str] = {
    "california_housing": "raytune_hpo.tasks.california_housing:CaliforniaHousing",
    "cifar10": "raytune_hpo.tasks.cifar10:Cifar10",
    "diabetes": "raytune_hpo.tasks.diabetes:Diabetes",
    "digits": "raytune_hpo.tasks.digits:Digits",
    "linear": "raytune_hpo.tasks.linear:LinearExtrapolation",
    "mnist": "raytune_hpo.tasks.mnist:Mnist",
    "mnist_cnn": "raytune_hpo.tasks.mnist_cnn:MnistCnn",
}
"""Name -> `module:class`. A new task costs one file and one line here."""

__all__ = [
    "TASKS",
    "CaliforniaHousing",
    "Cifar10",
    "Diabetes",
    "Digits",
    "LinearExtrapolation",
    "Mnist",
    "MnistCnn",
    "task_by_name",
    "task_class",
]


def task_class(name: str) -> type[Task]:
    """The class of a registered task. Raises ExperimentError for an unknown name."""
    if name not in TASKS:
        raise ExperimentError("task", name, checks.no_such("task", name, TASKS))
    module, attribute = TASKS[name].split(":")
    found: type[Task] = getattr(importlib.import_module(module), attribute)
    return found


def task_by_name(name: str, **options: Any) -> Task:
    """A registered task with its options. Raises ExperimentError for an unknown name or option."""
    cls = task_class(name)
    known = list(cls.__dataclass_fields__)
    for option, value in options.items():
        if option not in known:
            raise ExperimentError(f"task.{option}", value, checks.no_such(f"option of {name!r}", option, known))
    return cls(**options)


def __getattr__(name: str) -> Any:
    for path in TASKS.values():
        module, attribute = path.split(":")
        if attribute == name:
            return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
