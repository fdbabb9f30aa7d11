"""Dropout masks of all lanes and stages, drawn at once from counters: the numbers that each would draw alone.

A lane's i-th dropout in a pass is its draw i; element (sample, feature, pixel) has its number in the mask of [N,
features, pixels] that `counters.Stream.bernoulli` draws for a model alone (`training.counted_draws`).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from raytune_hpo.training.counters import hash_operations, threshold
from raytune_hpo.training.lanes.layers import Tensor
from raytune_hpo.training.lanes.mixed.buffers import Buffers
from raytune_hpo.training.lanes.mixed.layout import MATRIX_PAGE, Layout
from raytune_hpo.training.lanes.mixed.operations import Operations

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
            numbers.append(_numbers(member.rows, member.samples, math.prod(member.kept_size), member.block.outputs))
        keep = np.concatenate(keeps)
        self._pages = torch.from_numpy(np.concatenate(pages)).to(device)
        self._numbers = torch.from_numpy(np.concatenate(numbers)).to(device).view(-1, self._page)
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
        ops.add(torch.mul, keeps, self._scale, out=buffers.masks.view(-1, self._page))


_known: dict[tuple[int, ...], np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = {}


def _numbers(rows: int, samples: int, pixels: int, features: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    """[rows * samples * pixels]: the numbers of the elements. Padded ones have any."""
    key = (rows, samples, pixels, features)
    if key not in _known:
        if len(_known) > 64:
            _known.clear()
        feature, sample, pixel = np.ogrid[:rows, :samples, :pixels]
        _known[key] = ((sample * features + feature) * pixels + pixel).astype(np.int32).reshape(-1)
    return _known[key]
