"""Batch norms of many lanes: each lane's own statistics, over the samples that it has in a padded mini-batch.

Rows without one, and lanes that stand still, go through unchanged: their mean is taken for 0 and their scale for 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.buffers import Buffers, Views
from raytune_hpo.training.lanes.mixed.layout import Layout
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.stages import Stage, Strip


@dataclass(frozen=True)
class Samples:
    """Of the mini-batches of a tick. share: [L], one by their samples; unbias: [L], n / (n - 1). rows: of a stage's
    number and a strip's, [count, features, n, 1], of images [count, 1, n, 1]: 1 for the samples that there are."""

    share: Tensor
    unbias: Tensor
    rows: dict[tuple[int, int], Tensor]


class Norms:
    """Of a stage, [slots] each: eps, momentum, pixels, of a row; norm: 1 for those that have one."""

    def __init__(self, layout: Layout, stage: Stage, device: torch.device) -> None:
        self.layout, self.stage = layout, stage
        norms = [member.block.norm for member in stage.members]
        sizes = [member.slots for member in stage.members]
        real = torch.get_default_dtype()

        def column(values: list[float]) -> Tensor:
            return torch.from_numpy(np.repeat(np.array(values, np.float64), sizes)).to(device, real)

        self._norm = column([0.0 if norm is None else 1.0 for norm in norms])
        self._eps = column([1.0 if norm is None else norm.eps for norm in norms])  # without one the variance is 0
        self._momentum = column([0.0 if norm is None else norm.momentum for norm in norms])
        self._pixels = column([float(member.pixels) for member in stage.members])
        self._without = self._norm == 0
        self._lanes = torch.from_numpy(stage.slot_lanes).to(device)
        self._own: list[int] = []  # the strips where any lane has one
        normed = {member.lane for member, norm in zip(stage.members, norms, strict=True) if norm is not None}
        for i, strip in enumerate(stage.strips):
            if normed.intersection(strip.lanes.tolist()):
                self._own.append(i)
        self._views = Views()
        self._mean, self._var, self._scale, self._root, self._share, self._slope = torch.zeros(
            6, stage.slots, dtype=real, device=device
        ).unbind(0)

    def __bool__(self) -> bool:
        return bool(self._own)

    def _of(self, values: Tensor, strip: Strip) -> Tensor:
        """[count, features, 1, 1] of a strip."""
        shape, strides = (strip.count, strip.features, 1, 1), (strip.apart, 1, 1, 1)
        return self._views.of(values, shape, strides, strip.slot)

    def _strips(self, samples: Samples) -> list[tuple[Strip, Tensor]]:
        """Those with a norm, and which of their samples there are."""
        return [(self.stage.strips[i], samples.rows[self.stage.number, i]) for i in self._own]

    def bias(self, ops: Operations, buffers: Buffers, arena: Arena, samples: Samples) -> None:
        """Add the linear layer's, also where there is no norm: padded samples stay 0. Convolutions add their own."""
        bias = arena.vector(arena.vectors[0], "bias", self.stage.number)
        for i, strip in enumerate(self.stage.strips):
            if not strip.of_images:
                x, there = buffers.strip(buffers.linear, strip), samples.rows[self.stage.number, i]
                ops.add(torch.addcmul, x, there, self._of(bias, strip), out=x)

    def bias_back(self, ops: Operations, buffers: Buffers, arena: Arena) -> None:
        bias = arena.vector(arena.vector_gradients, "bias", self.stage.number)
        for strip in self.stage.strips:
            _sum(ops, buffers.strip(buffers.slopes, strip), self._of(bias, strip))

    def forward(self, ops: Operations, buffers: Buffers, arena: Arena, samples: Samples) -> None:
        """From `buffers.linear`, of which the padded samples are 0, to `buffers.before`."""
        number, strips = self.stage.number, self._strips(samples)
        for i, strip in enumerate(self.stage.strips):
            if i not in self._own:
                ops.add(buffers.strip(buffers.before, strip).copy_, buffers.strip(buffers.linear, strip))
        ops.add(torch.index_select, samples.share, 0, self._lanes, out=self._share)
        ops.add(self._share.mul_, self._norm)
        if self._of_images:
            ops.add(self._share.div_, self._pixels)
        for strip, _ in strips:
            _sum(ops, buffers.strip(buffers.linear, strip), self._of(self._mean, strip))
        ops.add(self._mean.mul_, self._share)
        for strip, there in strips:
            x, squares = (buffers.strip(flat, strip) for flat in (buffers.linear, buffers.one))
            self._shifted(ops, x, there, self._of(self._mean, strip), -1)
            _sum_of_squares(ops, x, squares, self._of(self._var, strip))
        ops.add(self._var.mul_, self._share)
        self._run(ops, arena, samples)
        ops.add(torch.add, self._var, self._eps, out=self._root)
        ops.add(self._root.rsqrt_)
        ops.add(torch.mul, self._root, arena.vector(arena.vectors[0], "gamma", number), out=self._scale)
        ops.add(self._scale.masked_fill_, self._without, 1.0)
        beta = arena.vector(arena.vectors[0], "beta", number)
        for strip, there in strips:
            x, out = (buffers.strip(flat, strip) for flat in (buffers.linear, buffers.before))
            ops.add(torch.mul, x, self._of(self._scale, strip), out=out)
            self._shifted(ops, out, there, self._of(beta, strip), 1)

    @property
    def _of_images(self) -> bool:
        return self.stage.of_images

    def _shifted(self, ops: Operations, x: Tensor, there: Tensor, by: Tensor, sign: int) -> None:
        """Add a number a row, times the sign, to the samples that there are. Of images it is multiplied out for each
        sample: torch's addcmul is several times slower where two of three are broadcast."""
        if not self._of_images:
            ops.add(torch.addcmul, x, there, by, value=sign, out=x)
            return
        each = torch.zeros(x.shape[:3], dtype=x.dtype, device=x.device)[..., None]
        ops.add(torch.mul, there, by, out=each)
        ops.add(x.add_, each, alpha=sign)

    def _run(self, ops: Operations, arena: Arena, samples: Samples) -> None:
        """The running statistics: lanes that stand still keep theirs."""
        number = self.stage.number
        moved, unbiased = torch.zeros_like(self._mean), torch.zeros_like(self._mean)
        ops.add(torch.sign, self._share, out=moved)
        ops.add(moved.mul_, self._momentum)
        mean, var = (arena.vector(arena.running[0], kind, number) for kind in ("mean", "var"))
        of_batch = self._mean
        if self._of_images:  # whose products come without their bias, which a norm takes away again
            of_batch = torch.zeros_like(self._mean)
            ops.add(torch.add, self._mean, arena.vector(arena.vectors[0], "bias", number), out=of_batch)
            ops.add(torch.neg, self._share, out=unbiased)
            ops.add(unbiased.add_, 1.0)  # 1 - 1 / n, n: the numbers that a row's statistics are of
            ops.add(unbiased.reciprocal_)
        else:
            ops.add(torch.index_select, samples.unbias, 0, self._lanes, out=unbiased)
        ops.add(unbiased.mul_, self._var)
        ops.add(torch.lerp, mean, of_batch, moved, out=mean)
        ops.add(torch.lerp, var, unbiased, moved, out=var)

    def backward(self, ops: Operations, buffers: Buffers, arena: Arena, samples: Samples) -> None:
        """`buffers.slopes`, of what the norm gives, 0 for padded samples, becomes that of what it takes."""
        number, strips = self.stage.number, self._strips(samples)
        gamma, beta = (arena.vector(arena.vector_gradients, kind, number) for kind in ("gamma", "beta"))
        products = torch.zeros_like(self._mean)
        for strip, _ in strips:
            d, x, both = (buffers.strip(flat, strip) for flat in (buffers.slopes, buffers.linear, buffers.one))
            _sum(ops, d, self._of(beta, strip))
            ops.add(torch.mul, d, x, out=both)
            _sum(ops, both, self._of(products, strip))
        ops.add(beta.mul_, self._norm)
        ops.add(products.mul_, self._norm)
        ops.add(torch.mul, products, self._root, out=gamma)
        ops.add(torch.mul, gamma, self._root, out=self._slope)
        ops.add(self._slope.mul_, self._share)
        shift = torch.zeros_like(self._mean)
        ops.add(torch.mul, beta, self._share, out=shift)
        for strip, there in strips:
            d, x = (buffers.strip(flat, strip) for flat in (buffers.slopes, buffers.linear))
            ops.add(torch.addcmul, d, x, self._of(self._slope, strip), value=-1, out=d)
            self._shifted(ops, d, there, self._of(shift, strip), -1)
            ops.add(torch.mul, d, self._of(self._scale, strip), out=d)

    def measure(self, ops: Operations, buffers: Buffers, arena: Arena) -> None:
        """With the running statistics, in place, biases included that products come without."""
        if self._of_images and not self._own:
            return
        number = self.stage.number
        mean, var = (arena.vector(arena.running[0], kind, number) for kind in ("mean", "var"))
        bias, gamma, beta = (arena.vector(arena.vectors[0], kind, number) for kind in ("bias", "gamma", "beta"))
        ops.add(torch.add, var, self._eps, out=self._root)
        ops.add(self._root.rsqrt_)
        ops.add(torch.mul, self._root, gamma, out=self._scale)
        ops.add(self._scale.masked_fill_, self._without, 1.0)
        ops.add(torch.sub, bias, mean, out=self._mean)
        ops.add(torch.addcmul, beta, self._mean, self._scale, out=self._mean)
        for i, strip in enumerate(self.stage.strips):
            x, shift, scale = (
                buffers.strip(buffers.linear, strip),
                *(self._of(t, strip) for t in (self._mean, self._scale)),
            )
            if not strip.of_images:
                ops.add(torch.addcmul, shift, x, scale, out=x)
            elif i in self._own:
                ops.add(x.mul_, scale)
                ops.add(x.add_, shift)


def _sum(ops: Operations, x: Tensor, out: Tensor) -> None:
    """Of each row. x: [count, features, samples, pixels]."""
    ops.add(torch.sum, x, (2, 3), keepdim=True, out=out)


def _sum_of_squares(ops: Operations, x: Tensor, squares: Tensor, out: Tensor) -> None:
    """As `_sum`. squares: like x, for it to use."""
    if x.shape[3] == 1:
        ops.add(torch.mul, x, x, out=squares)
        _sum(ops, squares, out)
        return
    each = torch.zeros(x.shape[0], x.shape[2], x.shape[1], 1, dtype=x.dtype, device=x.device).transpose(1, 2)
    ops.add(torch.linalg.vector_norm, x, 2, 3, keepdim=True, out=each)  # one pass, that writes little
    ops.add(each.mul_, each)
    _sum(ops, each, out)
