"""How an experiment names its task as plain JSON, so that a run can be resumed in another process.

    {"builtin": "digits", "options": {...}}                    a task of this package
    {"import": "package.module:Name", "options": {...}}        a Task class or function of the user's
    {"file": "experiment.py", "name": "Name", "options": ...}  the same, defined in an experiment file
    {..., "as": "optuna"}                                      a function of the user's, which one of WRAPPERS calls
    {"made": "Name"}                                           made by the experiment file, under no name of its own
    {"unsaved": "Name"}                                        defined in a prompt or a notebook

A file reference keeps its absolute path. While a run's copy of its code is in use (`copied_modules`), files and modules
are the copy's. Classes of searchers and schedulers are named likewise.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX
from raytune_hpo.experiment.loading import import_by_name, load_module
from raytune_hpo.tasks import TASKS, task_by_name
from raytune_hpo.training.task import Task

FunctionTrainable = Callable[[dict[str, Any]], Any]
#: Name -> class of ours that makes a trainable of a function of another form, which it has as `__wrapped__`.
WRAPPERS = {"optuna": "raytune_hpo.integrations.optuna:Objective"}


def to_reference(task: Task | FunctionTrainable) -> dict[str, Any]:
    """The JSON reference of a task or a trainable."""
    if isinstance(task, Task):
        for name, target in TASKS.items():
            if target == f"{type(task).__module__}:{type(task).__qualname__}":
                return {"builtin": name, "options": task.options()}
        return {**class_reference(type(task)), "options": task.options()}
    if inspect.isfunction(task) or inspect.isclass(task):
        reference = class_reference(task)
        if "unsaved" not in reference:
            return reference
    for name, target in WRAPPERS.items():
        wrapped = getattr(task, "__wrapped__", None)
        if target == f"{type(task).__module__}:{type(task).__name__}" and inspect.isfunction(wrapped):
            reference = class_reference(wrapped)
            if "unsaved" not in reference:
                return {**reference, "as": name}
    named = task.func if isinstance(task, functools.partial) else task
    return {"made": getattr(named, "__qualname__", None) or type(named).__qualname__}


def class_reference(target: Any) -> dict[str, Any]:
    """Where a class or function is found again by its name."""
    module = sys.modules.get(target.__module__)
    name = target.__qualname__
    file = getattr(module, "__file__", None)
    if (
        module is None
        or file is None
        or not Path(file).is_file()
        or "<locals>" in name
        or _named(module, name) is not target
    ):
        return {"unsaved": name}
    spec = getattr(module, "__spec__", None)
    if module.__name__ == "__main__" and spec is not None and spec.name != "__main__":  # python -m package.module
        return {"import": f"{spec.name}:{name}"}
    if module.__name__ == "__main__" or module.__name__.startswith(FILE_MODULE_PREFIX):
        return {"file": str(Path(file).resolve()), "name": name}
    return {"import": f"{module.__name__}:{name}"}


def _named(node: Any, qualified_name: str) -> Any:
    for part in qualified_name.split("."):
        node = getattr(node, part, None)
    return node


def from_reference(reference: Mapping[str, Any]) -> Task | FunctionTrainable:
    """The task that a reference names: nothing is called that is no Task, and nothing taken that trains nothing.

    Raises ExperimentError where it cannot be found.
    """
    if "builtin" in reference:
        return task_by_name(reference["builtin"], **reference.get("options", {}))
    found = found_by(reference, "task")
    name = getattr(found, "__qualname__", repr(found))
    if not (inspect.isclass(found) and issubclass(found, Task)):
        if "options" in reference:
            raise ExperimentError("task", name, "is no Task: only one of those takes the recorded options")
        if "as" not in reference:
            return found  # type: ignore[no-any-return]  # what a user's module holds; Experiment checks it
        module, _, wrapper = WRAPPERS.get(reference["as"], ":").partition(":")
        if not module:
            raise ExperimentError("task", reference["as"], f"must be one of {', '.join(WRAPPERS)}")
        return getattr(import_by_name(module), wrapper)(found)  # type: ignore[no-any-return]
    try:
        return found(**_of_their_types(found, reference.get("options", {})))
    except TypeError as error:
        raise ExperimentError("task", name, f"no longer takes the recorded options: {error}") from error


def found_by(reference: Mapping[str, Any], field: str) -> Any:
    """The class or function that `class_reference` named. Raises ExperimentError naming `field`."""
    if "unsaved" in reference or "made" in reference:
        raise ExperimentError(
            field,
            reference.get("unsaved", reference.get("made")),
            f"was defined in a prompt, a notebook or a function; pass it again: resume(run_dir, {field}=...)",
        )
    if "file" in reference:
        found: Any = load_module(Path(reference["file"]), field)
        name = reference["name"]
    else:
        module_name, _, name = str(reference.get("import")).partition(":")
        if module_name.partition(".")[0] in sys.stdlib_module_names:
            raise ExperimentError(field, f"{module_name}:{name}", "is Python's own, and trains nothing")
        try:
            found = import_by_name(module_name)
        except Exception as error:  # whatever a user's module does when it is imported
            expected = f"cannot be imported: {type(error).__name__}: {error}"
            raise ExperimentError(field, module_name, expected) from error
    found = _named(found, name)
    if found is None:
        raise ExperimentError(field, name, f"is no longer defined in {reference.get('file', reference.get('import'))}")
    if not inspect.isclass(found) and not inspect.isfunction(found):
        raise ExperimentError(field, name, "is no class and no function, which is all that is ever recorded by name")
    return found


def _of_their_types(cls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """A task's options as its fields have them: JSON has no paths."""
    fields = {f.name: str(f.type) for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    return {
        name: Path(value) if isinstance(value, str) and "Path" in fields.get(name, "") else value
        for name, value in options.items()
    }


def innermost(task: Any) -> Any:
    """The function or class that a task or trainable is made of, whatever it is wrapped in."""
    while (inside := _inside(task)) is not None:
        task = inside
    if inspect.ismethod(task):
        task = task.__func__
    if inspect.isfunction(task):
        return inspect.unwrap(task)
    return task if inspect.isclass(task) else type(task)


def _inside(task: Any) -> Any:
    """What a partial, or one of Ray Tune's wrappers (with_parameters, with_resources), is made of; None for others."""
    if isinstance(task, functools.partial):
        return task.func
    if type(task).__module__.startswith("raytune_hpo.") and hasattr(task, "wrapped"):  # one of ours round the user's
        return task.wrapped
    if not str(getattr(task, "__module__", "")).startswith("ray.tune."):
        return None
    if inspect.isclass(task):
        return next((base for base in task.__bases__ if base is not object), None)
    held = inspect.getclosurevars(task).nonlocals if inspect.isfunction(task) else {}
    return next((held[name] for name in ("trainable", "func", "fn") if callable(held.get(name))), None)


def check_function(function: Any) -> None:
    """Raise ExperimentError unless `function` can be called as `function(config)`."""
    try:
        inspect.signature(function).bind({})
    except (TypeError, ValueError):
        raise ExperimentError(
            "task", getattr(function, "__qualname__", function), "a function trainable takes one argument, the config"
        ) from None
