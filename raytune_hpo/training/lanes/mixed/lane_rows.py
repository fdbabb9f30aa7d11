"""A lane's numbers, as its rows hold them between two trainers and as the pages of an arena do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Held
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, RUNNING, TRAINED, VECTOR_PAGE, Padded
from raytune_hpo.training.lanes.rows import ROWS, Place, RowState, aligned

Array = np.ndarray[Any, Any]

PAGES = (MATRIX_PAGE, VECTOR_PAGE, VECTOR_PAGE)  # of matrices, vectors, running statistics


@dataclass(frozen=True)
class _Piece:
    """A tensor in the pages of a part (0, 1, 2), from a number on, [*padded]."""

    name: str
    part: int
    start: int
    padded: tuple[int, ...]

    def of(self, numbers: Array) -> Array:
        """The padded tensor in the numbers of its part."""
        return numbers[self.start : self.start + math.prod(self.padded)].reshape(self.padded)


def _pieces(lane: Padded, inputs: int) -> tuple[list[_Piece], list[int]]:
    """(where each tensor is, how many numbers each part has), in the order of `Layout.pages_of`."""
    names = {(block, which): name for name, block, which in lane.chain.tensors()}
    depth = lane.chain.depth
    pieces, used = [], [0, 0, 0]
    for block in range(depth + 1):
        outputs = lane.width if block < depth else lane.chain.blocks[-1].outputs
        for which in ("weight", *(TRAINED + RUNNING if block < depth else ("bias",))):
            padded = (outputs, lane.width if block else inputs) if which == "weight" else (outputs,)
            part = 0 if which == "weight" else 1 if which in TRAINED else 2
            if (block, which) in names:
                pieces.append(_Piece(names[block, which], part, used[part], padded))
            used[part] += -(-math.prod(padded) // PAGES[part]) * PAGES[part]  # also of what the block has not
    return pieces, used


def numbers_of_lane(lane: Padded, inputs: int) -> int:
    """Of all its pages."""
    return sum(_pieces(lane, inputs)[1])


def held_of(
    rows: RowState, lane: Padded, inputs: int, places: Sequence[Place], shapes: Mapping[str, Sequence[int]]
) -> Held:
    """Of rows of one lane, where they are. shapes: its own, by the tensor's name."""
    by_name = {place.name: place for place in places}
    pieces, used = _pieces(lane, inputs)
    weights, first, second, buffers, _ = (t.cpu().numpy() for t in rows.tensors())
    parts = [np.zeros((3 if i < 2 else 1, size), weights.dtype) for i, size in enumerate(used)]
    for piece in pieces:
        place, shape = by_name[piece.name], shapes[piece.name]
        corner = tuple(slice(0, n) for n in shape)
        own = slice(place.start, place.end)
        for target, row in zip(
            parts[piece.part], (weights, first, second) if piece.part < 2 else (buffers,), strict=True
        ):
            piece.of(target)[corner] = row[own].reshape(place.padded)[corner]
    device = rows.weights.device
    return Held(*(torch.from_numpy(part.reshape(len(part), -1, PAGES[i])).to(device) for i, part in enumerate(parts)))


def rows_of(
    held: Held,
    counts: Tensor,
    lane: Padded,
    inputs: int,
    places: Sequence[Place],
    shapes: Mapping[str, Sequence[int]],
) -> RowState:
    """The other way round, on the CPU. counts: the row of integers."""
    pieces, _ = _pieces(lane, inputs)
    by_name = {place.name: place for place in places}
    size = {row: aligned(max((p.end for p in places if p.row == row), default=0)) for row in ROWS}
    parts = [part.cpu().numpy().reshape(len(part), -1) for part in held.tensors()]
    weights, first, second = (np.zeros(size["weights"], parts[0].dtype) for _ in range(3))
    buffers = np.zeros(size["buffers"], parts[0].dtype)
    for piece in pieces:
        place, shape = by_name[piece.name], shapes[piece.name]
        corner = tuple(slice(0, n) for n in shape)
        own = slice(place.start, place.end)
        for source, row in zip(
            parts[piece.part], (weights, first, second) if piece.part < 2 else (buffers,), strict=True
        ):
            row[own].reshape(place.padded)[corner] = piece.of(source)[corner]
    w, m, v, b = (torch.from_numpy(row) for row in (weights, first, second, buffers))
    return RowState(w, m, v, b, counts.cpu())
