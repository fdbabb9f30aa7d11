"""Passes: the forward pass of many lanes, and the backward pass, as operations on a layout's buffers."""

from __future__ import annotations

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.convolving import Convolutions
from raytune_hpo.training.lanes.mixed.following import Following
from raytune_hpo.training.lanes.mixed.layout import Cell, Layout
from raytune_hpo.training.lanes.mixed.norms import Samples
from raytune_hpo.training.lanes.mixed.operations import Operations


class Passes:
    """Of the lanes of a layout. x: [rows, inputs], of all lanes' samples; or [n, inputs], the same for all, where they
    are measured. outputs: [rows, C]. samples: of the training's mini-batches; None where lanes are measured."""

    def __init__(
        self, layout: Layout, arena: Arena, x: Tensor, samples: Samples | None, *, masked: bool, shared: bool = False
    ) -> None:
        self.layout, self.arena, self._x, self._shared = layout, arena, x, shared
        device, training = x.device, samples is not None
        self._hidden = {s: Following(layout, stage, device, samples) for s, stage in layout.hidden.items()}
        self._images = [Following(layout, stage, device, samples) for stage in layout.convolved]
        normed = any(bool(own.norms) for own in (*self._hidden.values(), *self._images))
        self.buffers = Buffers(layout, device, training=training, normed=normed, masked=masked)
        self._convolutions: Convolutions | None = None
        if self._images:
            self._convolutions = Convolutions(layout, arena, self.buffers, x, shared=shared, training=training)
        self.outputs = torch.zeros(layout.samples, layout.outputs, device=device)

    # Forth --------------------------------------------------------------------------------------------

    def forward(self, ops: Operations) -> None:
        """Masks have to be drawn."""
        b, layout = self.buffers, self.layout
        if self._convolutions is not None:
            for i, following in enumerate(self._images):
                self._convolutions.forward(ops, i)
                following.forward(ops, b, self.arena)
            self._convolutions.features(ops)
        for s, following in self._hidden.items():
            for cell in layout.cells:
                self._linear(ops, cell, s)
            following.forward(ops, b, self.arena)
        for cell in layout.cells:
            self._output(ops, cell)
        bias = self.arena.vector(self.arena.vectors[0], "bias", 0)
        for batch in layout.batches:
            own = b.batch_samples(self.outputs, batch)
            ops.add(own.add_, bias[batch.start : batch.stop, None])

    def _linear(self, ops: Operations, cell: Cell, s: int) -> None:
        """Without biases: padded samples stay 0."""
        b, weights = self.buffers, self.arena.matrices[0]
        before, here = cell.having[s - 1], cell.having[s]
        if before:
            weight = self.arena.matrix(weights, cell, "hidden", s)
            x = b.cell(b.kept, cell, s - 1, 0, before)
            ops.add(torch.bmm, weight, x, out=b.cell(b.linear, cell, s, 0, before))
        if here > before:
            weight = self.arena.matrix(weights, cell, "first", 1, before, here)
            x = self._given(cell, before, here).transpose(1, 2)
            ops.add(torch.bmm, weight, x, out=b.cell(b.linear, cell, s, before, here))

    def _given(self, cell: Cell, start: int, stop: int) -> Tensor:
        """[lanes, n, inputs]"""
        if self._convolutions is not None:
            return self._convolutions.given(cell, start, stop)
        if self._shared:
            return self._x.expand(stop - start, *self._x.shape)
        return self.buffers.samples(self._x, cell, start, stop)

    def _output(self, ops: Operations, cell: Cell) -> None:
        b, weights, deep = self.buffers, self.arena.matrices[0], cell.deep
        if deep:
            weight = self.arena.matrix(weights, cell, "last", 0).transpose(1, 2)
            x = b.turned(b.kept, cell, self.layout.stages)
            ops.add(torch.bmm, x, weight, out=b.samples(self.outputs, cell, 0, deep))
        if len(cell) > deep:
            weight = self.arena.matrix(weights, cell, "only", 0).transpose(1, 2)
            x = self._given(cell, deep, len(cell))
            ops.add(torch.bmm, x, weight, out=b.samples(self.outputs, cell, deep))

    # Back ---------------------------------------------------------------------------------------------

    def backward(self, ops: Operations, slopes: Tensor) -> None:
        """slopes: [rows, C], of the outputs, 0 for padded samples. Fills the arena's gradients."""
        b, arena, layout = self.buffers, self.arena, self.layout
        of_outputs = arena.vector(arena.vector_gradients, "bias", 0)
        for batch in layout.batches:
            ops.add(torch.sum, b.batch_samples(slopes, batch), 1, out=of_outputs[batch.start : batch.stop])
        for cell in layout.cells:
            self._output_back(ops, cell, slopes)
        for s, following in reversed(self._hidden.items()):
            following.backward(ops, b, arena)
            for cell in layout.cells:
                self._linear_back(ops, cell, s)
        if self._convolutions is not None:
            self._convolutions.features_back(ops)
            for i, following in reversed(list(enumerate(self._images))):
                following.backward(ops, b, arena)
                self._convolutions.backward(ops, i)

    def _output_back(self, ops: Operations, cell: Cell, slopes: Tensor) -> None:
        b, arena, deep = self.buffers, self.arena, cell.deep
        if deep:
            d = b.samples(slopes, cell, 0, deep).transpose(1, 2)
            x = b.turned(b.kept, cell, self.layout.stages)
            ops.add(torch.bmm, d, x, out=arena.matrix(arena.matrix_gradients, cell, "last", 0))
            weight = arena.matrix(arena.matrices[0], cell, "last", 0).transpose(1, 2)
            ops.add(torch.bmm, weight, d, out=b.cell(b.slopes_kept, cell, self.layout.stages))
        if len(cell) > deep:
            d = b.samples(slopes, cell, deep).transpose(1, 2)
            self._given_back(ops, cell, "only", 0, d, deep, len(cell))

    def _linear_back(self, ops: Operations, cell: Cell, s: int) -> None:
        b, arena = self.buffers, self.arena
        before, here = cell.having[s - 1], cell.having[s]
        if before:
            d, x = b.cell(b.slopes, cell, s, 0, before), b.turned(b.kept, cell, s - 1, 0, before)
            ops.add(torch.bmm, d, x, out=arena.matrix(arena.matrix_gradients, cell, "hidden", s))
            weight = arena.matrix(arena.matrices[0], cell, "hidden", s).transpose(1, 2)
            ops.add(torch.bmm, weight, d, out=b.cell(b.slopes_kept, cell, s - 1, 0, before))
        if here > before:
            self._given_back(ops, cell, "first", 1, b.cell(b.slopes, cell, s, before, here), before, here)

    def _given_back(self, ops: Operations, cell: Cell, kind: str, s: int, d: Tensor, start: int, stop: int) -> None:
        """Of the lanes from start to stop of a cell, whose matrices take what is given. d: [lanes, outputs, n]."""
        arena, first = self.arena, start if kind == "first" else 0
        own = (cell, kind, s, first, first + stop - start)
        ops.add(torch.bmm, d, self._given(cell, start, stop), out=arena.matrix(arena.matrix_gradients, *own))
        if self._convolutions is not None:
            weight = arena.matrix(arena.matrices[0], *own)
            ops.add(torch.bmm, d.transpose(1, 2), weight, out=self._convolutions.slopes(cell, start, stop))
