"""What somebody wants predicted, held against what the model takes: names, shapes, types; one line for what is wrong.

Notations
    N   samples
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hpo.checks import no_such
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.inputs import Inputs, Leaf, named_leaves

if TYPE_CHECKING:
    import torch

Array = np.ndarray[Any, Any]


class GivenInputs:
    """inputs: the record. given: one array or tensor, or as a batch has them: a dict, tuple or list of such, or a dict
    by the names on record ("a.b"). Arrays in files are read as they are needed. len: the samples.

    Raises ExperimentError.
    """

    def __init__(self, inputs: Inputs, given: Any) -> None:
        self.needed = inputs.needed()
        self.arrays = _by_name(self.needed, set(inputs.all()), given)
        for name, leaf in self.needed.items():
            _check(_field(name), leaf, self.arrays[name])
        sizes = {name: len(array) for name, array in self.arrays.items()}
        if len(set(sizes.values())) > 1:
            raise ExperimentError("inputs", sizes, "must have as many samples each, on the first axis")
        self.samples = next(iter(sizes.values()))

    def __len__(self) -> int:
        return self.samples

    def part(self, start: int, end: int) -> tuple[torch.Tensor, ...]:
        """Samples as tensors of the types on record, in their order. Raises ExperimentError for numbers that do not fit
        into these."""
        return tuple(_tensor(_field(name), leaf, self.arrays[name][start:end]) for name, leaf in self.needed.items())

    def example(self) -> tuple[torch.Tensor, ...]:
        """One sample of ones, shaped as what was given."""
        import torch

        shapes = {name: (1, *self.arrays[name].shape[1:]) for name in self.needed}
        return tuple(torch.ones(shapes[n], dtype=getattr(torch, leaf.dtype)) for n, leaf in self.needed.items())


def _field(name: str) -> str:
    return f"inputs.{name}" if name else "inputs"


def _by_name(needed: Mapping[str, Leaf], known: set[str], given: Any) -> dict[str, Any]:
    """The arrays that are needed; what a batch holds besides may be there, and is left alone."""
    single = len(needed) == 1
    described = ", ".join(f"{name or 'x'}: {leaf.described}" for name, leaf in needed.items())
    if single and not isinstance(given, Mapping | list | tuple):
        return {next(iter(needed)): _array("inputs", given)}
    if single and "" in needed and isinstance(given, list | tuple):  # numbers, or samples
        return {"": _array("inputs", _stacked(given))}
    if single and "" in needed and isinstance(given, Mapping) and len(given) == 1:
        return {"": _array("inputs", next(iter(given.values())))}
    if not isinstance(given, Mapping | list | tuple):
        expected = f"must be a dict or a tuple, as the task's batches are: {described}"
        raise ExperimentError("inputs", type(given).__name__, expected)
    found = dict(named_leaves(given))
    for name in needed:
        if name not in found:
            raise ExperimentError("inputs", sorted(found), f"{name or 'x'!r} is missing; the model takes {described}")
    for name in found:
        if name not in known:
            raise ExperimentError("inputs", name, no_such("input", name, needed))
    return {name: _array(_field(name), found[name]) for name in needed}


def _stacked(given: Any) -> Any:
    try:
        return np.stack([np.asarray(_plain(item)) for item in given]) if len(given) else np.zeros(0)
    except (ValueError, TypeError):  # of several lengths
        raise ExperimentError("inputs", type(given).__name__, "must be one array, [N, ...]") from None


def _plain(value: Any) -> Any:
    """Tensors, on whatever device, and columns of pandas as what numpy takes."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return value.to_numpy() if hasattr(value, "to_numpy") else value


def _array(field: str, value: Any) -> Array:
    try:
        array = _plain(value)
        array = array if isinstance(array, np.ndarray) else np.asarray(array)
    except (ValueError, TypeError):
        raise ExperimentError(field, type(value).__name__, "must be an array or a tensor") from None
    if array.ndim == 0:
        raise ExperimentError(field, value, "must be an array with the samples on its first axis")
    return array


_FITTING = {"b": "b", "i": "iu", "u": "iu", "f": "fiu"}


def _check(field: str, leaf: Leaf, array: Array) -> None:
    wanted = _dtype(leaf)
    empty = array.size == 0 and array.shape == (0,)  # a list of nothing has no shape of its own
    fits = len(array.shape) == 1 + len(leaf.shape) and all(
        size in (None, found) for size, found in zip(leaf.shape, array.shape[1:], strict=True)
    )
    if not fits and not empty:
        shown = f"{array.dtype} {list(array.shape)}"
        raise ExperimentError(field, shown, f"must be {leaf.described}: the samples, then what one of them holds")
    if array.dtype.kind not in _FITTING[wanted.kind] and array.size:
        kinds = {"b": "true or false", "i": "integers", "u": "integers", "f": "numbers"}
        raise ExperimentError(field, str(array.dtype), f"must be {leaf.described}: {kinds[wanted.kind]}")


def _dtype(leaf: Leaf) -> np.dtype[Any]:
    return np.dtype("float32" if leaf.dtype == "bfloat16" else leaf.dtype)


def _tensor(field: str, leaf: Leaf, rows: Any) -> torch.Tensor:
    import torch

    wanted, found = _dtype(leaf), np.asarray(rows)
    if wanted.kind in "iu" and found.size:
        low, high, bounds = int(found.min()), int(found.max()), np.iinfo(wanted)
        if low < bounds.min or high > bounds.max:
            expected = f"must be {leaf.dtype}, from {bounds.min} to {bounds.max}"
            raise ExperimentError(field, low if low < bounds.min else high, expected)
    with np.errstate(over="ignore"):  # beyond a float32 is infinite
        own = np.array(found, dtype=wanted, order="C")  # a copy: a model may write to what it is given
    return torch.from_numpy(own).to(getattr(torch, leaf.dtype))
