"""Modules imported from a run's copy of its code, instead of from the files that they came from.

A copied module is executed from the copy's text, but says that it is its original (`__file__`, tracebacks): what lies
beside the original is found where it was. While `in_use`, every import of one of the code's modules is answered so.
"""

from __future__ import annotations

import contextlib
import importlib.util
import linecache
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytune_hpo.experiment.project import Code, SourceFile

#: Names of the modules that experiment files become.
FILE_MODULE_PREFIX = "raytune_hpo_file_"


class _Loader(InspectLoader):
    def __init__(self, code: Code, file: SourceFile) -> None:
        self.file, self.path = file, code.original(file)
        self._text = code.texts[file.path]

    def is_package(self, fullname: str) -> bool:
        return self.file.package

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._text)

    def get_code(self, fullname: str) -> CodeType:
        compiled: CodeType = self.source_to_code(self._text, self.path)
        return compiled

    def exec_module(self, module: ModuleType) -> None:
        # So that tracebacks and inspect show the lines that were executed. Without a time it is never read again.
        lines = self.get_source("").splitlines(keepends=True)
        linecache.cache[self.path] = (len(self._text), None, lines, self.path)
        super().exec_module(module)


class CopiedModules(MetaPathFinder):
    """Answers imports of a code's modules."""

    def __init__(self, code: Code) -> None:
        self.code = code
        self.installed = False
        self.files = {file.module: file for file in code.files}
        #: Packages without an __init__, which have no file: name -> folder.
        self.namespaces: dict[str, str] = {}
        for file in code.files:
            folder = Path(code.original(file)).parent.parent if file.package else Path(code.original(file)).parent
            parent = file.module.rpartition(".")[0]
            while parent and parent not in self.files:
                self.namespaces[parent] = str(folder)
                parent, folder = parent.rpartition(".")[0], folder.parent

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is not None:
            loader = _Loader(self.code, file)
            places = [os.path.dirname(loader.path)] if file.package else None
            return importlib.util.spec_from_file_location(
                fullname, loader.path, loader=loader, submodule_search_locations=places
            )
        if fullname in self.namespaces:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [self.namespaces[fullname]]
            return spec
        return None


def install(code: Code) -> None:
    """For the rest of this process, or until `withdraw`."""
    if any(finder.code == code for finder in _finders()):
        return
    finder = CopiedModules(code)
    finder.installed = True
    sys.meta_path.insert(0, finder)
    for name in {*finder.files, *finder.namespaces} - {"__main__"}:
        sys.modules.pop(name, None)
    sys.path.extend(path for path in code.import_paths() if path not in sys.path)


def withdraw() -> None:
    """What was installed answers no more: another experiment is read in this process."""
    for finder in [f for f in _finders() if f.installed]:
        sys.meta_path.remove(finder)
        for name in finder.files:
            if name in sys.modules and is_copy(sys.modules[name]):
                del sys.modules[name]
        for name in finder.namespaces:
            sys.modules.pop(name, None)


def adopt(made: Any) -> None:
    """Let a module be found that was not imported here: what travelled of it, as a function or class with all that it
    uses, is its content.

    What is pickled by name, as for the processes of a DataLoader, is looked up there.
    """
    name = made.__module__
    if name in sys.modules or not any(name in finder.files for finder in _finders()):
        return
    functions = (
        [made] if isinstance(made, FunctionType) else [f for f in vars(made).values() if isinstance(f, FunctionType)]
    )
    module = ModuleType(name)
    for function in functions:
        vars(module).update((key, value) for key, value in function.__globals__.items() if not key.startswith("__"))
    vars(module)[made.__name__] = made
    sys.modules[name] = module


@contextlib.contextmanager
def in_use(code: Code) -> Iterator[None]:
    """A context in which imports are answered from the copy; afterwards modules and import paths are what they were."""
    finder = CopiedModules(code)
    names = {*finder.files, *finder.namespaces} - {"__main__"}
    lines = dict(linecache.cache)
    sys.meta_path.insert(0, finder)
    try:
        with _apart(code, names):
            yield
    finally:
        sys.meta_path.remove(finder)
        linecache.cache.clear()
        linecache.cache.update(lines)


@contextlib.contextmanager
def originals_in_use(code: Code) -> Iterator[None]:
    """A context in which imports are answered from the code's own files, where they are, and from no others that are
    called like them; afterwards as after `in_use`."""
    originals = {file.module: code.original(file) for file in code.files}
    modules = {name: sys.modules.get(name) for name in originals}
    others = {name for name, module in modules.items() if getattr(module, "__file__", None) != originals[name]}
    with _apart(code, others - {"__main__"}):
        yield


@contextlib.contextmanager
def _apart(code: Code, names: set[str]) -> Iterator[None]:
    """Modules of these names, and what else comes from the project, are the context's own."""
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    known, paths = set(sys.modules), list(sys.path)
    if code.files:
        sys.path[:0] = [path for path in code.import_paths() if path not in sys.path]
    try:
        yield
    finally:
        sys.path[:] = paths
        inside = code.root.rstrip(os.sep) + os.sep
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name in names or (name not in known and isinstance(file, str) and file.startswith(inside)):
                del sys.modules[name]
        sys.modules.update(before)


def _finders() -> Iterator[CopiedModules]:
    return (finder for finder in sys.meta_path if isinstance(finder, CopiedModules))


def serves(name: str, path: Path) -> bool:
    """Whether a file's module is answered from a copy."""
    files = ((f, f.files.get(name)) for f in _finders())
    return any(file is not None and finder.code.original(file) == str(path) for finder, file in files)


def text_of(path: str) -> bytes | None:
    """What a module is executed from that says it is this file; None where that is no copy."""
    for finder in _finders():
        for file in finder.code.files:
            if finder.code.original(file) == path:
                return finder.code.texts[file.path]
    return None


def is_copy(module: ModuleType) -> bool:
    spec = getattr(module, "__spec__", None)
    return spec is not None and isinstance(spec.loader, _Loader)
