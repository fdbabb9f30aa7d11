"""Sources that are read as they are trained on: map-style data sets, by processes of their own, and streams.

What a sample or a stream draws at random depends on (seed of the epoch, the sample's number): not on how many processes
read, on what was read before, or on the model that is trained meanwhile.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.batches import Source, preprocessed_once, statistics_of
from raytune_hpo.training.data import Batch, DatasetSplit, Stream, as_batch
from raytune_hpo.training.random_states import OwnRandomStates
from raytune_hpo.training.sample_reader import SampleReader, where
from raytune_hpo.training.share import WHOLE, Share
from raytune_hpo.training.trees import leaves, mapped

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
        """On the device, floating-point numbers in torch's default type, a pair as a `Batch`; preprocessed.

        Raises TrialError.
        """
        batch = as_batch(batch)
        if isinstance(batch, Batch):
            batch = Batch(mapped(self._moved, batch.x), mapped(self._target, batch.y))
        else:
            batch = mapped(self._moved, batch)
        return preprocessed_once(self.task, batch, self._statistics)

    def _moved(self, leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "buif":
            leaf = torch.from_numpy(np.ascontiguousarray(leaf))
        if isinstance(leaf, Tensor):
            real = torch.get_default_dtype() if leaf.is_floating_point() else leaf.dtype
            return leaf.to(self.device, real)
        return leaf.to(self.device) if hasattr(leaf, "to") else leaf  # a batch of a class of the user's

    def _target(self, leaf: Any) -> Any:
        """As `ArraySource` has y."""
        y, kind = self._moved(leaf), self.task.kind
        if not isinstance(y, Tensor) or kind == "other":
            return y
        if kind == "classification" and not self.task.has_own_batches:
            if y.is_floating_point() and bool((y != y.floor()).any()):
                raise TrialError("classes must be whole numbers from 0; of real targets set kind = 'regression'")
            return y.long()
        if kind in ("regression", "multilabel"):
            y = y.to(torch.get_default_dtype())
        return y[:, None] if kind == "regression" and y.ndim == 1 else y


class LoadedSource(_Streamed):
    """A map-style data set, read in the trial's own order by `Task.loader_workers` processes.

    They live from the first batch to `close`: their start takes as long as many a small epoch.
    """

    def __init__(self, task: Task, split: DatasetSplit, statistics: Mapping[str, Any], device: torch.device) -> None:
        super().__init__(task, split, statistics, device)
        pinned = device.type == "cuda"
        self._reader = SampleReader(split, task.collate, type(task).__name__, task.loader_workers, pinned=pinned)
        self._size = 0

    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        batches = [index.tolist() for index in order]
        for batch, rows in zip(self._reader.batches(batches, seed), batches, strict=True):
            yield self._given(batch), len(rows)

    def in_order(self, size: int | None = None, share: Share = WHOLE) -> Iterator[Any]:
        n = len(self)
        size = size or share.pass_size(EVALUATION_BATCH, n)
        numbers = share.batches(math.ceil(n / size))
        batches = [list(range(number * size, min((number + 1) * size, n))) for number in numbers]
        for batch, rows in zip(self._reader.batches(batches, 0), batches, strict=True):
            self._size = len(rows)
            yield self._given(batch)

    def size(self, batch: Any) -> int:
        """Of the batch that was given last: what `collate` makes need not show it."""
        return self._size

    def close(self) -> None:
        self._reader.close()


class StreamSource(_Streamed):
    """A stream. It counts in batches: one of its samples is a batch."""

    in_batches = True

    def __len__(self) -> int:
        steps: int = self.split.steps
        return steps

    def batch_size(self, config: Mapping[str, Any]) -> int:
        return 1

    def size(self, batch: Any) -> int:
        found = next((leaf for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim), None)
        if found is None:
            raise TrialError("a batch of the stream holds no tensor [N, ...]")
        return len(found)

    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        for batch in self._made(seed, len(order)):
            yield batch, self.size(batch)

    def in_order(self, size: int | None = None, share: Share = WHOLE) -> Iterator[Any]:
        yield from itertools.islice(self._made(0, self.split.steps), share.rank, None, share.world)

    def _made(self, seed: int, steps: int) -> Iterator[Any]:
        """Raises TrialError where the stream ends before so many steps, or raises."""
        own = OwnRandomStates(seed)
        try:
            with own.entered():
                batches = iter(self.split.make(seed))
            for step in range(steps):
                with own.entered():
                    try:
                        batch = next(batches)
                    except StopIteration:
                        raise TrialError(
                            f"a stream ended after {step} of {steps} batches: make(seed) of Stream(make, steps) is to "
                            "answer as many as an epoch takes, or more"
                        ) from None
                yield self._given(batch)
        except (TrialError, MemoryError):
            raise
        except Exception as error:
            raise TrialError(f"a stream failed with {where(error)}") from error
