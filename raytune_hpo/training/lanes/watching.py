"""Modules, dicts and plain objects that note which of their attributes and items are read."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

from torch import nn

from raytune_hpo.training.lanes.value_keys import local_functions, recordable

Step = tuple[Hashable, ...]
Chain = tuple[Hashable, ...]  # a module's path, then steps: ("attr", name), ("item", key), ("cell", variable), ...

#: What torch keeps of a module: the structure has it in its own terms.
_OF_TORCH = frozenset({*vars(nn.Module()), *dir(nn.Module)}) - {"forward"}
_OF_RNN = frozenset({"_flat_weights", "_flat_weight_refs"})  # its parameters once more, which it keeps in step itself


def plain_names(module: nn.Module, kind: type[nn.Module]) -> list[str]:
    """The attributes of a module of class `kind` that are neither parameters, buffers nor submodules."""
    return [name for name in _own(module) if not _is_kept_otherwise(module, kind, name)]


def _is_kept_otherwise(module: nn.Module, kind: type[nn.Module], name: str) -> bool:
    if name in _OF_TORCH or (kind is nn.Dropout and name == "p"):  # a dropout's rate is a number a lane
        return True
    if name in _OF_RNN and issubclass(kind, nn.RNNBase):
        return True
    own = _own(module)
    return any(name in own[held] for held in ("_parameters", "_buffers", "_modules"))


def _own(value: Any) -> dict[str, Any]:
    """An object's attributes, read past whatever notes reads."""
    own: dict[str, Any] = object.__getattribute__(value, "__dict__")
    return own


class Recorder:
    """reads: what was asked for while a forward ran, but for what the same forward had written before."""

    def __init__(self) -> None:
        self.reads: dict[Chain, None] = {}
        self._modules: dict[int, tuple[nn.Module, type[nn.Module]]] = {}
        self._chains: dict[int, list[Chain]] = {}  # an object that notes -> the chains that lead to it
        self._replaced: dict[int, Any] = {}  # an object -> what notes in its place
        self._kept: list[Any] = []  # so that no id is taken again
        self._cells: list[tuple[types.CellType, Any]] = []
        self._kinds: dict[type, type] = {}
        self._written: set[tuple[int, Step]] = set()
        self._active = False

    def passed(self, run: Callable[[nn.Module], Any], model: nn.Module) -> Any:
        """A forward whose reads are noted."""
        self._written.clear()
        self._active = True
        try:
            return run(model)
        finally:
            self._active = False

    def read(self, noting: Any, *steps: Step) -> None:
        for step in steps if self._active else ():
            if (id(noting), step) not in self._written:
                for chain in self._chains.get(id(noting), ()):
                    self.reads.setdefault((*chain, step))

    def wrote(self, noting: Any, step: Step) -> None:
        if self._active:
            self._written.add((id(noting), step))

    def read_attribute(self, noting: Any, name: str) -> None:
        if not self._active:
            return
        module = self._modules.get(id(noting))
        if name == "__dict__":
            if sys._getframe(2).f_globals.get("__name__", "").startswith("torch.nn."):
                return  # as torch looks for a parameter
            own = plain_names(*module) if module is not None else list(_own(noting))
            self.read(noting, ("names",), *(("attr", own_name) for own_name in own))
        elif module is None or not _is_kept_otherwise(*module, name):
            self.read(noting, ("attr", name))

    @contextlib.contextmanager
    def watching(self, modules: Mapping[str, nn.Module], kinds: Mapping[str, type[nn.Module]]) -> Iterator[None]:
        """Let these modules note what is read of them. The modules stay so; closures, which others share, do not."""
        try:
            for path, module in modules.items():
                kind = kinds[path]
                self._modules[id(module)], self._chains[id(module)] = (module, kind), [(path,)]
                for number, (name, function) in enumerate(local_functions(kind)):
                    self._watch_cells(function, (path, ("method", number, name)))
                own = vars(module)
                for name in plain_names(module, kind):
                    own[name] = self._watched(own[name], (path, ("attr", name)))
            for path, module in modules.items():
                object.__setattr__(module, "__class__", self._noting(kinds[path]))
            yield
        finally:
            for cell, value in reversed(self._cells):
                cell.cell_contents = value

    def _watched(self, value: Any, chain: Chain) -> Any:
        """What takes a value's place and notes what is read of it; the value itself where only the whole can be
        compared."""
        if isinstance(value, types.FunctionType):
            self._watch_cells(value, chain)
            return value
        if id(value) in self._replaced:
            noting = self._replaced[id(value)]
            if chain not in self._chains[id(noting)]:
                self._chains[id(noting)].append(chain)
            return noting
        if not recordable(value):
            return value
        kind: type = type(value)
        if kind is types.SimpleNamespace:
            noting = self._noting(kind)(**vars(value))
        elif kind in (dict, types.MappingProxyType):
            noting = self._noting(dict)(value)
        else:
            noting = value
        self._kept += [value, noting]
        self._replaced[id(value)] = self._replaced[id(noting)] = noting
        self._chains[id(noting)] = [chain]
        if isinstance(noting, dict):
            for key in list(dict.keys(noting)):
                item = self._watched(dict.__getitem__(noting, key), (*chain, ("item", key)))
                dict.__setitem__(noting, key, item)
        if kind not in (dict, types.MappingProxyType):
            own = vars(noting)
            for name in list(own):
                own[name] = self._watched(own[name], (*chain, ("attr", name)))
        if noting is value:
            object.__setattr__(value, "__class__", self._noting(kind))
        return noting

    def _watch_cells(self, function: types.FunctionType, chain: Chain) -> None:
        if id(function) in self._replaced:
            return
        self._kept.append(function)
        self._replaced[id(function)] = function
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # not assigned yet
                value = cell.cell_contents
                noting = self._watched(value, (*chain, ("cell", name)))
                if noting is not value:
                    self._cells.append((cell, value))
                    cell.cell_contents = noting

    def _noting(self, kind: type) -> type:
        if kind not in self._kinds:
            members = {
                **_noting_attributes(kind, self),
                **(_noting_items(kind, self) if issubclass(kind, dict) else {}),
            }
            named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
            self._kinds[kind] = types.new_class(kind.__name__, (kind,), exec_body=lambda ns: ns.update(members | named))
        return self._kinds[kind]


def _noting_attributes(kind: Any, recorder: Recorder) -> dict[str, Any]:
    def get(noting: Any, name: str) -> Any:
        recorder.read_attribute(noting, name)
        return kind.__getattribute__(noting, name)

    def put(noting: Any, name: str, value: Any) -> None:
        kind.__setattr__(noting, name, value)
        recorder.wrote(noting, ("attr", name))

    return {"__getattribute__": get, "__setattr__": put}


def _noting_items(kind: Any, recorder: Recorder) -> dict[str, Any]:
    def of_one(method: str) -> Callable[..., Any]:
        def noted(noting: Any, key: Any, *more: Any) -> Any:
            recorder.read(noting, ("item", key))
            return getattr(kind, method)(noting, key, *more)

        return noted

    def of_keys(method: str) -> Callable[..., Any]:
        def noted(noting: Any) -> Any:
            recorder.read(noting, ("keys",))
            return getattr(kind, method)(noting)

        return noted

    def of_all(method: str) -> Callable[..., Any]:
        def noted(noting: Any, *more: Any) -> Any:
            recorder.read(noting, ("keys",), *(("item", key) for key in dict.keys(noting)))
            return getattr(kind, method)(noting, *more)

        return noted

    def put(noting: Any, key: Any, value: Any) -> None:
        kind.__setitem__(noting, key, value)
        recorder.wrote(noting, ("item", key))

    one = ("__getitem__", "__contains__", "get", "pop", "setdefault")
    every = ("values", "items", "copy", "popitem", "__repr__", "__eq__", "__ne__", "__or__", "__ror__")
    return {
        **{name: of_one(name) for name in one},
        **{name: of_keys(name) for name in ("__iter__", "__len__", "__reversed__", "keys")},
        **{name: of_all(name) for name in every},
        "__setitem__": put,
    }
