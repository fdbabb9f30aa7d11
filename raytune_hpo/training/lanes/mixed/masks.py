"""Dropout masks of all lanes and stages, drawn at once from counters: the numbers that each would draw alone.

A lane's i-th dropout in a pass is its draw i; element (sample, feature, pixel) has its number in the mask of [N,
features, pixels] that `counters.Stream.bernoulli` draws for a model alone (`training.counted_draws`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from raytune_hpo.training.counters import BLOCK, hash_by_numpy, hash_operations, threshold
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, Layout
from raytune_hpo.training.lanes.mixed.operations import Operations

Array = np.ndarray[Any, Any]

PAGE = MATRIX_PAGE  # elements, at most: those of a lane in a stage are whole pages


class Masks:
    """words: [L * draws, 2] int32, of the lanes' passes. draws: words of a lane."""

    def __init__(self, layout: Layout, words: Tensor, draws: int, device: torch.device) -> None:
        self._words, self._device = words, device
        pages, numbers, keeps = [], [], []
        members = [member for stage in layout.all_stages for member in stage.members]
        sizes = [member.kept_elements.stop - member.kept for member in members]
        self._page = math.gcd(PAGE, *sizes)
        for member, size in zip(members, sizes, strict=True):
            drawn = layout.lanes[member.lane].chain.dropouts
            draws_one = member.number in drawn
            count = size // self._page
            pages.append(np.full(count, member.lane * draws + (drawn.index(member.number) if draws_one else 0)))
            keeps.append(np.full(count, 1 - member.block.rate if draws_one else 1.0))
            if member.of_images:
                numbers.append(np.arange(size, dtype=np.int32))
            else:
                numbers.append(_numbers(member.rows, member.samples, member.block.outputs))
        keep = np.concatenate(keeps)
        self._pages = torch.from_numpy(np.concatenate(pages)).to(device)
        self._numbers = torch.from_numpy(np.concatenate(numbers)).to(device).view(-1, self._page)
        self._most = torch.from_numpy(threshold(keep)).to(device)[:, None]
        self._scale = torch.from_numpy(1 / keep).to(device, torch.get_default_dtype())[:, None]

    def draw(self, ops: Operations, buffers: Buffers) -> None:
        assert buffers.masks is not None
        masks = buffers.masks.view(-1, self._page)
        if masks.device.type == "cpu" and not buffers.layout.launches:
            ops.add(self._draw_by_numpy, masks.numpy())
            return
        own = torch.zeros(len(self._pages), 2, dtype=torch.int32, device=self._device)
        ops.add(torch.index_select, self._words, 0, self._pages, out=own)
        bits, shifted = torch.zeros_like(self._numbers), torch.zeros_like(self._numbers)
        ops.add(torch.add, self._numbers, own[:, :1], out=bits)
        for function, given, named in hash_operations(bits, own[:, 1:], shifted):
            ops.add(function, *given, **named)
        keeps = torch.zeros(bits.shape, dtype=torch.bool, device=self._device)
        ops.add(torch.le, bits, self._most, out=keeps)
        ops.add(torch.mul, keeps, self._scale, out=masks)

    def _draw_by_numpy(self, out: Array) -> None:
        """The same in blocks that stay in a core's cache: in a third of the time."""
        words, numbers = (t.numpy().view(np.uint32) for t in (self._words, self._numbers))
        pages, most, scale = (t.numpy() for t in (self._pages, self._most, self._scale))
        rows = max(1, BLOCK // 2 // self._page)
        bits = np.empty((2, min(rows, len(pages)), self._page), np.uint32)
        keeps = np.empty(bits.shape[1:], bool)
        for start in range(0, len(pages), rows):
            at = slice(start, min(start + rows, len(pages)))
            x, shifted = bits[:, : at.stop - start]
            own = words[pages[at]]
            np.add(numbers[at], own[:, :1], out=x)
            hash_by_numpy(x, own[:, 1:], shifted)
            kept = np.less_equal(x.view(np.int32), most[at], out=keeps[: len(x)])
            np.multiply(kept, scale[at], out=out[at])


_known: dict[tuple[int, int, int], np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = {}


def _numbers(rows: int, samples: int, features: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """[rows * samples]: the numbers of the elements. Padded ones have any."""
    key = (rows, samples, features)
    if key not in _known:
        if len(_known) > 64:
            _known.clear()
        feature, sample = np.ogrid[:rows, :samples]
        _known[key] = (sample * features + feature).astype(np.int32).reshape(-1)
    return _known[key]
