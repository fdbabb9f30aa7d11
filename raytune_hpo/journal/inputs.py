"""What a task's models take, on record: the arrays of a batch as a tree, each with its shape and type.

    {"of": "x", "tree": {"shape": [64], "dtype": "float32"}}
    {"of": "x", "tree": {"dict": [["ids", {"shape": [12], "dtype": "int64"}], ["mask", {...}]]}}

A record may be a stranger's: it is read strictly, and of limited size.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Annotated, Any

from raytune_hpo.journal.codec import Coded, MalformedError

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
DEEPEST, MOST_ARRAYS, LONGEST_NAME, MOST_NUMBERS = 16, 1000, 200, 2**31


@dataclass(frozen=True)
class Leaf:
    """An array. shape: of one sample, None for an axis of any size; dtype: torch's name for its type."""

    shape: tuple[int | None, ...]
    dtype: str

    @property
    def described(self) -> str:
        sizes = ["N", *("any" if size is None else str(size) for size in self.shape)]
        return f"{self.dtype} [{', '.join(sizes)}]"


@dataclass(frozen=True)
class Inputs:
    """of: "x", the x of a `Split`, or "batch", the whole batch of data that are none. tree: `Leaf`s in dicts, tuples,
    named tuples and lists. given: the names of those that a prediction needs; None is all."""

    of: str
    tree: Any
    given: tuple[str, ...] | None = None

    def all(self) -> dict[str, Leaf]:
        """Every array by its name: "ids", "a.b", "0"; "" of one that is no tree."""
        return dict(named_leaves(self.tree))

    def needed(self) -> dict[str, Leaf]:
        """Those that a prediction needs, in the order in which an exported program takes them."""
        found = self.all()
        return found if self.given is None else {name: found[name] for name in self.given}


def named_leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(name, leaf) of each leaf of a tree, in order."""
    if tree is None:
        return
    names = _names(tree)
    if names is None:
        yield prefix, tree
        return
    for name, value in zip(names, tree.values() if isinstance(tree, Mapping) else tree, strict=True):
        yield from named_leaves(value, f"{prefix}.{name}" if prefix else name)


def _names(tree: Any) -> list[str] | None:
    """What its parts are called; None of a leaf."""
    if isinstance(tree, Mapping):
        return [str(key) for key in tree]
    if isinstance(tree, list | tuple):
        return list(getattr(tree, "_fields", None) or map(str, range(len(tree))))
    return None


# JSON ---------------------------------------------------------------------------------------------


def written(inputs: Inputs) -> dict[str, Any]:
    """As plain JSON data."""
    found = {"of": inputs.of, "tree": _written(inputs.tree)}
    return found if inputs.given is None else {**found, "given": list(inputs.given)}


def _written(tree: Any) -> Any:
    if tree is None:
        return None
    if isinstance(tree, Leaf):
        return {"shape": list(tree.shape), "dtype": tree.dtype}
    if isinstance(tree, Mapping):
        return {"dict": [[key, _written(value)] for key, value in tree.items()]}
    if hasattr(tree, "_fields"):
        return {"named": [[name, _written(value)] for name, value in zip(tree._fields, tree, strict=True)]}
    return {"list" if isinstance(tree, list) else "tuple": [_written(value) for value in tree]}


def read(data: Any, where: str) -> Inputs:
    """The inverse of `written`. Raises MalformedError."""
    if not isinstance(data, dict) or not {"of", "tree"} <= data.keys() <= {"of", "tree", "given"}:
        raise MalformedError(where, data, "must be an object with of, tree and given")
    if data["of"] not in ("x", "batch"):
        raise MalformedError(f"{where}.of", data["of"], "must be x or batch")
    inputs = Inputs(data["of"], _read(data["tree"], f"{where}.tree", DEEPEST))
    names = [name for name, _ in named_leaves(inputs.tree)]
    if not 0 < len(names) <= MOST_ARRAYS or len(set(names)) < len(names):
        raise MalformedError(
            f"{where}.tree", data["tree"], f"must hold 1 to {MOST_ARRAYS} arrays, each of its own name"
        )
    if "given" not in data:
        return inputs
    given = data["given"]
    if not isinstance(given, list) or not given or not all(isinstance(n, str) and n in names for n in given):
        raise MalformedError(f"{where}.given", given, "must be a list of names of arrays of the tree")
    return Inputs(inputs.of, inputs.tree, tuple(dict.fromkeys(given)))


def _read(data: Any, where: str, deepest: int) -> Any:
    if data is None:
        return None
    if not isinstance(data, dict) or deepest == 0:
        raise MalformedError(where, data, f"must be an object, at most {DEEPEST} in each other")
    if data.keys() == {"shape", "dtype"}:
        return _read_leaf(data, where)
    kind, items = next(iter(data.items())) if len(data) == 1 else ("", None)
    if kind not in ("dict", "named", "tuple", "list") or not isinstance(items, list):
        raise MalformedError(where, data, "must be an array, a dict, a named tuple, a tuple or a list")
    if kind in ("tuple", "list"):
        parts = [_read(item, f"{where}.{i}", deepest - 1) for i, item in enumerate(items)]
        return parts if kind == "list" else tuple(parts)
    found: dict[Any, Any] = {}
    for item in items:
        if not isinstance(item, list) or len(item) != 2 or not _is_key(item[0], kind) or item[0] in found:
            raise MalformedError(where, item, "must be a name, that no other has, and an array or a tree of arrays")
        found[item[0]] = _read(item[1], f"{where}.{item[0]}", deepest - 1)
    return found if kind == "dict" else named(found)


def named(parts: Mapping[str, Any]) -> Any:
    """A named tuple of these parts."""
    kind: Any = namedtuple("Parts", list(parts))  # type: ignore[misc]  # fields that only a run knows
    return kind(*parts.values())


def _is_key(key: Any, kind: str) -> bool:
    if type(key) is int and kind == "dict":
        return abs(key) < 2**31
    if not isinstance(key, str) or len(key) > LONGEST_NAME or not key.isprintable():
        return False
    return kind == "dict" or (key.isidentifier() and not key.startswith("_") and not iskeyword(key))


def _read_leaf(data: dict[str, Any], where: str) -> Leaf:
    shape, dtype = data["shape"], data["dtype"]
    if not isinstance(shape, list) or not all(n is None or (type(n) is int and 0 <= n < 2**31) for n in shape):
        raise MalformedError(f"{where}.shape", shape, "must be a list of sizes, null for any")
    if math.prod(n or 1 for n in shape) > MOST_NUMBERS:
        raise MalformedError(f"{where}.shape", shape, "is more than a sample can be")
    if dtype not in DTYPES:
        raise MalformedError(f"{where}.dtype", dtype, f"must be one of {', '.join(DTYPES)}")
    return Leaf(tuple(shape), dtype)


#: As a field of an event.
Recorded = Annotated[Inputs, Coded(written, read)]
