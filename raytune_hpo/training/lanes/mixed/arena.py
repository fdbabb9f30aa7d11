"""An arena: the weights of all lanes of a layout on one device, page by page, with their moments and gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, Cell, LanePages, Layout
from raytune_hpo.training.lanes.mixed.stages import VECTOR_PAGE


@dataclass
class Held:
    """A lane's numbers, block after block: matrices [3, p, 256] and vectors [3, q, 16], each weights, first and second
    moments, and running statistics [1, r, 16]."""

    matrices: Tensor
    vectors: Tensor
    running: Tensor

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.matrices, self.vectors, self.running


class Arena:
    """Of the lanes of a layout. held: of each, in the layout's order, its numbers, or where they are in `before`."""

    def __init__(
        self,
        layout: Layout,
        held: Sequence[Held | LanePages],
        device: torch.device,
        before: Arena | None = None,
        *,
        weights_only: bool = False,
    ) -> None:
        self.layout = layout
        self._kept = 1 if weights_only else 3  # of weights and moments
        self.pages = [layout.pages_of(lane) for lane in range(len(layout.lanes))]
        found = []
        for i, size in enumerate((MATRIX_PAGE, VECTOR_PAGE, VECTOR_PAGE)):
            count = (layout.matrix_pages, layout.vector_pages, layout.running_pages)[i]
            found.append(self._filled(i, count, size, held, device, before))
        self.matrices, self.vectors, self.running = found
        if not weights_only:
            self.matrix_gradients = torch.zeros_like(self.matrices[0])
            self.vector_gradients = torch.zeros_like(self.vectors[0])

    def _filled(
        self,
        part: int,
        count: int,
        size: int,
        held: Sequence[Held | LanePages],
        device: torch.device,
        before: Arena | None,
    ) -> Tensor:
        """Every page of the new one out of the old one's and of what lanes hold: one operation."""
        parts = [] if before is None else [before._parts()[part][: self._kept]]
        entered = 0 if before is None else parts[0].shape[1]
        index = np.zeros(count, np.int64)
        for own, pages in zip(held, self.pages, strict=True):
            target = _part(pages, part)
            if isinstance(own, LanePages):
                index[target] = _part(own, part)
            else:
                tensor = own.tensors()[part]
                index[target] = np.arange(entered, entered + tensor.shape[1])
                entered += tensor.shape[1]
                parts.append(tensor)
        if not parts:
            return torch.zeros(self._kept if part < 2 else 1, count, size, device=device)
        together = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return together.index_select(1, torch.from_numpy(index).to(device))

    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.matrices, self.vectors, self.running

    def held(self, lanes: Sequence[int]) -> list[Held]:
        """Copies of what lanes have: three operations, however many there are."""
        found: list[list[Tensor]] = []
        for i, part in enumerate(self._parts()):
            own = [_part(self.pages[lane], i) for lane in lanes]
            index = torch.from_numpy(np.concatenate(own)).to(part.device)
            found.append(list(torch.split(part.index_select(1, index), [len(pages) for pages in own], 1)))
        return [Held(*parts) for parts in zip(*found, strict=True)]

    def matrix(
        self, pages: Tensor, cell: Cell, kind: str, stage: int, start: int = 0, stop: int | None = None
    ) -> Tensor:
        """[lanes, outputs, inputs] in pages of matrices, [P, 256]: of a cell's lanes that have it, those from start to
        stop."""
        among = self.layout.matrices[cell.number, kind, stage]
        lanes = slice(start, stop).indices(among.lanes)
        size = among.pages * MATRIX_PAGE
        first = pages.storage_offset() + among.page * MATRIX_PAGE + lanes[0] * size
        shape = (lanes[1] - lanes[0], among.outputs, among.inputs)
        return pages.as_strided(shape, (size, among.inputs, 1), first)

    def kernels(self, pages: Tensor, lane: int, block: int, count: int) -> Tensor:
        """[count, filters, channels / groups, *kernel] of a convolution of like neighbours from a lane on."""
        own = self.layout.kernels[lane, block]
        shape = self.layout.lanes[lane].chain.blocks[block].weight_shape
        strides = [math.prod(shape[i + 1 :]) for i in range(len(shape))]
        first = pages.storage_offset() + own.page * MATRIX_PAGE
        return pages.as_strided((count, *shape), (own.pages * MATRIX_PAGE, *strides), first)

    def kernel_biases(self, lane: int, block: int, count: int) -> Tensor:
        """[count, filters] of the same."""
        own = self.layout.member_of(lane, block)
        pages = self.vectors[0]
        first = pages.storage_offset() + self.layout.vector_pages_of(lane, block, "bias").start * VECTOR_PAGE
        return pages.as_strided((count, own.rows), (own.slots, 1), first)

    def vector(self, pages: Tensor, kind: str, stage: int) -> Tensor:
        """[slots] of a stage, by its number, or [L, outputs] of the outputs, 0, in pages of vectors, [Q, 16]."""
        own = self.layout.vectors[kind, stage]
        first = pages.storage_offset() + own.start * VECTOR_PAGE
        if stage:
            return pages.as_strided(((own.stop - own.start) * VECTOR_PAGE,), (1,), first)
        lanes = len(self.layout.lanes)
        return pages.as_strided((lanes, self.layout.outputs), (self.layout.output_pages * VECTOR_PAGE, 1), first)


def _part(pages: LanePages, part: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return (pages.matrices, pages.vectors, pages.running)[part]
