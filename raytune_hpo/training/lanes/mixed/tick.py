"""A tick: one step of every lane, each on its own mini-batch, as one list of operations that nothing interrupts."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch

from raytune_hpo.training.data import Kind
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.arena import Arena
from raytune_hpo.training.lanes.mixed.comparing import Comparison
from raytune_hpo.training.lanes.mixed.layout import TRAINED, Layout
from raytune_hpo.training.lanes.mixed.masks import Masks
from raytune_hpo.training.lanes.mixed.norms import Samples
from raytune_hpo.training.lanes.mixed.operations import Operations
from raytune_hpo.training.lanes.mixed.passes import Passes
from raytune_hpo.training.lanes.mixed.stages import Index
from raytune_hpo.training.lanes.mixed.steps import Steps
from raytune_hpo.training.lanes.mixed.updating import Update


class Orders:
    """The samples of each lane's epoch, [L, most], and room for the padding of the last batch; what is counted in it.
    x: [n, inputs], y: [n, ...], of the training data. losses: [L] float64, summed over samples."""

    def __init__(self, lanes: int, most: int, padding: int, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.order = torch.zeros(lanes, most + padding, dtype=torch.int64, device=x.device)
        self.position = torch.zeros(lanes, dtype=torch.int64, device=x.device)
        self.losses = torch.zeros(lanes, dtype=torch.float64, device=x.device)
        self._begun: dict[int, Index] = {}

    def take_over(self, lanes: list[int], before: Orders, its: list[int]) -> None:
        """Be where lanes were in a table of before."""
        width = min(self.order.shape[1], before.order.shape[1])
        self.order[lanes, :width] = before.order[its, :width]
        self.position[lanes], self.losses[lanes] = before.position[its], before.losses[its]

    def begin(self, lane: int, samples: Index) -> None:
        """An epoch of these, from the next tick on."""
        self._begun[lane] = samples

    def publish(self) -> None:
        """Let the device have the epochs that begin: a few operations, of however many lanes."""
        if not self._begun:
            return
        device = self.order.device
        lanes = torch.tensor(list(self._begun), device=device)
        most = max(len(samples) for samples in self._begun.values())
        rows = np.zeros((len(lanes), most), np.int64)
        for row, samples in zip(rows, self._begun.values(), strict=True):
            row[: len(samples)] = samples
        self.order[:, :most].index_copy_(0, lanes, torch.from_numpy(rows).to(device))
        self.position.index_fill_(0, lanes, 0)
        self.losses.index_fill_(0, lanes, 0.0)
        self._begun.clear()


class Tick:
    """steps, orders: of the layout's lanes. slots: of the pages, see `Update`. used: what any lane has of "decay",
    "shrink", "nesterov", "clip", "smoothing"."""

    def __init__(
        self,
        layout: Layout,
        arena: Arena,
        steps: Steps,
        orders: Orders,
        kind: Kind,
        slots: tuple[Index, Index],
        used: Collection[str],
    ) -> None:
        self.operations = ops = Operations()
        device = arena.matrices.device
        steps.next(ops)
        self._lanes = torch.from_numpy(layout.sample_lanes).to(device)
        numbers = torch.from_numpy(layout.sample_numbers).to(device)
        there = self._there(ops, steps, numbers)
        x, y = self._gather(ops, layout, orders, steps, numbers, there)
        shares, samples = self._shares(ops, layout, steps, there)
        passes = Passes(layout, arena, x, samples, masked=steps.draws > 0)
        if steps.draws:
            Masks(layout, steps.words(), steps.draws, device).draw(ops, passes.buffers)
        smoothing = None
        if "smoothing" in used:
            smoothing = torch.zeros_like(shares)
            ops.add(torch.index_select, steps.of_lane("smoothing"), 0, self._lanes, out=smoothing)
        passes.forward(ops)
        comparison = Comparison(layout, kind, passes.outputs, y, shares, smoothing)
        comparison.add_to(ops, passes.buffers)
        ops.add(orders.losses.addcmul_, comparison.losses, steps.of_lane("samples"))
        passes.backward(ops, comparison.slopes)
        Update(arena, steps, *slots, used).add_to(ops)

    def _there(self, ops: Operations, steps: Steps, numbers: Tensor) -> Tensor:
        """[rows]: 1 for the samples of their lane's mini-batch, 0 for padding."""
        count = steps.of_lane("samples")
        own, found = torch.zeros(len(numbers)).to(count), torch.zeros_like(numbers, dtype=torch.bool)
        there = torch.zeros_like(own)
        ops.add(torch.index_select, count, 0, self._lanes, out=own)
        ops.add(torch.lt, numbers, own, out=found)
        ops.add(there.copy_, found)
        return there

    def _gather(
        self, ops: Operations, layout: Layout, orders: Orders, steps: Steps, numbers: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The samples of all lanes' mini-batches: x [rows, inputs], 0 where there is none, y [rows, ...]."""
        device = orders.x.device
        first = self._lanes * orders.order.shape[1] + numbers
        place, which = torch.zeros_like(first), torch.zeros_like(first)
        x = torch.zeros(layout.samples, layout.inputs, dtype=orders.x.dtype, device=device)
        y = torch.zeros(layout.samples, *orders.y.shape[1:], dtype=orders.y.dtype, device=device)
        ops.add(torch.index_select, orders.position, 0, self._lanes, out=place)
        ops.add(place.add_, first)
        ops.add(torch.index_select, orders.order.view(-1), 0, place, out=which)
        ops.add(torch.index_select, orders.x, 0, which, out=x)
        ops.add(x.mul_, there[:, None])
        ops.add(torch.index_select, orders.y, 0, which, out=y)
        taken = torch.zeros_like(orders.position)
        ops.add(taken.copy_, steps.of_lane("samples"))
        ops.add(orders.position.add_, taken)
        return x, y

    def _shares(self, ops: Operations, layout: Layout, steps: Steps, there: Tensor) -> tuple[Tensor, Samples]:
        """([rows], of each sample in its lane's mean, 0 of padding; what batch norms need)."""
        share = steps.of_lane("share")
        shares = torch.zeros_like(there)
        ops.add(torch.index_select, share, 0, self._lanes, out=shares)
        ops.add(shares.mul_, there)
        rows = {}
        for stage in layout.all_stages:
            for i, strip in enumerate(stage.strips):
                batch = next(own for own in layout.batches if own.size == strip.samples)
                first, lanes = layout.cell_samples[batch.cells[0].number], batch.stop - batch.start
                of_lanes = there[first : first + lanes * batch.size].view(lanes, batch.size)
                found = torch.zeros(len(strip.lanes), batch.size, dtype=there.dtype, device=there.device)
                own_lanes = torch.from_numpy(strip.lanes - batch.start).to(there.device)
                ops.add(torch.index_select, of_lanes, 0, own_lanes, out=found)
                rows[stage.number, i] = found.view(strip.count, -1, batch.size, 1)
        return shares, Samples(share, steps.of_lane("unbias"), rows)


def slots_of(
    layout: Layout, groups: np.ndarray[tuple[int, ...], np.dtype[np.int64]], count: int
) -> tuple[Index, Index]:
    """(of each page of matrices, of vectors): `lane * count + group`. groups: [L, blocks, 2], of each block's matrix
    and of its vectors."""
    matrices, vectors = np.zeros(layout.matrix_pages, np.int64), np.zeros(layout.vector_pages, np.int64)
    for lane, own in enumerate(layout.lanes):
        last = len(own.chain.blocks) - 1
        for block in range(last + 1):
            matrices[layout.matrix_pages_of(lane, block)] = lane * count + groups[lane, block, 0]
            for kind in TRAINED if block < last else ("bias",):
                vectors[layout.vector_pages_of(lane, block, kind)] = lane * count + groups[lane, block, 1]
    return matrices, vectors
