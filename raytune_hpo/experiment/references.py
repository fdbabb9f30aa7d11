"""How an experiment names its task as plain JSON, so that a run can be resumed in another process.

    {"builtin": "digits", "options": {...}}                    a task of this package
    {"import": "package.module:Name", "options": {...}}        a Task class or function of the user's
    {"file": "experiment.py", "name": "Name", "options": ...}  the same, defined in an experiment file
    {"made": "Name"}                                           made by the experiment file, under no name of its own
    {"unsaved": "Name"}                                        defined in a prompt or a notebook

A file reference keeps its absolute path; a run directory holds a copy of the file as well, and the
copy is used where the original is gone. Classes of searchers and schedulers are named likewise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
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


#: Folders of experiment files that this process has loaded code from.
_FOLDERS: set[str] = set()


#: Experiment files that are being read.
_LOADING: list[str] = []


def import_first(folder: str) -> None:
    """Let `folder` come first where modules are looked for, and its modules be its own.

    Two experiments may each have a helper.py beside them: one that another experiment's folder gave is forgotten, and
    imported again from this one. What has imported the other keeps it.
    """
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    others = _FOLDERS - {folder}
    _FOLDERS.add(folder)
    for name, module in list(sys.modules.items()):
        place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if place is None or name.startswith(FILE_MODULE_PREFIX) or name == "__main__":
            continue
        if any(place.startswith(other + os.sep) for other in others) and not place.startswith(folder + os.sep):
            top = name.partition(".")[0]
            if (Path(folder) / f"{top}.py").is_file() or (Path(folder) / top).is_dir():
                del sys.modules[name]


def load_module(path: Path, field: str = "experiment file") -> ModuleType:
    """Execute a Python file as a module of its own, with its folder importable.

    What it prints goes to stderr: stdout is for results. Raises ExperimentError where the file is
    missing or fails.
    """
    path = path.resolve()
    if not path.is_file():
        raise ExperimentError(field, str(path), "must be a Python file" if path.exists() else "no such file")
    name = FILE_MODULE_PREFIX + path.stem
    import_first(str(path.parent))
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExperimentError(field, str(path), "must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _LOADING.append(path.name)
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
    finally:
        _LOADING.pop()
    return module


def check_not_loading() -> None:
    """Raise ExperimentError where an experiment file, while it is read, wants to start a run of its own."""
    if _LOADING:
        expected = 'starts a run when it is read: put that under if __name__ == "__main__":'
        raise ExperimentError("experiment file", _LOADING[-1], expected)


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
    named = task.func if isinstance(task, functools.partial) else task
    return {"made": getattr(named, "__qualname__", None) or type(named).__qualname__}


def class_reference(target: Any) -> dict[str, Any]:
    """Where a class or function is found again by its name."""
    module = sys.modules.get(target.__module__)
    name = target.__qualname__
    file = getattr(module, "__file__", None)
    if module is None or file is None or "<locals>" in name or _named(module, name) is not target:
        return {"unsaved": name}
    if module.__name__ == "__main__" or module.__name__.startswith(FILE_MODULE_PREFIX):
        return {"file": str(Path(file).resolve()), "name": name}
    return {"import": f"{module.__name__}:{name}"}


def _named(node: Any, qualified_name: str) -> Any:
    for part in qualified_name.split("."):
        node = getattr(node, part, None)
    return node


def from_reference(reference: Mapping[str, Any], source: Path | None = None) -> Task | FunctionTrainable:
    """The task that a reference names.

    source: a folder with copies of experiment files, used where the original is gone.
    Raises ExperimentError where it cannot be found.
    """
    if "builtin" in reference:
        return task_by_name(reference["builtin"], **reference.get("options", {}))
    found = found_by(reference, "task", source)
    options = _of_their_types(found, reference.get("options", {}))
    try:
        is_task = inspect.isclass(found) and issubclass(found, Task)
        made: Any = found(**options) if is_task else found
    except TypeError as error:
        name = getattr(found, "__qualname__", found)
        raise ExperimentError("task", name, f"no longer takes the recorded options: {error}") from error
    return made  # type: ignore[no-any-return]  # what a user's module holds; Experiment checks it


def found_by(reference: Mapping[str, Any], field: str, source: Path | None = None) -> Any:
    """The class or function that `class_reference` named. Raises ExperimentError naming `field`."""
    if "unsaved" in reference or "made" in reference:
        raise ExperimentError(
            field,
            reference.get("unsaved", reference.get("made")),
            f"was defined in a prompt, a notebook or a function; pass it again: resume(run_dir, {field}=...)",
        )
    if "file" in reference:
        path = Path(reference["file"])
        if not path.is_file() and source is not None:
            path = source / path.name
        found: Any = load_module(path, field)
        name = reference["name"]
    else:
        module_name, name = reference["import"].split(":")
        try:
            found = importlib.import_module(module_name)
        except ImportError as error:
            raise ExperimentError(field, module_name, f"cannot be imported: {error}") from error
    found = _named(found, name)
    if found is None:
        raise ExperimentError(field, name, f"is no longer defined in {reference.get('file', reference.get('import'))}")
    return found


def _of_their_types(cls: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """A task's options as its fields have them: JSON has no paths."""
    fields = {f.name: str(f.type) for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    return {
        name: Path(value) if isinstance(value, str) and "Path" in fields.get(name, "") else value
        for name, value in options.items()
    }


def defined_in(task: Any) -> ModuleType | None:
    """The module that a task's or trainable's code stands in, whatever it is wrapped in."""
    while (inside := _inside(task)) is not None:
        task = inside
    if inspect.ismethod(task):
        task = task.__func__
    if inspect.isfunction(task):
        task = inspect.unwrap(task)
    elif not inspect.isclass(task):
        task = type(task)
    return sys.modules.get(task.__module__)


def _inside(task: Any) -> Any:
    """What a partial, or one of Ray Tune's wrappers (with_parameters, with_resources), is made of; None for others."""
    if isinstance(task, functools.partial):
        return task.func
    if not str(getattr(task, "__module__", "")).startswith("ray.tune."):
        return None
    if inspect.isclass(task):
        return next((base for base in task.__bases__ if base is not object), None)
    held = inspect.getclosurevars(task).nonlocals if inspect.isfunction(task) else {}
    return next((held[name] for name in ("trainable", "func", "fn") if callable(held.get(name))), None)


def code_version(*objects: Any) -> str | None:
    """A digest of the files that the code of these (a task, classes) stands in; None where there is no such file."""
    files = {getattr(defined_in(one), "__file__", None) for one in objects if one is not None}
    digest = hashlib.blake2b(digest_size=8)
    try:
        for file in sorted(str(file) for file in files if file is not None):
            digest.update(Path(file).read_bytes())
    except OSError:
        return None
    return digest.hexdigest() if files - {None} else None


def check_function(function: Any) -> None:
    """Raise ExperimentError unless `function` can be called as `function(config)`."""
    try:
        inspect.signature(function).bind({})
    except (TypeError, ValueError):
        raise ExperimentError(
            "task", getattr(function, "__qualname__", function), "a function trainable takes one argument, the config"
        ) from None
