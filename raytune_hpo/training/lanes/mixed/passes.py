"""Passes: the forward pass of many lanes, and the backward pass, as operations on a layout's buffers."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.activations import Activations
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.layout import Cell, Layout
from raytune_hpo.training.lanes.mixed.norms import Norms, Samples
from raytune_hpo.training.lanes.mixed.operations import Buffers, Operations


class Passes:
    """Of the lanes of a layout. x: [rows, inputs], of all lanes' samples; or [n, inputs], the same for all, where they
    are measured. outputs: [rows, C]. samples: of the training's mini-batches; None where lanes are measured."""

    def __init__(
        self, layout: Layout, arena: Arena, x: Tensor, samples: Samples | None, *, masked: bool, shared: bool = False
    ) -> None:
        self.layout, self.arena, self._x, self._shared = layout, arena, x, shared
        self._samples = samples
        device = x.device
        stages = range(1, layout.stages + 1)
        self._norms: Mapping[int, Norms] = {s: Norms(layout, s, device) for s in stages}
        self._activations = {s: Activations(layout, s, device) for s in stages}
        self._normed = any(bool(norms) for norms in self._norms.values())
        self.buffers = Buffers(layout, device, training=samples is not None, normed=self._normed, masked=masked)
        self.outputs = torch.zeros(layout.samples, layout.outputs, device=device)

    # Forth --------------------------------------------------------------------------------------------

    def forward(self, ops: Operations) -> None:
        """Masks have to be drawn."""
        b, layout = self.buffers, self.layout
        for s in range(1, layout.stages + 1):
            for cell in layout.cells:
                self._linear(ops, cell, s)
            norms = self._norms[s]
            if self._samples is not None:
                self._bias(ops, s, self._samples)
                if norms:
                    norms.forward(ops, b, self.arena, self._samples)
                elif b.before is not b.linear:
                    ops.add(b.stage(b.before, s).copy_, b.stage(b.linear, s))
            else:
                norms.measure(ops, b, self.arena)
            self._activations[s].forward(ops, b)
            if self._samples is not None and self._normed and self._activations[s].lifts:
                for batch in layout.batches:  # whose later means are of the samples that there are
                    ops.add(b.rows(b.after, batch, s).mul_, self._samples.rows[batch.size, s])
            if b.masks is not None:
                ops.add(torch.mul, b.stage(b.after, s), b.stage(b.masks, s), out=b.stage(b.kept, s))
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
            x = b.cell(b.kept, cell, s - 1)
            ops.add(torch.bmm, weight, x, out=b.cell(b.linear, cell, s, 0, before))
        if here > before:
            weight = self.arena.matrix(weights, cell, "first", 1, before, here)
            x = self._given(cell, before, here).transpose(1, 2)
            ops.add(torch.bmm, weight, x, out=b.cell(b.linear, cell, s, before, here))

    def _given(self, cell: Cell, start: int, stop: int) -> Tensor:
        """[lanes, n, inputs]"""
        if self._shared:
            return self._x.expand(stop - start, *self._x.shape)
        return self.buffers.samples(self._x, cell, start, stop)

    def _bias(self, ops: Operations, s: int, samples: Samples) -> None:
        bias = self.arena.vector(self.arena.vectors[0], "bias", s)
        for batch in self.layout.batches:
            x = self.buffers.rows(self.buffers.linear, batch, s)
            if len(x):
                own = bias[self.layout.batch_rows[batch.size, s]][:, None]
                ops.add(torch.addcmul, x, samples.rows[batch.size, s], own, out=x)

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
        assert self._samples is not None
        b, arena, layout = self.buffers, self.arena, self.layout
        of_outputs = arena.vector(arena.vector_gradients, "bias", 0)
        for batch in layout.batches:
            ops.add(torch.sum, b.batch_samples(slopes, batch), 1, out=of_outputs[batch.start : batch.stop])
        for cell in layout.cells:
            self._output_back(ops, cell, slopes)
        for s in range(layout.stages, 0, -1):
            d = b.stage(b.slopes, s)
            if b.masks is not None:
                ops.add(d.mul_, b.stage(b.masks, s))
            self._activations[s].backward(ops, b)
            if self._norms[s]:
                self._norms[s].backward(ops, b, arena, self._samples)
            bias = arena.vector(arena.vector_gradients, "bias", s)
            for batch in layout.batches:
                own = b.rows(b.slopes, batch, s)
                if len(own):
                    ops.add(torch.sum, own, 1, out=bias[layout.batch_rows[batch.size, s]])
            for cell in layout.cells:
                self._linear_back(ops, cell, s)

    def _output_back(self, ops: Operations, cell: Cell, slopes: Tensor) -> None:
        b, arena, deep = self.buffers, self.arena, cell.deep
        if deep:
            d = b.samples(slopes, cell, 0, deep).transpose(1, 2)
            x = b.turned(b.kept, cell, self.layout.stages)
            ops.add(torch.bmm, d, x, out=arena.matrix(arena.matrix_gradients, cell, "last", 0))
            weight = arena.matrix(arena.matrices[0], cell, "last", 0).transpose(1, 2)
            ops.add(torch.bmm, weight, d, out=b.cell(b.slopes, cell, self.layout.stages))
        if len(cell) > deep:
            d, x = b.samples(slopes, cell, deep).transpose(1, 2), self._given(cell, deep, len(cell))
            ops.add(torch.bmm, d, x, out=arena.matrix(arena.matrix_gradients, cell, "only", 0))

    def _linear_back(self, ops: Operations, cell: Cell, s: int) -> None:
        b, arena = self.buffers, self.arena
        before, here = cell.having[s - 1], cell.having[s]
        if before:
            d, x = b.cell(b.slopes, cell, s, 0, before), b.turned(b.kept, cell, s - 1, 0, before)
            ops.add(torch.bmm, d, x, out=arena.matrix(arena.matrix_gradients, cell, "hidden", s))
            weight = arena.matrix(arena.matrices[0], cell, "hidden", s).transpose(1, 2)
            ops.add(torch.bmm, weight, d, out=b.cell(b.slopes, cell, s - 1, 0, before))
        if here > before:
            d = b.cell(b.slopes, cell, s, before, here)
            gradients = arena.matrix(arena.matrix_gradients, cell, "first", 1, before, here)
            ops.add(torch.bmm, d, self._given(cell, before, here), out=gradients)
