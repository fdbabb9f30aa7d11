"""How many lanes a pass takes at a time: found by timing the training's own steps.

A GPU wants all lanes at once. A CPU wants as many as its cache holds, and a model of large convolutions is fastest
alone. All sizes give the same weights up to rounding, so trying them is training, not preparation.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

import torch

TRIES = 3  # timed passes of a size; the first one, which warms up, does not count
FUSED_GAIN = 1.1  # one at a time must be so much faster than the best fused size to be chosen


class ChunkSize:
    """The chunk of one group. fixed: do not try, take this many (or all there are, if fewer).

    An out-of-memory error halves what fits for good.
    """

    def __init__(self, device: torch.device, fixed: int | None = None) -> None:
        self._device = device
        self._most: int | None = fixed
        self._seconds: dict[int, list[float]] = {}
        self._chosen: int | None = fixed

    def slices(self, lanes: int) -> list[slice]:
        """The lanes of each pass of a step."""
        size = self._size(lanes)
        return [slice(start, min(start + size, lanes)) for start in range(0, lanes, size)]

    @property
    def chosen(self) -> int | None:
        return self._chosen

    def _candidates(self, lanes: int) -> list[int]:
        sizes = (1, 32, lanes) if self._device.type == "cpu" else (1, lanes)
        return sorted({min(size, lanes, self._most or lanes) for size in sizes})

    def _size(self, lanes: int) -> int:
        if self._chosen is not None:
            return min(self._chosen, lanes)
        candidates = self._candidates(lanes)
        for size in candidates:
            if len(self._seconds.get(size, ())) < TRIES:
                return size
        cost = {size: statistics.median(self._seconds[size][1:]) for size in candidates}
        return min(cost, key=lambda size: cost[size] * (1.0 if size == 1 and lanes > 1 else 1 / FUSED_GAIN))

    @contextlib.contextmanager
    def timed(self, at: slice) -> Iterator[None]:
        """Time a pass over the lanes `at`."""
        size = at.stop - at.start
        tries = self._seconds.setdefault(size, [])
        if self._chosen is not None or len(tries) >= TRIES:
            yield
            return
        self._wait()
        before = time.perf_counter()
        yield
        self._wait()
        tries.append((time.perf_counter() - before) / size)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
