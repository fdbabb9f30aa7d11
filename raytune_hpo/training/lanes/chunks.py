"""How many lanes a pass takes at a time: found by timing the training's own steps.

A GPU wants all lanes at once. A CPU wants as many as its cache holds, and a model of large convolutions is fastest
alone. All sizes give the same weights up to rounding, so trying them is training, not preparation.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator

import torch

TRIES = 3  # timed passes of a size; the first one, which warms up, does not count
FUSED_GAIN = 1.1  # one at a time must be so much faster than the best fused size to be chosen

Undoable = Callable[[slice], contextlib.AbstractContextManager[None]]


class ChunkSize:
    """The chunk of one group. fixed: do not try, take this many (or all there are, if fewer).

    A pass that runs out of memory is done again with half as many lanes, and no later one takes more.
    """

    def __init__(self, device: torch.device, fixed: int | None = None) -> None:
        self._device = device
        self._fixed = fixed
        self._fits: int | None = None  # after an out-of-memory error
        self._proven = 0  # lanes of the largest pass that went well
        self._seconds: dict[int, list[float]] = {}  # of a lane, by lanes of the pass

    def run(self, lanes: int, one_pass: Callable[[slice], None], undoable: Undoable | None = None) -> None:
        """Do `one_pass` for all lanes, some at a time, and time it.

        undoable: restores what a pass changes if it raises; None for a pass that changes nothing, which is not timed.

        Raises torch.OutOfMemoryError where one lane alone does not fit.
        """
        start = 0
        while start < lanes:
            size = min(self.size(lanes), lanes - start)
            at = slice(start, start + size)
            try:
                if undoable is None:
                    one_pass(at)
                else:
                    # What went well once needs no undoing again, but on a GPU, where others take memory meanwhile.
                    proven = size <= self._proven and self._device.type == "cpu"
                    with contextlib.nullcontext() if proven else undoable(at), self._timed(size):
                        one_pass(at)
                    self._proven = max(self._proven, size)
                start = at.stop
                continue
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            self._fits = size // 2
            if self._device.type == "cuda":  # only here: with the error its frames are gone, which hold tensors
                torch.cuda.empty_cache()

    def size(self, lanes: int) -> int:
        """Lanes of the next pass, when there are `lanes` in all."""
        most = min(lanes, self._fits or lanes)
        if self._fixed is not None:
            return min(self._fixed, most)
        sizes = (1, 32, lanes) if self._device.type == "cpu" else (1, lanes)
        candidates = sorted({min(size, most) for size in sizes})
        for size in candidates:
            if len(self._seconds.get(size, ())) < TRIES:
                return size
        cost = {size: statistics.median(self._seconds[size][1:]) for size in candidates}
        return min(cost, key=lambda size: cost[size] * (FUSED_GAIN if size == 1 else 1.0))

    @contextlib.contextmanager
    def _timed(self, size: int) -> Iterator[None]:
        tries = self._seconds.setdefault(size, [])
        if self._fixed is not None or len(tries) >= TRIES:
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
