"""Trees: arrays or tensors in nested dicts, tuples and lists, as a task's data and batches are. No torch here.

A leaf is whatever is none of these containers; None is no leaf and stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Tree = Any
"""A leaf, or a dict, tuple, named tuple or list of trees."""


def mapped(change: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree with `change(leaf, ...)` in place of each leaf; of others of its structure, their leaves come along."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: mapped(change, value, *(other[key] for other in others)) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        items = [mapped(change, *parts) for parts in zip(tree, *others, strict=True)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return change(tree, *others)


def paths(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of each leaf, in order: ".x", ".x['tokens']", "[0]"."""
    if tree is None:
        return
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from paths(value, f"{prefix}[{key!r}]")
    elif isinstance(tree, list | tuple):
        names = getattr(tree, "_fields", None)
        for i, value in enumerate(tree):
            yield from paths(value, f"{prefix}.{names[i]}" if names else f"{prefix}[{i}]")
    else:
        yield prefix, tree


def leaves(tree: Tree) -> list[Any]:
    return [leaf for _, leaf in paths(tree)]


def structure(tree: Tree) -> Any:
    """Equal for two trees whose leaves lie alike."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return "dict", tuple((key, structure(value)) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        return type(tree).__name__, tuple(structure(value) for value in tree)
    return "leaf"
