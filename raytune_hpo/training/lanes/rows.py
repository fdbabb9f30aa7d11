"""Rows: where each tensor of a model lies in what a stack holds of its lanes.

P, B, C: weights, other floating-point tensors (running statistics, frozen weights) and integers (counters, masks) of a
structure, each flattened and padded, in the structure's order.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.structure import Shape, Structure

ALIGNMENT = 16  # numbers, of 4 bytes each


#: What tensors of the model lie in; the optimizer's state lies in rows like the weights'.
ROWS = ("weights", "buffers", "counts")


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the rows: in `weights`, `buffers` or `counts`, from `start` to `end`.

    dtype: its own, where the row's is a wider one ("bool"); "" is the row's. group: of a weight, the number of its
    group of parameters.
    """

    name: str
    row: str
    start: int
    end: int
    padded: tuple[int, ...]
    dtype: str = ""
    group: int = 0

    def of(self, rows: Tensor) -> Tensor:
        """The tensor in rows, [L, ...] -> [L, *padded], a view in the row's own type."""
        return rows[:, self.start : self.end].view(len(rows), *self.padded)

    def typed(self, tensor: Tensor) -> Tensor:
        """In the tensor's own type."""
        return tensor.to(getattr(torch, self.dtype)) if self.dtype else tensor

    def corner(self, row: Tensor, shape: Sequence[int]) -> Tensor:
        """A lane's own part of the tensor in its row, as a view of `shape`."""
        return self.of(row[None])[0][tuple(slice(0, n) for n in shape)]


def places_of(structure: Structure) -> tuple[Place, ...]:
    """In the order of the structure; the weights of a group of parameters lie next to each other in their row.

    Raises NotFusableError for a type that rows do not hold.
    """
    group = {name: number for number, group in enumerate(structure.groups) for name in group.parameters}
    places: dict[str, Place] = {}
    used = dict.fromkeys(ROWS, 0)
    for shape in sorted(structure.shapes, key=lambda shape: group.get(shape.name, 0)):
        row, own = _row_of(shape)
        start = used[row]
        end = start + math.prod(shape.shape)
        used[row] = aligned(end)
        dtype = "" if own else str(shape.dtype).split(".")[1]
        places[shape.name] = Place(shape.name, row, start, end, shape.shape, dtype, group.get(shape.name, 0))
    return tuple(places[shape.name] for shape in structure.shapes)


def stretches_of(structure: Structure) -> tuple[tuple[int, int], ...]:
    """Of each group of parameters, the start and end of its weights in their row."""
    weights = [place for place in places_of(structure) if place.row == "weights"]
    found = []
    for number in range(max(1, len(structure.groups))):
        own = [place for place in weights if place.group == number]
        ends = [aligned(place.end) for place in own]
        found.append((min((place.start for place in own), default=0), max(ends, default=0)))
    return tuple(found)


def _row_of(shape: Shape) -> tuple[str, bool]:
    """(row, whether the row has the tensor's own type). A weight that outputs do not depend on has no gradient: it lies
    beside the frozen ones, where no update finds it."""
    default = torch.get_default_dtype()
    if shape.dtype == default:
        return "weights" if shape.trained and not shape.unused else "buffers", True
    if shape.dtype in _INTEGERS:
        return "counts", shape.dtype == torch.int64
    if not shape.parameter and shape.dtype in _REALS and torch.promote_types(shape.dtype, default) == default:
        return "buffers", False
    what = "parameter" if shape.parameter else "buffer"
    raise NotFusableError(f"the {what} {shape.name} is {shape.dtype}: lanes hold {default}, and integers as buffers")


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
_REALS = (torch.float16, torch.bfloat16, torch.float32)


def aligned(size: int) -> int:
    """Rounded up to whole cache lines. Every lane's tensors then lie alike in memory, so that a matrix product rounds
    alike whichever row of a stack a lane has, and whoever its neighbours are."""
    return -(-size // ALIGNMENT) * ALIGNMENT


@dataclass
class RowState:
    """What a stack holds of one lane: weights, first and second [P], buffers [B], counts [C]."""

    weights: Tensor
    first: Tensor
    second: Tensor
    buffers: Tensor
    counts: Tensor

    def first_row(self) -> RowState:
        """Of rows of several lanes, the first lane's."""
        return RowState(*(t[0] for t in self.tensors()))

    def forget_all_but(self, kept: Sequence[Collection[str]], stretches: Sequence[tuple[int, int]]) -> None:
        """Zero what torch would not have of one lane's rows of the optimizer: with a momentum of 0, the row for that
        may hold a gradient. Both by group of parameters."""
        for own, (start, end) in zip(kept, stretches, strict=True):
            for name in ("first", "second"):
                if name not in own:
                    getattr(self, name)[start:end].zero_()

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self.weights, self.first, self.second, self.buffers, self.counts


def rows_of(
    structure: Structure,
    shapes: Mapping[str, Sequence[int]],
    tensors: Mapping[str, Tensor],
    kept: Sequence[Mapping[str, str]],
    optimizer: Mapping[int, Any],
    device: torch.device,
) -> RowState:
    """A lane's tensors as padded rows on the device.

    shapes: its own, by name. kept: of each group of parameters, row -> torch's name of the optimizer's state in it;
    optimizer: that state, by parameter, as `numbers_of` counts them.
    """
    numbers = numbers_of(structure)
    places = places_of(structure)
    size = {row: aligned(max((p.end for p in places if p.row == row), default=0)) for row in ROWS}
    real = torch.zeros(0).numpy().dtype  # by arrays: a lane has many small tensors
    found = {name: np.zeros(size["weights"], real) for name in ("weights", "first", "second")}
    found |= {"buffers": np.zeros(size["buffers"], real), "counts": np.zeros(size["counts"], np.int64)}
    for place in places:
        corner = tuple(slice(0, n) for n in shapes[place.name])

        def put(row: str, value: Any) -> None:
            found[row][place.start : place.end].reshape(place.padded)[corner] = value.detach().cpu().numpy()  # noqa: B023

        value = tensors[place.name]
        put(place.row, value.to(torch.get_default_dtype()) if value.dtype == torch.bfloat16 else value)
        if place.row == "weights":
            for row, name in kept[place.group].items():
                own = optimizer.get(numbers[place.name], {}).get(name)
                if own is not None:
                    put(row, own)
    return RowState(*(torch.from_numpy(row).to(device) for row in found.values()))


def numbers_of(structure: Structure) -> dict[str, int]:
    """By which number torch's state of an optimizer has each parameter: group after group."""
    grouped = [name for group in structure.groups for name in group.parameters]
    names = grouped or [shape.name for shape in structure.shapes if shape.parameter]
    return {name: number for number, name in enumerate(names)}
