"""How an experiment names its task as plain JSON, so that a run can be resumed in another process.

    {"builtin": "digits", "options": {...}}                    a task of this package
    {"import": "package.module:Name", "options": {...}}        a Task class or function of the user's
    {"file": "experiment.py", "name": "Name", "options": ...}  the same, defined in an experiment file
    {"unsaved": "Name"}                                        defined in a prompt or a notebook

A file reference keeps its absolute path; a run directory holds a copy of the file as well, and the
copy is used where the original is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import raytune_hpo
from raytune_hpo import checks, tasks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import TASKS, task_by_name
from raytune_hpo.training.task import Task

FunctionTrainable = Callable[[dict[str, Any]], Any]
FILE_MODULE_PREFIX = "raytune_hpo_file_"


def load_module(path: Path, field: str = "experiment file") -> ModuleType:
    """Execute a Python file as a module of its own, with its folder importable.

    What it prints goes to stderr: stdout is for results. Raises ExperimentError where the file is
    missing or fails.
    """
    path = path.resolve()
    if not path.is_file():
        raise ExperimentError(field, str(path), "must be a Python file" if path.exists() else "no such file")
    name = FILE_MODULE_PREFIX + path.stem
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExperimentError(field, str(path), "must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        if isinstance(error, SyntaxError):
            raise ExperimentError(field, str(path), f"{error.msg} (line {error.lineno})") from error
        where = f"line {lines[-1]}" if lines else "no line"
        if isinstance(error, ExperimentError):
            raise ExperimentError(error.field, error.value, f"{error.expected} ({path.name}, {where})") from error
        raise ExperimentError(field, str(path), f"fails with {_explained(error)} ({where})") from error
    return module


def _explained(error: BaseException) -> str:
    """`TypeError: ...`, with the nearest field where one of a record's does not exist."""
    text = f"{type(error).__name__}: {error}"
    wrong = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    record = None if wrong is None else getattr(raytune_hpo, wrong[1], getattr(tasks, wrong[1], None))
    if wrong is None or not dataclasses.is_dataclass(record):
        return text.replace(".__init__()", "()")
    names = [f.name for f in dataclasses.fields(record)]
    return f"{text.split('.', maxsplit=1)[0]}({wrong[2]}=...): {checks.no_such('field', wrong[2], names)}"


def to_reference(task: Task | FunctionTrainable) -> dict[str, Any]:
    """The JSON reference of a task or function trainable."""
    if isinstance(task, Task):
        for name, target in TASKS.items():
            if target == f"{type(task).__module__}:{type(task).__qualname__}":
                return {"builtin": name, "options": task.options()}
        target_object: Any = type(task)
        options = {"options": task.options()}
    else:
        target_object, options = task, {}
        if not inspect.isfunction(task):
            return {"unsaved": repr(task)}
    module = sys.modules.get(target_object.__module__)
    name = target_object.__qualname__
    file = getattr(module, "__file__", None)
    if module is None or file is None or "<locals>" in name or not _reachable(module, name):
        return {"unsaved": name, **options}
    if module.__name__ == "__main__" or module.__name__.startswith(FILE_MODULE_PREFIX):
        return {"file": str(Path(file).resolve()), "name": name, **options}
    return {"import": f"{module.__name__}:{name}", **options}


def _reachable(module: ModuleType, qualified_name: str) -> bool:
    node: Any = module
    for part in qualified_name.split("."):
        node = getattr(node, part, None)
    return node is not None


def from_reference(reference: Mapping[str, Any], source: Path | None = None) -> Task | FunctionTrainable:
    """The task that a reference names.

    source: a folder with copies of experiment files, used where the original is gone.
    Raises ExperimentError where it cannot be found.
    """
    options = dict(reference.get("options", {}))
    if "builtin" in reference:
        return task_by_name(reference["builtin"], **options)
    if "unsaved" in reference:
        raise ExperimentError(
            "task",
            reference["unsaved"],
            "was defined in a prompt, a notebook or a function; pass it again: resume(run_dir, task=...)",
        )
    if "file" in reference:
        path = Path(reference["file"])
        if not path.is_file() and source is not None:
            path = source / path.name
        found: Any = load_module(path, "task")
        name = reference["name"]
    else:
        module_name, name = reference["import"].split(":")
        try:
            found = importlib.import_module(module_name)
        except ImportError as error:
            raise ExperimentError("task", module_name, f"cannot be imported: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ExperimentError("task", name, f"is no longer defined in {reference.get('file', reference.get('import'))}")
    try:
        made: Any = found(**options) if inspect.isclass(found) else found
    except TypeError as error:
        raise ExperimentError("task", name, f"no longer takes the recorded options: {error}") from error
    return made  # type: ignore[no-any-return]  # what a user's module holds; Experiment checks it


def check_function(function: Any) -> None:
    """Raise ExperimentError unless `function` can be called as `function(config)`."""
    try:
        inspect.signature(function).bind({})
    except (TypeError, ValueError):
        raise ExperimentError(
            "task", getattr(function, "__qualname__", function), "a function trainable takes one argument, the config"
        ) from None
