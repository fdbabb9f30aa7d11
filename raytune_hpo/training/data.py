"""The data of a task: its splits, what of them a trial may see, and what a batch is. docs/tasks.md has the table.

    Splits -> decoding.decoded -> for_trials -> TrialData -> batches.source_of -> batches of tensors

Arrays lie in a split as trees (`trees`): one array, or dicts, tuples and lists of arrays, all with the
samples on axis 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from raytune_hpo.training.file_arrays import Rows, lies_in_file, opened, reference
from raytune_hpo.training.trees import Tree, leaves, mapped

Array = np.ndarray[Any, Any]
Kind = Literal["classification", "multilabel", "regression", "other"]
KINDS: tuple[str, ...] = get_args(Kind)
#: Why such data cannot be lanes'.
STREAMED = "its data are read in a stream: each lane has an order of its own"


class Batch(NamedTuple):
    """A batch of a `Split`: x and y as the split has them, with tensors [N, ...] for arrays."""

    x: Any
    y: Any = None


def as_batch(batch: Any) -> Any:
    """What a collate or a stream made: a pair as x and y."""
    return Batch(*batch) if type(batch) in (tuple, list) and len(batch) == 2 else batch


class ArraySplit:
    """Samples as a tree of arrays, [n, ...] each. Travels between processes without what lies in files.

    origin: the data set that they were decoded from, where it is to be pooled with one that is read in a stream.
    """

    tree: Tree
    origin: DatasetSplit | None = None

    def __len__(self) -> int:
        return len(leaves(self.tree)[0])

    def with_tree(self, tree: Tree) -> ArraySplit:
        """A split of this kind."""
        raise NotImplementedError

    def take(self, rows: Array) -> ArraySplit:
        """The samples `rows`, int64 [m], in this order. Arrays in files stay there."""
        return self.with_tree(mapped(lambda leaf: _taken(leaf, rows), self.tree))

    def first(self, count: int) -> ArraySplit:
        return self.with_tree(mapped(lambda leaf: leaf[:count], self.tree))

    @property
    def lies_in_files(self) -> bool:
        """Whether any array is read from a file as it is needed."""
        return any(lies_in_file(leaf) for leaf in leaves(self.tree))

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), mapped(reference, self.tree), self.origin)

    def _check(self) -> None:
        found = leaves(self.tree)
        if not found:
            raise ValueError("a split holds arrays, and here is none")
        for leaf in found:
            if not np.ndim(leaf):
                raise ValueError(f"an array of a split has the samples on its first axis, and here is {leaf!r}")
        sizes = [len(leaf) for leaf in found]
        if len(set(sizes)) > 1:
            named = f"x has {sizes[0]} samples and y has {sizes[1]}" if len(sizes) == 2 else f"they have {sizes}"
            raise ValueError(f"arrays of a split have as many samples each; {named}")


@dataclass(frozen=True)
class Split(ArraySplit):
    """Samples of one split. x: [n, ...] features; y: what is to be predicted, [n] classes, [n, d] targets, or None.

    Both may be dicts, tuples or lists of arrays. Tensors become arrays, and lists of numbers do.
    """

    x: Tree
    y: Tree = None
    origin: DatasetSplit | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", as_arrays(self.x))
        object.__setattr__(self, "y", as_arrays(self.y))
        self._check()

    @property
    def tree(self) -> Tree:
        return Batch(self.x, self.y)

    def with_tree(self, tree: Tree) -> Split:
        return Split(*tree)

    __reduce__ = ArraySplit.__reduce__


@dataclass(frozen=True)
class TreeSplit(ArraySplit):
    """Samples of one split as a tree of the task's own: its batches are such trees."""

    tree: Tree
    origin: DatasetSplit | None = field(default=None, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tree", as_arrays(self.tree))
        self._check()

    def with_tree(self, tree: Tree) -> TreeSplit:
        return TreeSplit(tree)

    __reduce__ = ArraySplit.__reduce__


@dataclass(frozen=True)
class DatasetSplit:
    """Samples that a map-style data set makes one by one: `dataset[i]`. rows: the ones of this split; None is all.

    streamed: why they are read again for each batch; None of those that nobody has tried to decode.
    """

    dataset: Any
    rows: Array | None = None
    streamed: str | None = None

    def __len__(self) -> int:
        return len(self.dataset) if self.rows is None else len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index if self.rows is None else int(self.rows[index])]

    def take(self, rows: Array) -> DatasetSplit:
        return replace(self, rows=rows if self.rows is None else self.rows[rows])

    def first(self, count: int) -> DatasetSplit:
        return self.take(np.arange(min(count, len(self))))


@dataclass(frozen=True)
class Stream:
    """Batches without end or number: `make(seed)` answers an iterable of batches, of which an epoch takes `steps`.

    It is asked anew for each epoch, with a seed that depends on the trial's and the epoch alone; of a validation or
    test split always with 0. What it draws from Python's, NumPy's and torch's global generators depends on that seed,
    too. batch_size: samples of a batch, for the counts of a run; None is unknown.
    """

    make: Callable[[int], Iterable[Any]]
    steps: int
    batch_size: int | None = None

    def __len__(self) -> int:
        return self.steps * (self.batch_size or 1)

    def first(self, count: int) -> Stream:
        """So many batches, not samples."""
        return replace(self, steps=min(self.steps, count))


AnySplit = ArraySplit | DatasetSplit | Stream


@dataclass(frozen=True)
class TrialData:
    """What a trial may see: training and validation data, and what `Task.preprocess` is given besides.

    order_seed: of an order of the samples that all trials share; None: each trial has one of its own.
    """

    train: Any
    validation: Any
    statistics: Mapping[str, Array] = field(default_factory=dict)
    order_seed: int | None = None


@dataclass(frozen=True)
class Splits:
    """The three splits. The test split never leaves the process that loaded it (see results.winner).

    Each is a `Split`, a dict or tuple of arrays, a map-style data set (a list of samples is one), or a
    `Stream`. test: None is an empty one. statistics: arrays by name, computed of the training samples, that
    `Task.preprocess` is given.
    """

    train: Any
    validation: Any
    test: Any = None
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.test is None:
            object.__setattr__(self, "test", _none_of(as_split(self.train)))
        for name in ("train", "validation", "test"):
            object.__setattr__(self, name, as_split(getattr(self, name)))
        object.__setattr__(self, "statistics", {name: np.asarray(v) for name, v in self.statistics.items()})

    @property
    def has_data_sets(self) -> bool:
        return any(isinstance(split, DatasetSplit) for split in (self.train, self.validation, self.test))

    def for_trials(self) -> TrialData:
        return TrialData(train=self.train, validation=self.validation, statistics=self.statistics)


def _none_of(train: Any) -> Any:
    """A split without samples, beside `train`."""
    if isinstance(train, Stream):
        return Stream(train.make, 0)
    return train.first(0) if isinstance(train, ArraySplit | DatasetSplit) else train


def as_split(value: Any) -> Any:
    """A split of what a task gave for one; what is none stays as it is, for checks to name."""
    if isinstance(value, ArraySplit | DatasetSplit | Stream) or value is None:
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return Split(*value)
    if isinstance(value, Mapping | tuple) or _is_array(value):
        return TreeSplit(value)
    if hasattr(value, "__getitem__") and hasattr(value, "__len__"):
        return DatasetSplit(value)
    return value


def as_arrays(tree: Tree) -> Tree:
    """Tensors and lists of numbers as arrays."""
    if isinstance(tree, list) and not any(_is_array(item) or isinstance(item, Mapping | tuple) for item in tree):
        return np.asarray(tree)
    if isinstance(tree, Mapping | list | tuple):
        if isinstance(tree, Mapping):
            return {key: as_arrays(value) for key, value in tree.items()}
        items = [as_arrays(value) for value in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    if hasattr(tree, "detach") and hasattr(tree, "numpy"):
        return tree.detach().cpu().numpy()
    if hasattr(tree, "to_numpy"):  # of pandas
        return tree.to_numpy()
    return np.asarray(tree) if isinstance(tree, np.memmap) and not lies_in_file(tree) else tree


def _is_array(value: Any) -> bool:
    return isinstance(value, Rows | np.ndarray) or (hasattr(value, "shape") and hasattr(value, "dtype"))


def _taken(leaf: Any, rows: Array) -> Any:
    return Rows.of(leaf, rows) if lies_in_file(leaf) else leaf[rows]


def _rebuilt(cls: type, tree: Tree, origin: DatasetSplit | None) -> Any:
    found = mapped(opened, tree)
    return cls(*found, origin=origin) if cls is Split else cls(found, origin=origin)
