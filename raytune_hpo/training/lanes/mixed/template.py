"""A template: to which widths and batch sizes the lanes of a run are padded.

What a lane is padded to depends on its config and the template alone, so that its numbers do not depend on who its
neighbours are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raytune_hpo.training.lanes.mixed.chain import Chain
from raytune_hpo.training.lanes.mixed.layout import Padded

SMALLEST_WIDTH, SMALLEST_BATCH = 32, 16  # whole vectors of the processor


@dataclass(frozen=True)
class Template:
    """widths, batches: ascending multiples of 16. A larger one is padded to the next power of two."""

    widths: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()

    def padded(self, chain: Chain, batch_size: int, rule: str) -> Padded:
        """rule: as of `Padded`."""
        return Padded(
            chain,
            _next(chain.width, self.widths, SMALLEST_WIDTH),
            _next(batch_size, self.batches, SMALLEST_BATCH),
            rule,
        )


def _next(size: int, known: Sequence[int], smallest: int) -> int:
    fits = [n for n in known if n >= size]
    return fits[0] if fits else max(smallest, 1 << (size - 1).bit_length())
