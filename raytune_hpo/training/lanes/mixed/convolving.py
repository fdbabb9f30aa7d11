"""Convolutions of many lanes: their products, and the way from images to what linear blocks take.

Each lane's product is one of its own, at its own size; or, where the layout has them grouped, as on a GPU, those of
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
            if own and not (self._layout.grouped and self._are_alike(own[-1], member)):
                yield own
                own = []
            own.append(member)
        if own:
            yield own

    def _are_alike(self, one: Member, other: Member) -> bool:
        """Whether neighbours are alike. Images that all lanes share have no groups of channels for each."""
        a, b = one.block, other.block
        same = (a.convolution, a.inputs, a.outputs, a.groups) == (b.convolution, b.inputs, b.outputs, b.groups)
        cells = [self._layout.cell_of[member.lane].number for member in (one, other)]
        near = other.lane == one.lane + 1 and cells[0] == cells[1] and one.size == other.size
        return same and near and (a.groups == 1 or not self._shared)

    def _product(self, i: int, members: list[Member]) -> _Product:
        one, count = members[0], len(members)
        b, shape, groups = self._buffers, self._layout.shape, one.block.groups * len(members)
        copied = None
        if i:
            given = b.side_by_side(b.kept, self._before(i, members), kept=True)
        elif self._shared:
            given, groups = self._x.view(-1, *shape), one.block.groups
        else:
            own = b.of_lane(self._x, one.lane, count).view(count, one.samples, *shape)
            copied = None if count == 1 else own.transpose(0, 1)
            given = own[0] if copied is None else torch.zeros_like(copied, memory_format=torch.contiguous_format)
            given = given.flatten(1, -3) if given.dim() == 5 else given
        weights = self._arena.kernels(self._arena.matrices[0], one.lane, one.number, count)
        result = b.side_by_side(b.linear, members, kept=False)
        return _Product(members, given, copied, weights, result, groups)

    def _before(self, i: int, members: list[Member]) -> list[Member]:
        """The same lanes in the stage before."""
        return [self._layout.convolved[i - 1].by_lane[member.lane] for member in members]

    # Forth --------------------------------------------------------------------------------------------

    def forward(self, ops: Operations, i: int) -> None:
        """The products of a stage, without biases."""
        for own in self._products[i]:
            if own.copied is not None:
                ops.add(own.given.view(own.copied.shape).copy_, own.copied)
            if len(own.members) > 1:
                ops.add(own.weight.view(own.weights.shape).copy_, own.weights)
            ops.add(aten.convolution.out, own.given, own.weight, None, *own.options, out=own.result)

    def features(self, ops: Operations) -> None:
        """What linear blocks take, of what the last convolution of each lane keeps."""
        b = self._buffers
        for cell, start, stop, kept in self._ends(b.kept):
            own = b.features(self._features, cell, start, stop)
            ops.add(own.view(kept.shape).copy_, kept)

    def given(self, cell: Cell, start: int, stop: int) -> Tensor:
        """[lanes, n, inputs]"""
        return self._buffers.features(self._features, cell, start, stop)

    def slopes(self, cell: Cell, start: int, stop: int) -> Tensor:
        """The gradient of `given`."""
        assert self._slopes is not None
        return self._buffers.features(self._slopes, cell, start, stop)

    def _ends(self, flat: Tensor) -> Iterator[tuple[Cell, int, int, Tensor]]:
        """Neighbours of a cell that end with one kind of convolution: (cell, from, to, [lanes, n, channels, pixels] of
        what is kept)."""
        layout = self._layout
        for cell in layout.cells:
            start = cell.start
            for members in _together(
                layout.member_of(i, layout.lanes[i].chain.convolutions - 1) for i in range(cell.start, cell.stop)
            ):
                one, stop = members[0], start + len(members)
                kept = self._buffers.side_by_side(flat, members, kept=True)
                channels = kept.view(one.samples, len(members), one.rows, -1)
                yield cell, start - cell.start, stop - cell.start, channels.transpose(0, 1)
                start = stop

    # Back ---------------------------------------------------------------------------------------------

    def features_back(self, ops: Operations) -> None:
        b = self._buffers
        assert self._slopes is not None
        for cell, start, stop, kept in self._ends(b.slopes_kept):
            own = b.features(self._slopes, cell, start, stop)
            ops.add(kept.copy_, own.view(kept.shape))

    def backward(self, ops: Operations, i: int) -> None:
        """The gradients of a stage's kernels, and of what it takes where that is another stage's."""
        b, arena = self._buffers, self._arena
        for own in self._products[i]:
            d = b.side_by_side(b.slopes, own.members, kept=False)
            one, count = own.members[0], len(own.members)
            of_given = b.side_by_side(b.slopes_kept, self._before(i, own.members), kept=True) if i else None
            gradients = arena.kernels(arena.matrix_gradients, one.lane, one.number, count)
            ops.add(_back, d, own.given, own.weight, own.options, gradients, of_given)


def _back(
    d: Tensor, given: Tensor, weight: Tensor, options: Sequence[Any], of_weights: Tensor, of_given: Tensor | None
) -> None:
    """Write a convolution's gradients. aten's variant that does takes no gradient for none."""
    found = aten.convolution_backward(d, given, weight, None, *options, [of_given is not None, True, False])
    of_weights.copy_(found[1].view(of_weights.shape))
    if of_given is not None:
        of_given.copy_(found[0])


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
    """A convolution of neighbours: given [n, lanes * channels, height, width] -> result. weights: [lanes, filters,
    channels / groups, *kernel], each lane's own; weight: side by side. copied: what `given` is a copy of."""

    def __init__(
        self, members: list[Member], given: Tensor, copied: Tensor | None, weights: Tensor, result: Tensor, groups: int
    ) -> None:
        self.members, self.given, self.copied, self.weights, self.result = members, given, copied, weights, result
        self.weight = weights[0] if len(members) == 1 else torch.zeros_like(weights).flatten(0, 1)
        window = members[0].block.convolution
        assert window is not None
        #: As aten's convolution has them, after weight and bias.
        self.options = (
            *(list(n) for n in (window.stride, window.padding, window.dilation)),
            *(False, [0, 0], groups),
        )
