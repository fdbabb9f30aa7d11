"""A template: to which widths and batch sizes lanes are padded.

What a lane is padded to depends on its config and the template alone, so that its numbers do not depend on who its
neighbours are. Few sizes mean few matrix products, each of more lanes; the powers of two and, from 64 on, what lies
between them, waste little more than they save on a CPU (docs/mixed_lanes.md has what was tried).
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.layout import Padded

SMALLEST_WIDTH, SMALLEST_BATCH = 32, 16  # whole vectors of the processor
#: Set to 1 it lets a GPU's ticks become CUDA graphs, which nobody has run yet.
CAPTURES = "RAYTUNE_HPO_CUDA_GRAPHS"
SMALL = 50_000  # weights, of which any padding is little


@dataclass(frozen=True)
class Template:
    """widths, batches: ascending multiples of 16, of which the next is taken; larger ones as without them. most: how
    many times its weights a chain may be padded to.

    launches: whether they are what costs, as on a GPU, and not arithmetic and memory: like convolutions are one product
    then, and nothing is done piece by piece. together, elements: lanes of a program at most, and numbers of images, of
    which a CPU's cache holds no more. captures: whether a GPU's ticks may become CUDA graphs.
    """

    widths: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()
    most: float = 3.0
    launches: bool = False
    together: int = 64
    elements: int = 1 << 19
    captures: bool = False

    @classmethod
    def of(cls, device: str) -> Template:
        if device == "cpu":
            return cls()
        sizes, every = (64, 256, 1024, 4096), 1 << 60
        captures = os.environ.get(CAPTURES) == "1"
        return cls(sizes, sizes, 16.0, launches=True, together=every, elements=every, captures=captures)

    def padded(self, chain: Chain, batch_size: int, rule: str) -> Padded:
        """rule: as of `Padded`."""
        batch = _next(batch_size, self.batches, SMALLEST_BATCH)
        if chain.convolutions and not self.launches:  # each is a product of its own
            batch = -(-batch_size // SMALLEST_BATCH) * SMALLEST_BATCH
        return Padded(chain, self._width(chain), batch, rule)

    def share(self, lane: Padded, shape: Sequence[int]) -> float:
        """Of a program, that a lane of samples of this shape takes."""
        images = lane.batch * image_elements(lane.chain, shape)
        return max(1 / self.together, min(1.0, images / self.elements))

    def _width(self, chain: Chain) -> int:
        return _next(chain.width, self.widths, SMALLEST_WIDTH)

    def fits(self, chain: Chain) -> bool:
        """Whether padding wastes little of a chain: all its hidden blocks are padded to one width."""
        linear = chain.blocks[chain.convolutions :]
        own = sum(block.inputs * block.outputs for block in linear)
        W = self._width(chain)
        sizes = [chain.features, *([W] * chain.depth), linear[-1].outputs]
        padded = sum(a * b for a, b in itertools.pairwise(sizes))
        return padded <= max(SMALL, self.most * own)


def image_elements(chain: Chain, shape: Sequence[int]) -> int:
    """Numbers that a sample's images have after all convolutions."""
    sizes = chain.sizes(shape)
    return sum(block.outputs * math.prod(size) for block, (size, _) in zip(chain.blocks, sizes, strict=False))


def _next(size: int, known: Sequence[int], smallest: int) -> int:
    fits = [n for n in known if n >= size]
    if fits:
        return fits[0]
    power = max(smallest, 1 << (size - 1).bit_length())
    between = power * 3 // 4
    return between if power > 64 and between >= size else power
