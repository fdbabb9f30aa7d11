"""What a task's data are made of, and a batch of what somebody wants predicted: `journal.inputs` of data, and back.

split -> inputs_of_split, batch -> inputs_of_batches -> Inputs -> batch_of(Inputs, tensors by name) -> Task.predict
No torch is imported here before there are tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from raytune_hpo.journal.inputs import DTYPES, Inputs, Leaf, named, named_leaves, read, written
from raytune_hpo.training.data import ArraySplit, Batch, Split
from raytune_hpo.training.trees import leaves, mapped, structure

if TYPE_CHECKING:
    import torch


def default_dtype() -> str:
    """What floating-point numbers are given to models as."""
    torch = sys.modules.get("torch")
    return "float32" if torch is None else str(torch.get_default_dtype()).removeprefix("torch.")


def inputs_of_split(split: Any) -> Inputs | None:
    """None of a split whose samples are made one by one, and of one that has no record: arrays of texts, say."""
    if not isinstance(split, ArraySplit):
        return None
    of, tree = ("x", split.x) if isinstance(split, Split) else ("batch", split.tree)
    return _sound(Inputs(of, mapped(lambda leaf: Leaf(tuple(leaf.shape[1:]), _dtype(leaf)), tree)))


def inputs_of_batches(batches: Sequence[Any]) -> Inputs | None:
    """Of batches as a loader makes them, one at least: axes that are of another size in some are of any."""
    first = batches[0]
    of = "x" if isinstance(first, Batch) else "batch"
    trees = [batch.x if of == "x" else batch for batch in batches]
    same = [tree for tree in trees if structure(tree) == structure(trees[0])]
    if not all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves(trees[0])):
        return None

    def leaf_of(leaf: Any, *others: Any) -> Leaf:
        shapes = [tuple(other.shape[1:]) for other in (leaf, *others) if other.ndim == leaf.ndim]
        return Leaf(tuple(a[0] if len(set(a)) == 1 else None for a in zip(*shapes, strict=True)), _dtype(leaf))

    return _sound(Inputs(of, mapped(leaf_of, *same)))


def _dtype(leaf: Any) -> str:
    name = str(leaf.dtype).removeprefix("torch.").lstrip("<>=|")
    return default_dtype() if name.startswith(("float", "bfloat")) else name


def _sound(inputs: Inputs) -> Inputs | None:
    """None of what could not be read back."""
    if any(leaf.dtype not in DTYPES for _, leaf in named_leaves(inputs.tree)):
        return None
    try:
        return read(written(inputs), "inputs")
    except ValueError:
        return None


def batch_of(inputs: Inputs, given: Mapping[str, torch.Tensor]) -> Any:
    """A batch of the tensors `given` by name, [N, ...] each; what a prediction does not need is zeros."""
    import torch

    anything = next(iter(given.values()))

    def found(name: str, leaf: Leaf) -> torch.Tensor:
        if name in given:
            return given[name]
        shape = [1 if size is None else size for size in leaf.shape]
        return torch.zeros((anything.shape[0], *shape), dtype=getattr(torch, leaf.dtype), device=anything.device)

    tree = _filled(inputs.tree, iter([found(name, leaf) for name, leaf in named_leaves(inputs.tree)]))
    return Batch(tree) if inputs.of == "x" else tree


def _filled(tree: Any, values: Any) -> Any:
    """The tree with the next value in place of each leaf."""
    if hasattr(tree, "_fields"):
        return named({name: _filled(part, values) for name, part in zip(tree._fields, tree, strict=True)})
    if isinstance(tree, Mapping):
        return {key: _filled(part, values) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)([_filled(part, values) for part in tree])
    return None if tree is None else next(values)
