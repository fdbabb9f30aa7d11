"""Keys of values: two values of equal keys are the same to a forward that reads them.

Numbers compare with their type, tensors and arrays by content, containers and objects part by part. What Python makes
anew with every call of `build_model`, its lambdas, local functions and local classes, compares by its code and by what
the code closes over. What no key says anything about is equal to itself alone (`Same`).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import pickle
import sys
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn


class Same:
    """An object that is equal to nothing but itself; kept, so that no other takes its id."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class Hashed:
    """A large key, hashed once."""

    def __init__(self, value: Hashable) -> None:
        self.value = value
        self._hash = hash(value)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Hashed) and self._hash == other._hash and self.value == other.value)

    def __hash__(self) -> int:
        return self._hash


ABSENT = "(absent)", Same(object())  # the key of an attribute that is not there
_PLAIN = (str, bytes, int, bool, complex, type(None), type(Ellipsis), torch.dtype, torch.device, torch.layout)
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that Python code has made
_NAMES = (str, bytes, int, bool, float, type(None), enum.Enum, type)


class Keys:
    """Keys of one model's values. modules, weights: what is in its tree, id -> path or name: such a thing is its place
    there. `modules_met`: the paths that values have led to; `held`: the weights that are in values, where nothing can
    replace them."""

    def __init__(self, modules: Mapping[int, str], weights: Mapping[int, str]) -> None:
        self._modules, self._weights = modules, weights
        self._open: dict[int, int] = {}
        self._in_function = 0
        self.modules_met: set[str] = set()
        self.held: set[str] = set()

    def of(self, value: Any, *, recorded: bool = False) -> Hashable:
        """recorded: of a container whose reads are recorded, at the top or in a closure, its class alone."""
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            return type(value), value
        if isinstance(value, float):
            return type(value), repr(value)
        if recorded and recordable(value):
            return "recorded", class_key(type(value), self)
        if id(value) in self._open:
            return "cycle", self._open[id(value)]
        self._open[id(value)] = len(self._open)
        try:
            return self._of_object(value, recorded)
        finally:
            del self._open[id(value)]

    def _of_object(self, value: Any, recorded: bool) -> Hashable:  # noqa: PLR0911, PLR0912  # one answer a kind
        if isinstance(value, torch.Tensor):
            return self._of_tensor(value)
        if isinstance(value, nn.Module) and id(value) in self._modules:
            path = self._modules[id(value)]
            if not self._in_function:
                self.modules_met.add(path)
            return "module", path
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return "array", value.shape, self.of(value.ravel().tolist())
            return "array", value.shape, str(value.dtype), _digest(np.ascontiguousarray(value))
        if isinstance(value, list | tuple):
            return class_key(type(value), self), tuple(self.of(item) for item in value)
        if isinstance(value, set | frozenset):
            return class_key(type(value), self), frozenset(self.of(item) for item in value)
        if isinstance(value, Mapping):
            items = tuple((self.of(k), self.of(v)) for k, v in value.items())
            return class_key(type(value), self), items, self._of_vars(value)
        if isinstance(value, type):
            return class_key(value, self)
        if isinstance(value, enum.Enum):
            return class_key(type(value), self), value.name
        if isinstance(value, types.FunctionType):
            return self.of_function(value, recorded=recorded)
        if isinstance(value, types.MethodType):
            return "method", self.of(value.__func__), self.of(value.__self__)
        if isinstance(value, functools.partial):
            return "partial", self.of(value.func), self.of(value.args), self.of(value.keywords)
        if callable(value) and _is_importable(value):
            return Same(value)
        if type(value).__flags__ & _HEAP_TYPE and hasattr(value, "__dict__"):
            return class_key(type(value), self), self._of_vars(value)
        return self._pickled(value)

    def _of_tensor(self, value: torch.Tensor) -> Hashable:
        if id(value) in self._weights:
            if not self._in_function:
                self.held.add(self._weights[id(value)])
            return "weight", self._weights[id(value)]
        return "tensor", tensor_key(value)

    def _of_vars(self, value: Any) -> Hashable:
        return tuple((name, self.of(item)) for name, item in _attributes(value))

    @staticmethod
    def _pickled(value: Any) -> Hashable:
        try:
            return type(value), pickle.dumps(value)
        except Exception:  # whatever an object raises that cannot be pickled
            return Same(value)

    def of_function(self, function: types.FunctionType, *, recorded: bool = False) -> Hashable:
        """A module's function is itself; a local one its code, defaults and closure, in the globals it runs in."""
        if _is_importable(function):
            return Same(function)
        self._in_function += 1  # recording tells whether a forward uses what a function holds on to
        try:
            cells = tuple((name, self.of(value, recorded=recorded)) for name, value in cells_of(function))
            defaults = self.of(function.__defaults__), self.of(function.__kwdefaults__)
        finally:
            self._in_function -= 1
        return function.__code__, Same(function.__globals__), defaults, cells


def cells_of(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """(name, value) of what a function closes over, but its own class."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            try:
                yield name, cell.cell_contents
            except ValueError:  # not assigned yet
                yield name, None


def class_key(kind: type, keys: Keys) -> Hashable:
    """A class that can be imported is itself. One made inside a function: its names and its functions' code.

    What its functions but `__init__` close over is not in it (`local_functions`), nor are its other attributes.
    """
    if _is_importable(kind):
        return kind
    functions = tuple((name, f.__code__, Same(f.__globals__)) for name, f in local_functions(kind))
    return kind.__module__, kind.__qualname__, functions, tuple(class_key(base, keys) for base in kind.__bases__)


def local_functions(kind: type) -> Iterator[tuple[str, types.FunctionType]]:
    """(name, function) of a class that was made inside a function, and of its bases that were, but `__init__`."""
    for cls in kind.__mro__:
        if _is_importable(cls):
            continue
        for name, member in vars(cls).items():
            for part, function in _functions_in(member):
                if name != "__init__":
                    yield f"{name}{part}", function


def class_data(kind: type, name: str) -> Any:
    """A plain attribute of a class that was made inside a function; raises KeyError where there is none."""
    for cls in kind.__mro__:
        if name in vars(cls):
            if _is_importable(cls) or any(True for _ in _functions_in(vars(cls)[name])):
                break
            return vars(cls)[name]
    raise KeyError(name)


def _functions_in(member: Any) -> Iterator[tuple[str, types.FunctionType]]:
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if isinstance(member, property):
        for part in ("fget", "fset"):
            found = getattr(member, part)
            if isinstance(found, types.FunctionType):
                yield f".{part}", found
    elif isinstance(member, functools.cached_property):
        member = member.func
    while isinstance(member, types.FunctionType):
        yield "", member
        member = getattr(member, "__wrapped__", None)


def _is_importable(value: Any) -> bool:
    """Whether a module's own name for it leads back to it."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in getattr(value, "__qualname__", "<locals>").split("."):
        found = getattr(found, part, None)
    return found is value


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from vars(value).items() if hasattr(value, "__dict__") else ()
    for cls in type(value).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def tensor_key(tensor: torch.Tensor) -> Hashable:
    """Type, shape and a hash of the content."""
    if tensor.is_sparse or tensor.is_quantized or tensor.device.type == "meta":
        return Same(tensor)
    plain = tensor.detach().cpu().contiguous()
    return tensor.dtype, tuple(tensor.shape), str(tensor.device), _digest(plain.view(-1).view(torch.uint8).numpy())


def _digest(array: np.ndarray[Any, Any]) -> bytes:
    return hashlib.blake2b(array.reshape(-1).view(np.uint8).data if array.size else b"", digest_size=16).digest()


def recordable(value: Any) -> bool:
    """Whether the reads of a container can be recorded one by one: dicts, and objects with attributes."""
    kind = type(value)
    if kind is types.SimpleNamespace:
        return True
    if isinstance(value, dict | types.MappingProxyType):
        if not all(isinstance(key, _NAMES) for key in value):
            return False
        if kind in (dict, types.MappingProxyType):
            return True
    for cls in kind.__mro__:
        if cls in (object, dict):
            continue
        if not cls.__flags__ & _HEAP_TYPE or not {"__getattribute__", "__slots__", "__call__"}.isdisjoint(vars(cls)):
            return False
    return hasattr(value, "__dict__") and not isinstance(value, torch.Tensor | nn.Module | type | enum.Enum)
