"""Experiment files as modules: executed under a name of their own, with their folder importable.

What stands beside them belongs to them: two experiments may each have a helper.py, and one whose files have changed
since it was read is read anew, with its neighbours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import raytune_hpo
from raytune_hpo import checks, tasks
from raytune_hpo.errors import ExperimentError, TaskError
from raytune_hpo.experiment import copied_modules
from raytune_hpo.experiment.copied_modules import FILE_MODULE_PREFIX

#: Folders of experiment files that this process has loaded code from.
_FOLDERS: set[str] = set()
#: Experiment file -> the files that its modules came from, each as it was then: (when and how long, text).
_READ: dict[str, dict[str, tuple[tuple[int, int] | None, bytes]]] = {}


class _Loading(threading.local):
    """names: of the experiment files that this thread is reading."""

    def __init__(self) -> None:
        self.names: list[str] = []


_loading = _Loading()


class _StartsARunError(BaseException):
    """Ends the reading of a file that starts a run; no `except Exception` of the file's is to catch it."""


def import_first(folder: str) -> None:
    """Let `folder` come first where modules are looked for, and its modules be its own.

    One that another experiment's folder gave is forgotten, and imported again from this one. What has imported the
    other keeps it.
    """
    if folder in sys.path:
        sys.path.remove(folder)
    sys.path.insert(0, folder)
    others = _FOLDERS - {folder}
    _FOLDERS.add(folder)
    for name, module in list(sys.modules.items()):
        place = _place(module)
        if place is None or name.startswith(FILE_MODULE_PREFIX) or name == "__main__":
            continue
        nearest = max((f for f in _FOLDERS if place.startswith(f + os.sep)), key=len, default=folder)
        if nearest in others:
            top = name.partition(".")[0]
            if (Path(folder) / f"{top}.py").is_file() or (Path(folder) / top).is_dir():
                del sys.modules[name]


def _place(module: ModuleType) -> str | None:
    """The file of a module, or the folder of a package without one; None where it has neither.

    A package that an import left behind when it failed may not know its folders any more: its parent is gone. (Ray's
    serve is one, where some of what it needs is installed.)
    """
    try:
        return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    except Exception:
        return None


def load_module(path: Path, field: str = "experiment file") -> ModuleType:
    """Execute a Python file as a module of its own, with its folder importable; the run's copy of it where one is in
    use (`copied_modules`).

    What it prints goes to stderr: stdout is for results. A run that the file starts while it is read is not started:
    the reading ends there, which is said. Raises ExperimentError where the file is missing or fails.
    """
    path = path.resolve()
    name = FILE_MODULE_PREFIX + path.stem
    copied = copied_modules.serves(name, path)
    if not copied and not path.is_file():
        raise ExperimentError(field, str(path), "must be a Python file" if path.exists() else "no such file")
    if path.parent.is_dir():
        import_first(str(path.parent))
    if not copied:
        copied_modules.withdraw()
        _forget_what_changed(path)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path) and copied_modules.is_copy(known) == copied:
        return known
    spec = importlib.util.find_spec(name) if copied else importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ExperimentError(field, str(path), "must be a Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr), reading(path.name):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failed(field, path, error) from error
    if not copied:
        _READ[str(path)] = {file: (_stamp(file), _text(file)) for file in _files_below(path.parent)}
    return module


def import_by_name(name: str) -> ModuleType:
    """As `importlib.import_module`, of a module that may start a run when it is executed: see `load_module`."""
    if name in sys.modules:
        return sys.modules[name]
    parent, _, child = name.rpartition(".")
    above = importlib.import_module(parent) if parent else None
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return importlib.import_module(name)  # which says what is wrong
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with reading(name):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    if above is not None:
        setattr(above, child, module)
    return sys.modules[name]


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """While a file is executed for what it defines: a run that it starts ends that; what is defined by then counts."""
    _loading.names.append(name)
    try:
        yield
    except _StartsARunError:
        text = 'starts a run where it is read; that run is not started: put it under if __name__ == "__main__":'
        print(f"raytune-hpo: {name} {text}", file=sys.stderr)
    finally:
        _loading.names.pop()


def check_not_loading() -> None:
    """Called where a run begins: ends the reading of the file that wants to begin it."""
    if _loading.names:
        raise _StartsARunError


def _files_below(folder: Path) -> list[str]:
    """Of the modules that came from a folder."""
    inside = str(folder) + os.sep
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [file for file in files if isinstance(file, str) and file.startswith(inside) and "site-packages" not in file]


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _text(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError:
        return b""


def as_read(file: str) -> bytes | None:
    """The text that a module of an experiment was read from, whatever the file holds by now; None of any other."""
    return next((files[file][1] for files in reversed(_READ.values()) if file in files), None)


def _forget_what_changed(path: Path) -> None:
    """If a file of this experiment has changed since it was read, its modules are imported anew, all of them: those
    that have not changed may hold what the others defined."""
    before = _READ.get(str(path), {})
    if all(_stamp(file) == stamp for file, (stamp, _) in before.items()):
        return
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) in before and name != "__main__":
            del sys.modules[name]
    importlib.invalidate_caches()
    del _READ[str(path)]


def _failed(field: str, path: Path, error: BaseException) -> ExperimentError:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    if isinstance(error, SyntaxError):
        return ExperimentError(field, str(path), f"{error.msg} (line {error.lineno})")
    where = f"line {lines[-1]}" if lines else "no line"
    if isinstance(error, ImportError) and "relative import" in str(error):
        return ExperimentError(field, str(path), f"is of a package ({error}): run it as python -m PACKAGE.{path.stem}")
    if isinstance(error, TaskError):
        placed = error.where if ", line " in error.where else f"{error.where} ({path.name}, {where})"
        return TaskError(placed, error.text)
    if isinstance(error, ExperimentError):
        return ExperimentError(error.field, error.value, f"{error.expected} ({path.name}, {where})")
    return ExperimentError(field, str(path), f"fails with {_explained(error)} ({where})")


def _explained(error: BaseException) -> str:
    """`TypeError: ...`, with the nearest field where one of a record's does not exist."""
    text = f"{type(error).__name__}: {error}"
    wrong = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    record = None if wrong is None else getattr(raytune_hpo, wrong[1], getattr(tasks, wrong[1], None))
    if wrong is None or not dataclasses.is_dataclass(record):
        return text.replace(".__init__()", "()")
    if record is raytune_hpo.Task:
        text = text.replace(".__init__()", "()")
        return f"{text}: the task's class has no such field; is @dataclass(frozen=True) over it?"
    if wrong[2] == "log" and wrong[1] in ("Float", "Int"):
        return f'{text.split(".", maxsplit=1)[0]}(log=...): no such field; write scale="log"'
    names = [f.name for f in dataclasses.fields(record)]
    return f"{text.split('.', maxsplit=1)[0]}({wrong[2]}=...): {checks.no_such('field', wrong[2], names)}"
