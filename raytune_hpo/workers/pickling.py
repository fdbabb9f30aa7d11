"""What keeps a trainable or a task from travelling to another process, in words: the variable, whose, and its type."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

DEEPEST = 12


def culprit(value: Any, travels: Callable[[Any], bool]) -> str | None:
    """ "lock of train() is a _thread.lock": the innermost part of `value` that does not travel; None if it all does.

    travels: whether a value can be pickled.
    """
    if travels(value):
        return None
    found = _innermost(value, travels, "", set(), 0)
    return found or f"a {_type(value)} cannot be pickled"


def _innermost(value: Any, travels: Callable[[Any], bool], name: str, seen: set[int], depth: int) -> str | None:
    seen.add(id(value))
    for part_name, part in _parts(value, name) if depth < DEEPEST else ():
        if id(part) in seen or travels(part):
            continue
        found = _innermost(part, travels, part_name, seen, depth + 1)
        if found is not None:
            return found
    return f"{name} is a {_type(value)}" if name else None


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """What is pickled with a value, and how a person would call it. name: the value's own."""
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, MethodType):
        yield from (("", value.__self__), ("", value.__func__))
    elif isinstance(value, functools.partial):
        yield from _of_partial(value)
    elif inspect.isclass(value):
        for key, part in vars(value).items():
            yield f"{key!r} of class {value.__qualname__}", getattr(part, "__func__", part)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield f"{key!r} in {name or 'a dictionary'}", part
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((name, part) for part in value)
    else:
        yield "", type(value)
        for key, part in getattr(value, "__dict__", {}).items():
            yield f"attribute {key!r} of a {type(value).__qualname__}", part


def _of_function(function: FunctionType) -> Iterator[tuple[str, Any]]:
    owner = f"{function.__qualname__.replace('<locals>.', '')}()"
    for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{key!r}, which {owner} closes over,", cell.cell_contents
        except ValueError:  # it has no value yet
            continue
    for key in sorted(_names(function.__code__)):
        if key in function.__globals__:
            yield f"{key!r}, a global that {owner} uses,", function.__globals__[key]
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield f"a default of {owner}", default
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        yield "", wrapped


def _of_partial(made: functools.partial[Any]) -> Iterator[tuple[str, Any]]:
    function = getattr(made.func, "__qualname__", "the function")
    yield "", made.func
    for number, argument in enumerate(made.args, start=1):
        yield f"argument {number} of {function}()", argument
    for key, argument in made.keywords.items():
        yield f"argument {key!r} of {function}()", argument


def _names(code: CodeType) -> set[str]:
    """Global names that a function's code may use, those of functions inside it too."""
    inside = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inside)


def _type(value: Any) -> str:
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
