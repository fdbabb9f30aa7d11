"""Buffers: the activations of a layout, and views of them."""

from __future__ import annotations

import math

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.layout import Batch, Cell, Layout
from raytune_hpo.training.lanes.mixed.stages import Member, Stage, Strip


class Views:
    """Views of tensors that stay, each made once. A tensor is kept with its views: another one may get the id of one
    that is gone."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, tuple[int, ...], tuple[int, ...], int], tuple[Tensor, Tensor]] = {}

    def of(self, tensor: Tensor, shape: tuple[int, ...], strides: tuple[int, ...], first: int) -> Tensor:
        """first: the view's first number, counted from the tensor's own."""
        key = (id(tensor), shape, strides, first)
        if key not in self._known:
            self._known[key] = tensor, tensor.as_strided(shape, strides, tensor.storage_offset() + first)
        return self._known[key][1]


class Buffers:
    """Flat tensors, of a number an element unless said.

    linear: what a block's product gives, without its mean where a batch norm follows. before: what the activation
    takes, after: what it gives. kept: what pooling and dropout leave of it, slopes_kept: its gradient, masks:
    dropout's; each of as many as are kept. slopes: the gradient. one, two: at hand.
    """

    def __init__(self, layout: Layout, device: torch.device, *, training: bool, normed: bool, masked: bool) -> None:
        self.layout = layout
        self._views = Views()

        def flat(size: int = layout.elements) -> Tensor:
            return torch.zeros(size, device=device)

        pooled = layout.pools
        self.linear, self.after = flat(), flat()
        self.before = flat() if normed and training else self.linear
        self.kept = flat(layout.kept) if masked or pooled else self.after
        self.masks = flat(layout.kept) if masked else None
        self.one = flat()
        if training:
            self.slopes, self.two = flat(), flat()
            self.slopes_kept = flat(layout.kept) if pooled else self.slopes

    # Of all that a stage has -------------------------------------------------------------------------

    def stage(self, flat: Tensor, stage: Stage) -> Tensor:
        own = stage.elements
        return self._views.of(flat, (own.stop - own.start,), (1,), own.start)

    def stage_kept(self, flat: Tensor, stage: Stage) -> Tensor:
        own = stage.kept_elements
        return self._views.of(flat, (own.stop - own.start,), (1,), own.start)

    def strip(self, flat: Tensor, strip: Strip) -> Tensor:
        """[count, features, samples, pixels]"""
        return self._views.of(flat, strip.shape, strip.strides, strip.element)

    # Of a hidden stage of linear blocks, which begins alike among elements and among what is kept --------

    def cell(self, flat: Tensor, cell: Cell, s: int, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, W, n] of a cell's lanes that have the stage, those from start to stop."""
        first, lanes, size = self._of_cell(cell, s, start, stop)
        return self._views.of(flat, (lanes, cell.width, cell.batch), (size, cell.batch, 1), first)

    def turned(self, flat: Tensor, cell: Cell, s: int, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, n, W] of the same."""
        first, lanes, size = self._of_cell(cell, s, start, stop)
        return self._views.of(flat, (lanes, cell.batch, cell.width), (size, 1, cell.batch), first)

    def _of_cell(self, cell: Cell, s: int, start: int, stop: int | None) -> tuple[int, int, int]:
        """(the first element, lanes, elements of a lane)"""
        first, last, _ = slice(start, stop).indices(cell.having[s])
        size = cell.width * cell.batch
        if first == last:
            return 0, 0, size
        return self.layout.hidden[s].by_lane[cell.start + first].element, last - first, size

    # Of a stage of convolutions ----------------------------------------------------------------------

    def images(self, flat: Tensor, members: list[Member], *, kept: bool = False) -> Tensor:
        """[lanes, n, channels, height, width] of neighbours that are alike. kept: as they are pooled."""
        one = members[0]
        (height, width), first = (one.kept_size, one.kept) if kept else (one.size, one.element)
        shape = (len(members), one.samples, one.rows, height, width)
        return self._views.of(flat, shape, tuple(math.prod(shape[i + 1 :]) for i in range(5)), first)

    # Of samples --------------------------------------------------------------------------------------

    def samples(self, flat: Tensor, cell: Cell, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, n, k] of a cell's lanes from start to stop. flat: [samples, k]"""
        first, last, _ = slice(start, stop).indices(len(cell))
        return self._samples(flat, self.layout.cell_samples[cell.number] + first * cell.batch, last - first, cell.batch)

    def batch_samples(self, flat: Tensor, batch: Batch) -> Tensor:
        """[lanes, n, ...] of a batch size's lanes. flat: [samples, ...]"""
        return self._samples(
            flat, self.layout.cell_samples[batch.cells[0].number], batch.stop - batch.start, batch.size
        )

    def of_lane(self, flat: Tensor, lane: int, count: int = 1) -> Tensor:
        """[lanes, n, ...] of so many lanes of a cell from a lane on. flat: [samples, ...]"""
        cell = self.layout.cell_of[lane]
        first = self.layout.cell_samples[cell.number] + (lane - cell.start) * cell.batch
        return self._samples(flat, first, count, cell.batch)

    def features(self, flat: Tensor, cell: Cell, start: int = 0, stop: int | None = None) -> Tensor:
        """[lanes, n, inputs] of what a cell's first linear blocks take of images."""
        first, last, _ = slice(start, stop).indices(len(cell))
        size = cell.batch * cell.inputs
        at = self.layout.cell_features[cell.number] + first * size
        return self._views.of(flat, (last - first, cell.batch, cell.inputs), (size, cell.inputs, 1), at)

    def _samples(self, flat: Tensor, first: int, lanes: int, size: int) -> Tensor:
        inner, strides = flat.shape[1:], flat.stride()
        return self._views.of(flat, (lanes, size, *inner), (size * strides[0], *strides), first * strides[0])
