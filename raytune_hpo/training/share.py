"""A process's share of a trial that is several (`data_parallel`); of any other trial it is all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Share:
    """Of process `rank`, from 0, of `world`, which are one group of torch.distributed."""

    rank: int = 0
    world: int = 1

    def of_batch(self, samples: torch.Tensor) -> torch.Tensor:
        """Neighbouring ones, int64 [N]; of a batch of fewer than `world` some processes have none."""
        return torch.tensor_split(samples, self.world)[self.rank]

    def batches(self, count: int) -> range:
        """The numbers of those that this process measures."""
        return range(self.rank, count, self.world)

    def pass_size(self, most: int, samples: int) -> int:
        """So many samples in a pass that each process has one."""
        return max(1, min(most, math.ceil(samples / self.world)))

    def gathered(self, value: Any) -> Iterator[Any]:
        """Every process's value, in the order of the ranks. Tensors travel on the CPU. All are to call it."""
        from torch import distributed

        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, value)
        yield from found


WHOLE = Share()
