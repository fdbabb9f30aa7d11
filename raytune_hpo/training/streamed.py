"""Sources that are read as they are trained on: map-style data sets by a DataLoader, and streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from raytune_hpo.training.batches import Source, preprocessed, statistics_of
from raytune_hpo.training.data import DatasetSplit, Stream
from raytune_hpo.training.trees import mapped

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

Tensor = torch.Tensor

EVALUATION_BATCH = 256
"""Samples per forward pass of an evaluation: a batch is in memory as often as there are workers."""


def streamed_source(task: Task, split: Any, statistics: Mapping[str, Any], device: torch.device) -> Source:
    if isinstance(split, Stream):
        return StreamSource(task, split, statistics, device)
    assert isinstance(split, DatasetSplit)
    return LoadedSource(task, split, statistics, device)


class _Streamed(Source):
    def __init__(self, task: Task, split: Any, statistics: Mapping[str, Any], device: torch.device) -> None:
        self.task, self.split, self.device = task, split, device
        self._statistics = statistics_of(statistics, device)

    def __len__(self) -> int:
        return len(self.split)

    def _given(self, batch: Any) -> Any:
        """On the device, floating-point numbers in torch's default type; preprocessed."""
        real = torch.get_default_dtype()

        def moved(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return leaf.to(self.device, real if leaf.is_floating_point() else leaf.dtype)

        return preprocessed(self.task, mapped(moved, batch), self._statistics)


class LoadedSource(_Streamed):
    """A map-style data set. Samples are read by `Task.loader_workers` processes, in the trial's own order."""

    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        batches = [index.tolist() for index in order]
        for batch, rows in zip(self._loaded(batches, seed), batches, strict=True):
            yield self._given(batch), len(rows)

    def in_order(self, size: int | None = None) -> Iterator[Any]:
        size = size or EVALUATION_BATCH
        n = len(self)
        batches = [list(range(start, min(start + size, n))) for start in range(0, n, size)]
        for batch in self._loaded(batches, 0):
            yield self._given(batch)

    def _loaded(self, batches: list[list[int]], seed: int) -> Iterator[Any]:
        from torch.utils.data import DataLoader

        workers = self.task.loader_workers
        return iter(
            DataLoader(
                self.split,
                batch_sampler=batches,
                collate_fn=self.task.collate,
                num_workers=workers,
                generator=torch.Generator().manual_seed(seed),
                pin_memory=self.device.type == "cuda",
            )
        )


class StreamSource(_Streamed):
    """A stream. It counts in batches: one of its samples is a batch."""

    def __len__(self) -> int:
        steps: int = self.split.steps
        return steps

    def batch_size(self, config: Mapping[str, Any]) -> int:
        return 1

    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        for batch, _ in zip(self._made(seed), order, strict=False):
            yield batch, self.size(batch)

    def in_order(self, size: int | None = None) -> Iterator[Any]:
        for batch, _ in zip(self._made(0), range(self.split.steps), strict=False):
            yield batch

    def _made(self, seed: int) -> Iterator[Any]:
        for batch in self.split.make(seed):
            yield self._given(batch)
