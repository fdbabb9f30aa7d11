"""Dropout masks of all lanes and stages, drawn at once from counters: the numbers that each would draw alone.

A lane's i-th dropout in a pass is its draw i; element (sample, feature) has the number `sample * features + feature`,
as in the mask of [N, features] that `counters.Stream.bernoulli` draws for a model alone (`training.counted_draws`).
"""

from __future__ import annotations

import numpy as np
import torch

from raytune_hpo.training.counters import hash_operations, threshold
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, Layout
from raytune_hpo.training.lanes.mixed.operations import Buffers, Operations

PAGE = MATRIX_PAGE  # elements: those of a lane in a stage are whole pages


class Masks:
    """words: [L * draws, 2] int32, of the lanes' passes. draws: words of a lane."""

    def __init__(self, layout: Layout, words: Tensor, draws: int, device: torch.device) -> None:
        self._words, self._device = words, device
        pages, numbers, keeps = [], [], []
        for s in range(1, layout.stages + 1):
            for cell in layout.cells:
                for lane in range(cell.start, cell.start + cell.having[s]):
                    chain = layout.lanes[lane].chain
                    block = s - 1 - (layout.stages - chain.depth)
                    own = chain.blocks[block]
                    count = cell.width * cell.batch // PAGE
                    draw = chain.dropouts.index(block) if block in chain.dropouts else 0
                    pages.append(np.full(count, lane * draws + draw))
                    keeps.append(np.full(count, 1 - own.rate if block in chain.dropouts else 1.0))
                    numbers.append(_numbers(cell.width, cell.batch, own.outputs))
        keep = np.concatenate(keeps)
        self._pages = torch.from_numpy(np.concatenate(pages)).to(device)
        self._numbers = torch.from_numpy(np.concatenate(numbers)).to(device).view(-1, PAGE)
        self._most = torch.from_numpy(threshold(keep)).to(device)[:, None]
        self._scale = torch.from_numpy(1 / keep).to(device, torch.get_default_dtype())[:, None]

    def draw(self, ops: Operations, buffers: Buffers) -> None:
        assert buffers.masks is not None
        own = torch.zeros(len(self._pages), 2, dtype=torch.int32, device=self._device)
        ops.add(torch.index_select, self._words, 0, self._pages, out=own)
        bits, shifted = torch.zeros_like(self._numbers), torch.zeros_like(self._numbers)
        ops.add(torch.add, self._numbers, own[:, :1], out=bits)
        for function, given, named in hash_operations(bits, own[:, 1:], shifted):
            ops.add(function, *given, **named)
        keeps = torch.zeros(bits.shape, dtype=torch.bool, device=self._device)
        ops.add(torch.le, bits, self._most, out=keeps)
        ops.add(torch.mul, keeps, self._scale, out=buffers.masks.view(-1, PAGE))


_known: dict[tuple[int, int, int], np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = {}


def _numbers(width: int, batch: int, features: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """[W * n] of [W, n]: the numbers of the elements. Padded ones have any."""
    key = (width, batch, features)
    if key not in _known:
        if len(_known) > 64:
            _known.clear()
        feature, sample = np.meshgrid(np.arange(width), np.arange(batch), indexing="ij")
        _known[key] = (sample * features + feature).astype(np.int32).reshape(-1)
    return _known[key]
