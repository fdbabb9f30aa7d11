"""How many lanes fit into an array's memory: measured on the first lanes of each structure, not asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator

from raytune_hpo.workers.machine import free_memory_bytes

#: Of the memory that is free when an array starts, what lanes may take: the rest is a margin.
SHARE_OF_FREE = {"cpu": 0.5, "cuda": 0.8}
FIRST_LANES = 2
CPU_COPIES = 3  # of a lane's rows, at most, while lanes enter a stack


class LaneCapacity:
    """Lanes that fit, for one device. most: never more than these. cpu_share: of the memory that is ours.

    `lanes` is FIRST_LANES until some have trained, and then what the largest lane seen so far allows.
    """

    def __init__(self, device: str, most: int, cpu_share: float) -> None:
        self._device = device
        self._most = most
        self._free = SHARE_OF_FREE[device] * free_bytes(device) * (cpu_share if device == "cpu" else 1.0)
        self._largest = 0
        self._measured: set[Hashable] = set()

    @property
    def lanes(self) -> int:
        if not self._largest:
            return min(FIRST_LANES, self._most)
        return max(1, min(self._most, int(self._free / self._largest)))

    @contextlib.contextmanager
    def measured(self, group: Hashable, lanes: int, row_bytes: int) -> Iterator[None]:
        """Measure an epoch of `lanes` lanes of a group, the first time it is trained.

        row_bytes: of a lane's own tensors. On a CPU they are counted, since what a pass needs besides is bounded by
        its chunk; on a GPU the peak is read, with all that a pass needs.
        """
        if self._measured:  # lanes of one group may be of many sizes
            self._largest = max(self._largest, row_bytes * CPU_COPIES)
        if group in self._measured:
            yield
            return
        import torch

        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        yield
        size = row_bytes * CPU_COPIES
        if self._device == "cuda":
            size = max(size, (torch.cuda.max_memory_allocated() - before) // lanes)
        self._measured.add(group)
        self._largest = max(self._largest, size)


def free_bytes(device: str) -> int:
    """Of the device, now."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return free_memory_bytes()
