"""Batch norms of many lanes: each lane's own statistics, over the samples that it has in a padded mini-batch.

Rows without one, and lanes that stand still, go through unchanged: their mean is taken for 0 and their scale for 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.chain import Norm
from raytune_hpo.training.lanes.mixed.layout import Batch, Layout
from raytune_hpo.training.lanes.mixed.operations import Buffers, Operations


@dataclass(frozen=True)
class Samples:
    """Of the mini-batches of a tick. share: [L], one by their samples; unbias: [L], n / (n - 1). rows: of a batch size
    and stage, [rows, n], 1 for the samples that there are."""

    share: Tensor
    unbias: Tensor
    rows: dict[tuple[int, int], Tensor]


class Norms:
    """Of a stage, [rows] each: eps, momentum; norm: 1 for rows that have one. batches: where any lane has one."""

    def __init__(self, layout: Layout, stage: int, device: torch.device) -> None:
        self.layout, self.stage = layout, stage
        found = [_norm(layout, lane, stage) for lane in range(len(layout.lanes))]
        lanes = layout.row_lanes[stage]
        columns = [
            np.array([0.0 if norm is None else value(norm) for norm in found])[lanes]
            for value in (lambda norm: 1.0, lambda norm: norm.eps, lambda norm: norm.momentum)
        ]
        self._norm, self._eps, self._momentum = (
            torch.from_numpy(c).to(device, torch.get_default_dtype()) for c in columns
        )
        self._eps += 1 - self._norm  # of rows without one: their variance is 0
        self._without = self._norm == 0
        self._lanes = torch.from_numpy(lanes).to(device)
        self._batches = [b for b in layout.batches if any(found[lane] is not None for lane in self._having(b))]
        self._others = [b for b in layout.batches if b not in self._batches]
        size = layout.rows[stage]
        like = self._norm
        self._views: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        self._mean, self._var, self._scale, self._root, self._share, self._slope = torch.zeros(
            6, size, dtype=like.dtype, device=device
        ).unbind(0)

    def _having(self, batch: Batch) -> Sequence[int]:
        return [cell.start + i for cell in batch.cells for i in range(cell.having[self.stage])]

    def __bool__(self) -> bool:
        return bool(self._batches)

    def _of(self, values: Tensor, batch: Batch) -> Tensor:
        """[rows, 1] of a batch size."""
        own = self.layout.batch_rows[batch.size, self.stage]
        first = values.storage_offset() + own.start
        key = (id(values), first)
        if key not in self._views:  # kept with what it is of: another tensor may get the id of one that is gone
            self._views[key] = values, values.as_strided((own.stop - own.start, 1), (1, 1), first)
        return self._views[key][1]

    def forward(self, ops: Operations, buffers: Buffers, arena: Arena, samples: Samples) -> None:
        """From `buffers.linear`, of which the padded samples are 0, to `buffers.before`."""
        rows = {batch.size: buffers.rows(buffers.linear, batch, self.stage) for batch in self.layout.batches}
        for batch in self._others:
            ops.add(buffers.rows(buffers.before, batch, self.stage).copy_, rows[batch.size])
        ops.add(torch.index_select, samples.share, 0, self._lanes, out=self._share)
        ops.add(self._share.mul_, self._norm)
        for batch in self._batches:
            ops.add(torch.sum, rows[batch.size], 1, keepdim=True, out=self._of(self._mean, batch))
        ops.add(self._mean.mul_, self._share)
        for batch in self._batches:
            x, squares = rows[batch.size], buffers.rows(buffers.one, batch, self.stage)
            there = samples.rows[batch.size, self.stage]
            ops.add(torch.addcmul, x, there, self._of(self._mean, batch), value=-1, out=x)
            ops.add(torch.mul, x, x, out=squares)
            ops.add(torch.sum, squares, 1, keepdim=True, out=self._of(self._var, batch))
        ops.add(self._var.mul_, self._share)
        self._run(ops, arena, samples)
        ops.add(torch.add, self._var, self._eps, out=self._root)
        ops.add(self._root.rsqrt_)
        ops.add(torch.mul, self._root, arena.vector(arena.vectors[0], "gamma", self.stage), out=self._scale)
        ops.add(self._scale.masked_fill_, self._without, 1.0)
        beta = arena.vector(arena.vectors[0], "beta", self.stage)
        for batch in self._batches:
            out = buffers.rows(buffers.before, batch, self.stage)
            there = samples.rows[batch.size, self.stage]
            ops.add(torch.mul, rows[batch.size], self._of(self._scale, batch), out=out)
            ops.add(torch.addcmul, out, there, self._of(beta, batch), out=out)

    def _run(self, ops: Operations, arena: Arena, samples: Samples) -> None:
        """The running statistics: lanes that stand still keep theirs."""
        moved, unbiased = torch.zeros_like(self._mean), torch.zeros_like(self._mean)
        ops.add(torch.sign, self._share, out=moved)
        ops.add(moved.mul_, self._momentum)
        mean, var = (arena.vector(arena.running[0], kind, self.stage) for kind in ("mean", "var"))
        ops.add(torch.index_select, samples.unbias, 0, self._lanes, out=unbiased)
        ops.add(unbiased.mul_, self._var)
        ops.add(torch.lerp, mean, self._mean, moved, out=mean)
        ops.add(torch.lerp, var, unbiased, moved, out=var)

    def backward(self, ops: Operations, buffers: Buffers, arena: Arena, samples: Samples) -> None:
        """`buffers.slopes`, of what the norm gives, 0 for padded samples, becomes that of what it takes."""
        gamma, beta = (arena.vector(arena.vector_gradients, kind, self.stage) for kind in ("gamma", "beta"))
        products = torch.zeros_like(self._mean)
        for batch in self._batches:
            d, x = (buffers.rows(flat, batch, self.stage) for flat in (buffers.slopes, buffers.linear))
            both = buffers.rows(buffers.one, batch, self.stage)
            ops.add(torch.sum, d, 1, keepdim=True, out=self._of(beta, batch))
            ops.add(torch.mul, d, x, out=both)
            ops.add(torch.sum, both, 1, keepdim=True, out=self._of(products, batch))
        ops.add(beta.mul_, self._norm)
        ops.add(products.mul_, self._norm)
        ops.add(torch.mul, products, self._root, out=gamma)
        ops.add(torch.mul, gamma, self._root, out=self._slope)
        ops.add(self._slope.mul_, self._share)
        shift = torch.zeros_like(self._mean)
        ops.add(torch.mul, beta, self._share, out=shift)
        for batch in self._batches:
            d, x = (buffers.rows(flat, batch, self.stage) for flat in (buffers.slopes, buffers.linear))
            there = samples.rows[batch.size, self.stage]
            ops.add(torch.addcmul, d, x, self._of(self._slope, batch), value=-1, out=d)
            ops.add(torch.addcmul, d, there, self._of(shift, batch), value=-1, out=d)
            ops.add(torch.mul, d, self._of(self._scale, batch), out=d)

    def measure(self, ops: Operations, buffers: Buffers, arena: Arena) -> None:
        """With the running statistics, in place, the linear layer's biases included."""
        mean, var = (arena.vector(arena.running[0], kind, self.stage) for kind in ("mean", "var"))
        bias, gamma, beta = (arena.vector(arena.vectors[0], kind, self.stage) for kind in ("bias", "gamma", "beta"))
        ops.add(torch.add, var, self._eps, out=self._root)
        ops.add(self._root.rsqrt_)
        ops.add(torch.mul, self._root, gamma, out=self._scale)
        ops.add(self._scale.masked_fill_, self._without, 1.0)
        ops.add(torch.sub, bias, mean, out=self._mean)
        ops.add(torch.addcmul, beta, self._mean, self._scale, out=self._mean)
        for batch in self.layout.batches:
            x = buffers.rows(buffers.linear, batch, self.stage)
            ops.add(torch.addcmul, self._of(self._mean, batch), x, self._of(self._scale, batch), out=x)


def _norm(layout: Layout, lane: int, stage: int) -> Norm | None:
    chain = layout.lanes[lane].chain
    block = stage - 1 - (layout.stages - chain.depth)
    return chain.blocks[block].norm if 0 <= block < chain.depth else None
