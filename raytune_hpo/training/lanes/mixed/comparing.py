"""Outputs of many lanes against their targets: losses and their gradients. C: outputs; rows: samples of lanes."""

from __future__ import annotations

import torch

from raytune_hpo.training.data import Kind
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.layout import Layout
from raytune_hpo.training.lanes.mixed.operations import Operations

aten = torch.ops.aten


class Comparison:
    """outputs: [rows, C]. targets: [rows], classes, or [rows, C]. shares: [rows], of a sample in its lane's mean, 0 of
    those that are not there. smoothing: [rows], None where no lane has any.

    losses: [L], of the tick. slopes: [rows, C].
    """

    def __init__(
        self, layout: Layout, kind: Kind, outputs: Tensor, targets: Tensor, shares: Tensor, smoothing: Tensor | None
    ) -> None:
        self._layout, self._kind = layout, kind
        self._outputs, self._targets, self._shares, self._smoothing = outputs, targets, shares, smoothing
        self.losses = torch.zeros(len(layout.lanes), device=outputs.device)
        self.slopes = torch.zeros_like(outputs)
        self._each = torch.zeros(len(outputs), device=outputs.device)

    def add_to(self, ops: Operations, buffers: Buffers) -> None:
        {"classification": self._classes, "regression": self._squares, "multilabel": self._labels}[self._kind](ops)
        for batch in self._layout.batches:
            each = buffers.batch_samples(self._each, batch)
            ops.add(torch.sum, each, 1, out=self.losses[batch.start : batch.stop])

    def _classes(self, ops: Operations) -> None:
        """Cross entropy, with labels smoothed (Szegedy et al. 2016, arXiv:1512.00567) as torch has it."""
        C = self._outputs.shape[1]
        log_p, picked = torch.zeros_like(self._outputs), torch.zeros_like(self._each)[:, None]
        shares, classes = self._shares[:, None], self._targets[:, None]
        ops.add(aten._log_softmax.out, self._outputs, 1, False, out=log_p)
        ops.add(torch.gather, log_p, 1, classes, out=picked)
        ops.add(torch.exp, log_p, out=self.slopes)
        ops.add(self.slopes.mul_, shares)
        sure = torch.zeros_like(self._shares)  # minus the share of the class itself
        ops.add(torch.neg, self._shares, out=sure)
        if self._smoothing is not None:
            spread, all_classes = torch.zeros_like(sure), torch.zeros_like(sure)
            ops.add(torch.mul, self._smoothing, self._shares, out=spread)
            ops.add(sure.add_, spread)
            ops.add(spread.mul_, 1 / C)
            ops.add(self.slopes.sub_, spread[:, None])
            ops.add(torch.sum, log_p, 1, out=all_classes)
            ops.add(all_classes.mul_, spread)
        ops.add(self.slopes.scatter_add_, 1, classes, sure[:, None])
        ops.add(torch.mul, picked[:, 0], sure, out=self._each)
        if self._smoothing is not None:
            ops.add(self._each.sub_, all_classes)

    def _squares(self, ops: Operations) -> None:
        C = self._outputs.shape[1]
        error, scaled = torch.zeros_like(self._outputs), torch.zeros_like(self._outputs)
        share = torch.zeros_like(self._shares)
        ops.add(torch.div, self._shares, C, out=share)
        ops.add(torch.sub, self._outputs, self._targets, out=error)
        ops.add(torch.mul, error, share[:, None], out=scaled)
        ops.add(torch.mul, scaled, 2.0, out=self.slopes)
        ops.add(scaled.mul_, error)
        ops.add(torch.sum, scaled, 1, out=self._each)

    def _labels(self, ops: Operations) -> None:
        """Binary cross entropy of each label: softplus(o) - y o."""
        C = self._outputs.shape[1]
        share, losses, product = (
            torch.zeros_like(self._shares),
            torch.zeros_like(self._outputs),
            torch.zeros_like(self._outputs),
        )
        ops.add(torch.div, self._shares, C, out=share)
        ops.add(torch.sigmoid, self._outputs, out=self.slopes)
        ops.add(self.slopes.sub_, self._targets)
        ops.add(self.slopes.mul_, share[:, None])
        ops.add(aten.softplus.out, self._outputs, out=losses)
        ops.add(torch.mul, self._outputs, self._targets, out=product)
        ops.add(losses.sub_, product)
        ops.add(losses.mul_, share[:, None])
        ops.add(torch.sum, losses, 1, out=self._each)
