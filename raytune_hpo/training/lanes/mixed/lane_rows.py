"""A lane's numbers, as its rows hold them between two trainers and as the pages of an arena do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Held
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, RUNNING, TRAINED, Padded
from raytune_hpo.training.lanes.mixed.stages import VECTOR_PAGE
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


def _pieces(lane: Padded) -> tuple[list[_Piece], list[int]]:
    """(where each tensor is, how many numbers each part has), in the order of `Layout.pages_of`."""
    chain = lane.chain
    names = {(block, which): name for name, block, which in chain.tensors()}
    last = len(chain.blocks) - 1
    pieces, used = [], [0, 0, 0]
    for i, block in enumerate(chain.blocks):
        outputs = block.outputs if i == last or block.convolution is not None else lane.width
        for which in ("weight", *(TRAINED + RUNNING if i < last else ("bias",))):
            padded: tuple[int, ...] = (outputs,)
            if which == "weight":
                inputs = (lane.width,) if i > chain.convolutions else block.weight_shape[1:]
                padded = (outputs, *inputs)
            part = 0 if which == "weight" else 1 if which in TRAINED else 2
            if (i, which) in names:
                pieces.append(_Piece(names[i, which], part, used[part], padded))
            used[part] += -(-math.prod(padded) // PAGES[part]) * PAGES[part]  # also of what the block has not
    return pieces, used


def numbers_of_lane(lane: Padded) -> int:
    """Of all its pages."""
    return sum(_pieces(lane)[1])


def held_of(rows: RowState, lane: Padded, places: Sequence[Place], shapes: Mapping[str, Sequence[int]]) -> Held:
    """Of rows of one lane, where they are. shapes: its own, by the tensor's name."""
    _, used = _pieces(lane)
    weights, first, second, buffers, _ = (t.cpu().numpy() for t in rows.tensors())
    parts = [np.zeros((3 if i < 2 else 1, size), weights.dtype) for i, size in enumerate(used)]
    for in_pages, in_rows in _both(lane, places, shapes, parts, (weights, first, second), buffers):
        in_pages[...] = in_rows
    device = rows.weights.device
    return Held(*(torch.from_numpy(part.reshape(len(part), -1, PAGES[i])).to(device) for i, part in enumerate(parts)))


def rows_of(
    held: Held, counts: Tensor, lane: Padded, places: Sequence[Place], shapes: Mapping[str, Sequence[int]]
) -> RowState:
    """The other way round, on the CPU. counts: the row of integers."""
    size = {row: aligned(max((p.end for p in places if p.row == row), default=0)) for row in ROWS}
    parts = [part.cpu().numpy().reshape(len(part), -1) for part in held.tensors()]
    weights, first, second = (np.zeros(size["weights"], parts[0].dtype) for _ in range(3))
    buffers = np.zeros(size["buffers"], parts[0].dtype)
    for in_pages, in_rows in _both(lane, places, shapes, parts, (weights, first, second), buffers):
        in_rows[...] = in_pages
    w, m, v, b = (torch.from_numpy(row) for row in (weights, first, second, buffers))
    return RowState(w, m, v, b, counts.cpu())


def _both(
    lane: Padded,
    places: Sequence[Place],
    shapes: Mapping[str, Sequence[int]],
    parts: Sequence[Array],
    trained: Sequence[Array],
    buffers: Array,
) -> Iterator[tuple[Array, Array]]:
    """Each tensor without its padding: (in the pages' parts, in the rows), views. trained: weights and moments."""
    by_name = {place.name: place for place in places}
    for piece in _pieces(lane)[0]:
        place, corner = by_name[piece.name], tuple(slice(0, n) for n in shapes[piece.name])
        for numbers, row in zip(parts[piece.part], trained if piece.part < 2 else (buffers,), strict=True):
            yield piece.of(numbers)[corner], row[place.start : place.end].reshape(place.padded)[corner]
