"""Convolutions of many lanes: their products, and the way from images to what linear blocks take.

Each lane's product is one of its own, at its own size; or, where launches cost, as on a GPU, those of
neighbours that are alike are one convolution with a group a lane, of their weights side by side (Wang et al. 2021,
arXiv:2102.02344).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.layout import Cell, Layout
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.stages import Member

aten = torch.ops.aten


class Convolutions:
    """x: [samples, inputs], of all lanes' mini-batches; or [n, inputs], the same for all, where they are measured."""

    def __init__(
        self, layout: Layout, arena: Arena, buffers: Buffers, x: Tensor, *, shared: bool, training: bool
    ) -> None:
        self._layout, self._arena, self._buffers = layout, arena, buffers
        self._x, self._shared = x, shared
        self._features = torch.zeros(layout.features, device=x.device)
        self._slopes = torch.zeros_like(self._features) if training else None
        self._products: list[list[_Product]] = [
            [self._product(i, members) for members in self._alike(i)] for i in range(len(layout.convolved))
        ]

    def _alike(self, i: int) -> Iterator[list[Member]]:
        """The lanes of each product of a stage."""
        own: list[Member] = []
        for member in self._layout.convolved[i].members:
            if own and not (self._layout.launches and self._are_alike(own[-1], member)):
                yield own
                own = []
            own.append(member)
        if own:
            yield own

    def _are_alike(self, one: Member, other: Member) -> bool:
        """Whether neighbours are alike. Images that all lanes share have no groups of channels for each."""
        a, b = one.block, other.block
        kinds = [(c.convolution, c.inputs, c.outputs, c.groups, c.norm is None) for c in (a, b)]
        cells = [self._layout.cell_of[member.lane].number for member in (one, other)]
        near = other.lane == one.lane + 1 and cells[0] == cells[1] and one.size == other.size
        return kinds[0] == kinds[1] and near and (a.groups == 1 or not self._shared)

    def _product(self, i: int, members: list[Member]) -> _Product:
        b, shape, one = self._buffers, self._layout.shape, members[0]
        if i:
            given = b.images(b.kept, self._before(i, members), kept=True)
        elif self._shared:
            given = self._x.view(1, -1, *shape)
        else:
            given = b.of_lane(self._x, one.lane, len(members)).view(-1, one.samples, *shape)
        return _Product(members, given, b.images(b.linear, members), self._arena)

    def _before(self, i: int, members: list[Member]) -> list[Member]:
        """The same lanes in the stage before."""
        return [self._layout.convolved[i - 1].by_lane[member.lane] for member in members]

    # Forth --------------------------------------------------------------------------------------------

    def forward(self, ops: Operations, i: int) -> None:
        """The products of a stage, without biases."""
        for own in self._products[i]:
            own.forward(ops)

    def features(self, ops: Operations) -> None:
        """What linear blocks take, of what the last convolution of each lane keeps."""
        b = self._buffers
        for cell, start, stop, kept in self._ends(b.kept):
            ops.add(b.features(self._features, cell, start, stop).copy_, kept)

    def given(self, cell: Cell, start: int, stop: int) -> Tensor:
        """[lanes, n, inputs]"""
        return self._buffers.features(self._features, cell, start, stop)

    def slopes(self, cell: Cell, start: int, stop: int) -> Tensor:
        """The gradient of `given`."""
        assert self._slopes is not None
        return self._buffers.features(self._slopes, cell, start, stop)

    def _ends(self, flat: Tensor) -> Iterator[tuple[Cell, int, int, Tensor]]:
        """Neighbours of a cell that end with one kind of convolution: (cell, from, to, [lanes, n, inputs] of what is
        kept)."""
        layout = self._layout
        for cell in layout.cells:
            start = cell.start
            for members in _together(
                layout.member_of(i, layout.lanes[i].chain.convolutions - 1) for i in range(cell.start, cell.stop)
            ):
                stop = start + len(members)
                kept = self._buffers.images(flat, members, kept=True).flatten(2)
                yield cell, start - cell.start, stop - cell.start, kept
                start = stop

    # Back ---------------------------------------------------------------------------------------------

    def features_back(self, ops: Operations) -> None:
        b = self._buffers
        assert self._slopes is not None
        for cell, start, stop, kept in self._ends(b.slopes_kept):
            ops.add(kept.copy_, b.features(self._slopes, cell, start, stop))

    def backward(self, ops: Operations, i: int) -> None:
        """The gradients of a stage's kernels, and of what it takes where that is another stage's."""
        b = self._buffers
        for own in self._products[i]:
            of_given = b.images(b.slopes_kept, self._before(i, own.members), kept=True) if i else None
            own.backward(ops, b.images(b.slopes, own.members), of_given)


def _together(members: Iterable[Member]) -> Iterator[list[Member]]:
    """Members of one kind whose images lie next to each other."""
    own: list[Member] = []
    for member in members:
        if own:
            one = own[-1]
            alike = (one.number, one.rows, one.kept_size) == (member.number, member.rows, member.kept_size)
            if not alike or one.kept_elements.stop != member.kept:
                yield own
                own = []
        own.append(member)
    if own:
        yield own


class _Product:
    """A convolution of neighbours: given, [lanes, n, channels, height, width], or [1, ...] of all of them -> result,
    [lanes, n, filters, ...], with their biases where no norm follows. One alone is computed where it is; several lie
    side by side, [n, lanes * channels, ...]."""

    def __init__(self, members: list[Member], given: Tensor, result: Tensor, arena: Arena) -> None:
        self.members, self._given, self._result, self._arena = members, given, result, arena
        one, lanes = members[0], len(members)
        block = one.block
        self._place = (one.lane, one.number, lanes)
        self._weights = arena.kernels(arena.matrices[0], *self._place)
        self._biases = arena.kernel_biases(*self._place) if block.norm is None else None
        self._together = lanes > 1
        self._x, self._y = (_side_by_side(t) for t in (given, result))
        self._weight = torch.zeros_like(self._weights).flatten(0, 1) if self._together else self._weights[0]
        self._bias: Tensor | None = None
        if self._biases is not None:
            self._bias = torch.zeros_like(self._biases).flatten() if self._together else self._biases[0]
        assert block.convolution is not None
        window, groups = block.convolution, block.groups * len(given)
        #: As aten's convolution has them, after weight and bias.
        self._options = (*(list(n) for n in (window.stride, window.padding, window.dilation)), False, [0, 0], groups)

    def forward(self, ops: Operations) -> None:
        if self._together:
            if len(self._given) > 1:
                _put(ops, self._given, self._x)
            ops.add(self._weight.view(self._weights.shape).copy_, self._weights)
            if self._bias is not None and self._biases is not None:
                ops.add(self._bias.view(self._biases.shape).copy_, self._biases)
        ops.add(aten.convolution.out, self._x, self._weight, self._bias, *self._options, out=self._y)
        if self._together:
            _take(ops, self._y, self._result)

    def backward(self, ops: Operations, d: Tensor, of_given: Tensor | None) -> None:
        """d: the gradient of `result`. of_given: to be filled, like `given`."""
        side = _side_by_side(d)
        if self._together:
            _put(ops, d, side)
        of_weights = self._arena.kernels(self._arena.matrix_gradients, *self._place)
        of_weight = torch.zeros_like(self._weight) if self._together else of_weights[0]
        of_x = None if of_given is None else _side_by_side(of_given)
        ops.add(_back, side, self._x, self._weight, self._options, of_weight, of_x)
        if self._together:
            ops.add(of_weights.copy_, of_weight.view(of_weights.shape))
            if of_given is not None and of_x is not None:
                _take(ops, of_x, of_given)


def _side_by_side(images: Tensor) -> Tensor:
    """Room for [lanes, n, channels, ...] as [n, lanes * channels, ...]; of one lane the images themselves."""
    lanes, n, channels, *size = images.shape
    return images[0] if lanes == 1 else torch.zeros(n, lanes * channels, *size).to(images)


def _put(ops: Operations, images: Tensor, side: Tensor) -> None:
    ops.add(side.view(images.shape[1], len(images), *images.shape[2:]).copy_, images.transpose(0, 1))


def _take(ops: Operations, side: Tensor, images: Tensor) -> None:
    ops.add(images.transpose(0, 1).copy_, side.view(images.shape[1], len(images), *images.shape[2:]))


def _back(
    d: Tensor, given: Tensor, weight: Tensor, options: Sequence[Any], of_weight: Tensor, of_given: Tensor | None
) -> None:
    """Write a convolution's gradients. aten's variant that does takes no gradient for none."""
    found = aten.convolution_backward(d, given, weight, None, *options, [of_given is not None, True, False])
    of_weight.copy_(found[1].view(of_weight.shape))
    if of_given is not None:
        of_given.copy_(found[0].view(of_given.shape))
