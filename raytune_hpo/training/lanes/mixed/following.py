"""What follows the products of a stage, of all its lanes: bias, batch norm, activation, max-pooling, dropout."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch

from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.activations import Activations
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.chain import Pair, Window
from raytune_hpo.training.lanes.mixed.layout import Layout
from raytune_hpo.training.lanes.mixed.norms import Norms, Samples
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.stages import Member, Stage, Strip

aten = torch.ops.aten


@dataclass(frozen=True)
class _Pooling:
    """Neighbours that are pooled alike, or not at all: their elements, and those that are kept, of the stage's."""

    window: Window | None
    size: Pair
    kept_size: Pair
    elements: slice
    kept: slice


class Following:
    """Of a stage. samples: of the training's mini-batches; None where lanes are measured."""

    def __init__(self, layout: Layout, stage: Stage, device: torch.device, samples: Samples | None) -> None:
        self.stage, self._samples = stage, samples
        self.norms = Norms(layout, stage, device)
        self._activations = Activations(stage, device, launches=layout.launches)
        self._pools = layout.pools
        self._poolings = _poolings(stage)
        self._chosen: list[Tensor | None] = []  # the numbers of what max-pooling chose

    def forward(self, ops: Operations, b: Buffers, arena: Arena) -> None:
        samples, stage = self._samples, self.stage
        if samples is None:
            self.norms.measure(ops, b, arena)
        else:
            self.norms.bias(ops, b, arena, samples)
            if self.norms:
                self.norms.forward(ops, b, arena, samples)
            elif b.before is not b.linear:
                ops.add(b.stage(b.before, stage).copy_, b.stage(b.linear, stage))
        self._activations.forward(ops, b)
        if samples is not None and b.before is not b.linear:
            for i, strip in enumerate(stage.strips):
                if self._lifts(strip):  # later means are of the samples that there are
                    ops.add(b.strip(b.after, strip).mul_, samples.rows[stage.number, i])
        if self._pools:
            self._pool(ops, b)
        if b.masks is not None:
            given = b.stage_kept(b.kept, stage) if self._pools else b.stage(b.after, stage)
            ops.add(torch.mul, given, b.stage_kept(b.masks, stage), out=b.stage_kept(b.kept, stage))

    def _lifts(self, strip: Strip) -> bool:
        """Whether padded samples, which were 0, are so no longer: by an activation, or by a convolution's bias."""
        biased = strip.of_images and any(self.stage.by_lane[i].block.norm is None for i in strip.lanes.tolist())
        return self._activations.lifts or biased

    def _pool(self, ops: Operations, b: Buffers) -> None:
        after, kept = b.stage(b.after, self.stage), b.stage_kept(b.kept, self.stage)
        for own in self._poolings:
            x, y = after[own.elements], kept[own.kept]
            if own.window is None:
                self._chosen.append(None)
                ops.add(y.copy_, x)
                continue
            x, y = x.view(1, -1, *own.size), y.view(1, -1, *own.kept_size)
            chosen = torch.zeros(y.shape, dtype=torch.int64, device=y.device)
            self._chosen.append(chosen)
            ops.add(aten.max_pool2d_with_indices.out, x, *_of(own.window), out=y, indices=chosen)

    def backward(self, ops: Operations, b: Buffers, arena: Arena) -> None:
        """From the gradient of what is kept to that of the products, and of the vectors."""
        assert self._samples is not None
        if b.masks is not None:
            ops.add(b.stage_kept(b.slopes_kept, self.stage).mul_, b.stage_kept(b.masks, self.stage))
        if self._pools:
            self._pool_back(ops, b)
        self._activations.backward(ops, b)
        if self.norms:
            self.norms.backward(ops, b, arena, self._samples)
        self.norms.bias_back(ops, b, arena)

    def _pool_back(self, ops: Operations, b: Buffers) -> None:
        after, kept = b.stage(b.after, self.stage), b.stage_kept(b.slopes_kept, self.stage)
        slopes = b.stage(b.slopes, self.stage)
        for own, chosen in zip(self._poolings, self._chosen, strict=True):
            d, out = kept[own.kept], slopes[own.elements]
            if own.window is None:
                ops.add(out.copy_, d)
                continue
            x, out = (t.view(1, -1, *own.size) for t in (after[own.elements], out))
            d = d.view(1, -1, *own.kept_size)
            back = aten.max_pool2d_with_indices_backward.grad_input
            ops.add(back, d, x, *_of(own.window), chosen, grad_input=out)


def _of(window: Window) -> tuple[Pair, Pair, Pair, Pair, bool]:
    return window.kernel, window.stride, window.padding, window.dilation, False


def _poolings(stage: Stage) -> list[_Pooling]:
    def kind(member: Member) -> tuple[Window | None, Pair]:
        return member.block.pool, member.size

    found = []
    for (window, size), of_kind in itertools.groupby(stage.members, key=kind):
        members = list(of_kind)
        first, last = members[0], members[-1]
        at, kept = stage.elements.start, stage.kept_elements.start
        elements = slice(first.elements.start - at, last.elements.stop - at)
        of_kept = slice(first.kept_elements.start - kept, last.kept_elements.stop - kept)
        found.append(_Pooling(window, size, first.kept_size, elements, of_kept))
    return found
