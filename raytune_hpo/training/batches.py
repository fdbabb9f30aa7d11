"""Sources: one split of a task as batches of tensors on the model's device, preprocessed.

    split -> source_of -> Source.epoch(order) in training, in_order when a model is measured

Arrays in memory become tensors that share it; on a GPU they are copied there whole. Arrays in files are gathered batch
by batch.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from raytune_hpo.training.data import ArraySplit, Kind, Split, TrialData
from raytune_hpo.training.file_arrays import gathered, lies_in_file
from raytune_hpo.training.share import WHOLE, Share
from raytune_hpo.training.trees import leaves, mapped, structure

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

Tensor = torch.Tensor

EVALUATION_BATCH = 4096
"""Samples per forward pass of an evaluation: large enough that the pass is not all overhead."""
PASS_BYTES = 64 << 20
"""And no more samples than take this much, as numbers of 32 bits at least: what lies in a file, or is made of bytes, is
not to be in memory whole."""
WHOLE_BYTES = 16 << 20
"""Arrays up to this size are cast, and preprocessed, once; larger ones batch by batch: no second copy is held."""


class Source(ABC):
    """len: the samples of a pass. in_batches: they are batches already, of a size of their own."""

    in_batches = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        """The batches of `order`, int64 [N] each, on the CPU, and their samples. seed: of the epoch, for what draws."""

    @abstractmethod
    def in_order(self, size: int | None = None, share: Share = WHOLE) -> Iterator[Any]:
        """All samples, in batches of `size`; None is a size of its own. share: which of these batches."""

    def close(self) -> None:  # noqa: B027  (optional)
        """End what it has started; it may be read again."""

    def batch_size(self, config: Mapping[str, Any]) -> int:
        size: int = config["batch_size"]
        return size

    def size(self, batch: Any) -> int:
        """The samples of a batch."""
        found: Tensor = next(leaf for leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim)
        return len(found)


class ArraySource(Source):
    """Arrays. `at` gathers any samples; only such a source can be shared by lanes."""

    def __init__(self, task: Task, split: ArraySplit, statistics: Mapping[str, Any], device: torch.device) -> None:
        self.device = device
        self._kind, self._of_xy = task.kind, isinstance(split, Split)
        self._n = len(split)
        self._leaves = [self._leaf(leaf, name) for name, leaf in _named(split)]
        self._y = [leaf for leaf, (name, _) in zip(self._leaves, _named(split), strict=True) if name == "y"]
        self._build = _builder(split.tree)
        self._sample_bytes = sum(math.prod(a.shape[1:]) * max(4, a.dtype.itemsize) for a in leaves(split.tree))
        self._preprocess: Callable[[Any], Any] | None = None
        if task.has_own_preprocess:
            own = statistics_of(statistics, device)
            self._preprocess = lambda batch: preprocessed_once(task, batch, own)
            if self._n and all(leaf.small for leaf in self._leaves):
                whole = self._preprocess(self._build([leaf.stored for leaf in self._leaves]))
                self._leaves = [_Leaf(leaf) for leaf in leaves(whole)]
                self._build, self._preprocess = _builder(whole), None

    def __len__(self) -> int:
        return self._n

    @property
    def in_memory(self) -> bool:
        """Whether all lies here as batches have it: `part` then copies nothing."""
        return self._preprocess is None and all(
            isinstance(leaf.stored, Tensor) and leaf.cast is None for leaf in self._leaves
        )

    def _leaf(self, array: Any, name: str) -> _Leaf:
        kind = self._kind if name == "y" else None
        wanted = _dtype(array.dtype, kind)
        column = kind == "regression" and array.ndim == 1  # [n] against an output of [n, 1] would broadcast to [n, n]
        if lies_in_file(array):
            return _Leaf(array, wanted, column)
        if wanted is not None and array.nbytes <= WHOLE_BYTES:
            array, wanted = _shared(array).to(wanted).numpy(), None
        tensor = _shared(array).to(self.device)
        return _Leaf(tensor[:, None] if column else tensor, wanted)

    def at(self, index: Tensor) -> Any:
        """The samples `index`, int64 [m], as a batch; preprocessed."""
        batch = self._build([leaf.at(index, self.device) for leaf in self._leaves])
        return batch if self._preprocess is None else self._preprocess(batch)

    def part(self, start: int, end: int) -> Any:
        """Neighbouring samples, as a batch: no copy where none is needed."""
        batch = self._build([leaf.part(start, end, self.device) for leaf in self._leaves])
        return batch if self._preprocess is None else self._preprocess(batch)

    def targets(self) -> Iterator[Tensor]:
        """y of a `Split`, some samples at a time: x is not read for it."""
        for leaf in self._y:
            for start in range(0, self._n, EVALUATION_BATCH):
                yield leaf.part(start, start + EVALUATION_BATCH, self.device)

    def epoch(self, order: Sequence[Tensor], seed: int) -> Iterator[tuple[Any, int]]:
        for index in order:
            yield self.at(index), len(index)

    def in_order(self, size: int | None = None, share: Share = WHOLE) -> Iterator[Any]:
        """Copies, since a model that works in place must not write to a shared array."""
        most = max(1, min(EVALUATION_BATCH, PASS_BYTES // max(1, self._sample_bytes)))
        size = size or share.pass_size(most, self._n)
        for number in share.batches(math.ceil(self._n / size)):
            yield mapped(torch.clone, self.part(number * size, (number + 1) * size))


@dataclass(frozen=True)
class _Leaf:
    """stored: a tensor on the device, or an array in its file. cast: what batches of it are cast to. column: [n] as
    [n, 1]."""

    stored: Any
    cast: torch.dtype | None = None
    column: bool = False

    @property
    def small(self) -> bool:
        """Whether it lies here as batches have it, and may be held once more."""
        tensor = self.stored
        if not isinstance(tensor, Tensor) or self.cast is not None:
            return False
        return tensor.numel() * tensor.element_size() <= WHOLE_BYTES

    def at(self, index: Tensor, device: torch.device) -> Tensor:
        if not isinstance(self.stored, Tensor):
            return self._read(gathered(self.stored, index.cpu().numpy()), device)
        found = self.stored.index_select(0, index if index.device == device else index.to(device))
        return found if self.cast is None else found.to(self.cast)

    def part(self, start: int, end: int, device: torch.device) -> Tensor:
        if not isinstance(self.stored, Tensor):
            return self._read(gathered(self.stored, np.arange(start, min(end, len(self.stored)))), device)
        found = self.stored[start:end]
        return found if self.cast is None else found.to(self.cast)

    def _read(self, rows: Any, device: torch.device) -> Tensor:
        found = _shared(rows)
        found = found[:, None] if self.column else found
        return found.to(device, self.cast or found.dtype)


def source_of(task: Task, data: TrialData, split: str, device: torch.device | str) -> Source:
    """Of "train" or "validation"."""
    return source(task, getattr(data, split), data.statistics, device)


def source(task: Task, split: Any, statistics: Mapping[str, Any], device: torch.device | str) -> Source:
    if isinstance(split, ArraySplit):
        return ArraySource(task, split, statistics, torch.device(device))
    from raytune_hpo.training.streamed import streamed_source

    return streamed_source(task, split, statistics, torch.device(device))


def preprocessed(task: Task, batch: Any, statistics: Mapping[str, Tensor]) -> Any:
    from raytune_hpo.training.data import Batch

    if isinstance(batch, Batch):
        return Batch(task.preprocess(batch.x, statistics), batch.y)
    return task.preprocess(batch, statistics)


def preprocessed_once(task: Task, batch: Any, statistics: Mapping[str, Tensor]) -> Any:
    """Of data. A model may have a part in it: no gradient goes there."""
    with torch.no_grad():
        return preprocessed(task, batch, statistics)


def augmented(task: Task, batch: Any) -> Any:
    from raytune_hpo.training.data import Batch

    return Batch(task.augment(batch.x), batch.y) if isinstance(batch, Batch) else task.augment(batch)


def statistics_of(statistics: Mapping[str, Any], device: torch.device | str) -> dict[str, Tensor]:
    """As tensors, floating-point numbers in torch's default type."""
    found = {name: torch.from_numpy(np.array(value)) for name, value in statistics.items()}
    real = torch.get_default_dtype()
    return {name: t.to(device, real if t.is_floating_point() else t.dtype) for name, t in found.items()}


def _named(split: ArraySplit) -> Iterator[tuple[str, Any]]:
    """(x or y, leaf); of a tree of the task's own all are x."""
    if not isinstance(split, Split):
        yield from (("x", leaf) for leaf in leaves(split.tree))
        return
    yield from (("x", leaf) for leaf in leaves(split.x))
    yield from (("y", leaf) for leaf in leaves(split.y))


def _builder(tree: Any) -> Callable[[list[Any]], Any]:
    """Puts leaves, in order, where the tree has them."""
    from raytune_hpo.training.data import Batch

    if isinstance(tree, Batch) and structure(tree) == ("Batch", ("leaf", "leaf")):
        return Batch._make

    def build(found: list[Any]) -> Any:
        remaining = iter(found)
        return mapped(lambda _: next(remaining), tree)

    return build


def _dtype(dtype: np.dtype[Any], kind: Kind | None) -> torch.dtype | None:
    """What an array is given to models as, where it is another type. kind: of y."""
    if kind == "classification":
        return None if dtype == np.int64 else torch.int64
    real = torch.get_default_dtype()
    if dtype.kind == "f" or kind in ("regression", "multilabel"):
        return None if dtype == np.dtype(str(real).removeprefix("torch.")) else real
    return None


def _shared(array: Any) -> Tensor:
    """The array's own memory, which may be read-only: such tensors are never written to."""
    with warnings.catch_warnings():
        # torch warns that writing to a read-only array is undefined; nothing here writes.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        native = np.asarray(array).astype(array.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(np.ascontiguousarray(native))
