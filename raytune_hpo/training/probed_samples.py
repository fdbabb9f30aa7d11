"""A few samples of a data set, read and collated, and whether two readings came out the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.training.data import Array
from raytune_hpo.training.trees import Tree, leaves, mapped, structure


@dataclass(frozen=True)
class Probe:
    """shapes: of each sample, by leaf. tree: all of them, collated. ends: where the global generators stood afterwards
    that had moved: one that was drawn from stands elsewhere after another seed, one that a sample seeds itself does
    not."""

    shapes: list[Any]
    tree: Tree
    ends: tuple[int, ...]


def probed(
    read: Callable[[int], Any], collate: Callable[[Sequence[Any]], Tree], rows: Sequence[int], seed: int
) -> Probe:
    """seed: of the global generators, which are put back."""
    import torch

    from raytune_hpo.training.random_states import OwnRandomStates

    with OwnRandomStates(seed).entered():
        before = _draw_marks(torch)
        samples = [read(row) for row in rows]
        shapes = [shapes_of(sample) for sample in samples]
        tree = collate(samples)
        after = _draw_marks(torch)
    return Probe(shapes, tree, tuple(b for a, b in zip(before, after, strict=True) if a != b))


def as_array(leaf: Any) -> Array:
    """A tensor or array of a batch as an array."""
    if hasattr(leaf, "detach"):
        leaf = leaf.detach().cpu()
        leaf = leaf.float() if str(leaf.dtype) == "torch.bfloat16" else leaf
        found: Array = leaf.numpy()
        return found
    return np.asarray(leaf)


def shapes_of(sample: Any) -> Any:
    """Equal for two samples whose arrays are of the same shapes, leaf by leaf."""
    return mapped(lambda leaf: list(leaf.shape) if hasattr(leaf, "shape") else type(leaf).__name__, sample)


def equal(one: Tree, other: Tree) -> bool:
    if structure(one) != structure(other):
        return False
    return all(_same(a, b) for a, b in zip(leaves(one), leaves(other), strict=True))


def _same(one: Any, other: Any) -> bool:
    if not hasattr(one, "shape") or not hasattr(other, "shape"):
        return type(one) is type(other) and (not isinstance(one, str | bytes | int | float) or one == other)
    a, b = as_array(one), as_array(other)
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _draw_marks(torch: Any) -> tuple[int, ...]:
    """The state of each global generator, as a number."""
    name, keys, position, *_ = np.random.get_state()
    return (
        hash(random.getstate()),
        hash((name, np.asarray(keys).tobytes(), position)),
        hash(torch.get_rng_state().numpy().tobytes()),
    )
