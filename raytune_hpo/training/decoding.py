"""Map-style data sets as arrays: each sample is read once, in the process that loads the data, and never again.

    samples -> Task.collate, some at a time -> arrays [n, ...], which all processes of a node share

What comes out otherwise each time it is read (random transforms), does not fit `Task.decode_bytes`, or is no array with
the samples on axis 0 once it is collated, stays a data set (`DatasetSplit.streamed` says why) and is read as it is
trained on. Memory: the arrays and one chunk of samples; of samples that differ in length, which are collated all at
once, the samples and the arrays.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.training.data import ArraySplit, Batch, DatasetSplit, Split, Splits, TreeSplit, as_batch
from raytune_hpo.training.probed_samples import Probe, as_array, equal, probed, shapes_of
from raytune_hpo.training.trees import Tree, leaves, mapped, paths, structure

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

SPLITS = ("train", "validation", "test")
PROBED = 32
"""Samples that are read twice: a transform that changes a tenth of them is then seen in 999 of 1000 cases."""
CHUNK_BYTES = 16 << 20
"""Of samples that are collated at a time, about."""
DIFFER = "samples differ each time they are read, so they are read again for each batch"
IN_MEMORY = "lanes need data in memory"
SLOW_S = 20.0
"""Reading that takes longer is shared between processes."""


def decoded(task: Task, splits: Splits, field: str) -> Splits:
    """The splits with arrays in place of data sets, where they can be. field: as errors name the splits.

    Raises ExperimentError for samples that cannot be read, or make no batch.
    """
    from raytune_hpo.training.task import Task

    sets = {name: split for name in SPLITS if isinstance(split := getattr(splits, name), DatasetSplit)}
    if not sets:
        return splits
    found: dict[str, Any] = {name: _Decoding(task, split, f"{field}.{name}") for name, split in sets.items()}
    ready = {name: each for name, each in found.items() if each.streamed is None and len(sets[name])}
    trees: dict[str, Tree] = {}
    pads = type(task).collate is not Task.collate  # it may make samples of other shapes alike
    unlike = pads and len({repr(each.form) for each in ready.values()}) > 1
    if not unlike and not any(each.ragged for each in ready.values()):
        trees = {name: each.in_chunks() for name, each in ready.items()}
    if len(trees) < len(ready) or any(each.ragged for each in ready.values()):
        trees = _all_at_once(ready)
    changed: dict[str, Any] = {}
    for name, split in sets.items():
        tree = trees.get(name)
        changed[name] = replace(split, streamed=found[name].streamed) if tree is None else _split_of(tree)
    splits = replace(splits, **changed)
    for name, split in sets.items():
        if not len(split):  # of the form of the training split, so that they can be pooled
            splits = replace(splits, **{name: _none_of(splits.train, split)})
    return _with_origins(splits, sets)


def _split_of(tree: Tree) -> ArraySplit:
    """Of a pair, x and y."""
    tree = as_batch(tree)
    return Split(*tree) if isinstance(tree, Batch) else TreeSplit(tree)


def _none_of(train: Any, split: DatasetSplit) -> Any:
    return train.first(0) if isinstance(train, ArraySplit) else split


def _with_origins(splits: Splits, sets: dict[str, DatasetSplit]) -> Splits:
    """Of training and validation data of which one is read in a stream, the other keeps its data set."""
    pair = {name: getattr(splits, name) for name in SPLITS[:2]}
    kinds = {name: isinstance(split, DatasetSplit) for name, split in pair.items()}
    if len(set(kinds.values())) == 1:
        return splits
    kept: dict[str, Any] = {
        name: replace(split, origin=sets[name])
        for name, split in pair.items()
        if isinstance(split, Split | TreeSplit) and name in sets
    }
    return replace(splits, **kept)


def _all_at_once(ready: dict[str, _Decoding]) -> dict[str, Tree]:
    """Samples that differ in shape as one batch of all splits together, so that all are padded alike."""
    samples: list[Any] = []
    for each in ready.values():
        samples += each.read_all()
    ready = {name: each for name, each in ready.items() if each.streamed is None}
    if not ready:
        return {}
    counts = [len(each.split) for each in ready.values()]
    first = next(iter(ready.values()))
    tree = first.collated(samples)
    why = first.refusal(tree, len(samples))
    if why is None:
        size = sum(as_array(leaf).nbytes for leaf in leaves(tree))
        why = first.too_large(size * max(counts) // len(samples))
    if why is not None:
        for each in ready.values():
            each.streamed = why
        return {}
    arrays = mapped(as_array, tree)
    ends = np.cumsum(counts)
    starts = ends - counts
    return {
        name: mapped(lambda leaf, a=start, b=end: leaf[a:b], arrays)
        for name, start, end in zip(ready, starts, ends, strict=True)
    }


class _Decoding:
    """One split on its way. streamed: why it stays a data set, None if it does not. form: of its samples. ragged: they
    differ in shape."""

    def __init__(self, task: Task, split: DatasetSplit, field: str) -> None:
        self.task, self.split, self.field = task, split, field
        self.streamed: str | None = None
        self.form: Any = None
        self.ragged = False
        if len(split):
            self._look()

    def _look(self) -> None:
        """Read a few samples twice, with generators seeded otherwise."""
        n = len(self.split)
        rows = sorted({int(row) for row in np.linspace(0, n - 1, min(n, PROBED))})
        began = time.perf_counter()
        one = self._probe(rows, 1)
        self._sample_s = (time.perf_counter() - began) / len(rows)
        other = self._probe(rows, 2)
        self.ragged = any(shape != one.shapes[0] for shape in one.shapes)
        self.form = one.shapes[0]
        if one.ends != other.ends or not equal(one.tree, other.tree):
            self.streamed = f"{DIFFER}; {IN_MEMORY} (augment() draws in training)"
            return
        self.streamed = self.refusal(one.tree, len(rows))
        if self.streamed is None:
            size = sum(as_array(leaf).nbytes for leaf in leaves(one.tree)) / len(rows)
            self._chunk = max(1, int(CHUNK_BYTES / max(size, 1)))
            self.streamed = self.too_large(int(size * n))

    def _probe(self, rows: Sequence[int], seed: int) -> Probe:
        return probed(self.read, self.collated, rows, seed)

    def read(self, row: int) -> Any:
        try:
            return self.split[row]
        except Exception as error:
            from raytune_hpo.training.sample_reader import where

            expected = f"cannot be read: {where(error)}"
            raise ExperimentError(f"{self.field}[{row}]", type(self.split.dataset).__name__, expected) from error

    def collated(self, samples: Sequence[Any]) -> Tree:
        from raytune_hpo.training.task import Task

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*not writable")
                return self.task.collate(samples)
        except Exception as error:
            from raytune_hpo.training.sample_reader import where

            said = where(error)
            if type(self.task).collate is Task.collate:
                shapes = list(dict.fromkeys(repr(shapes_of(sample)) for sample in samples))[:2]
                shown = " and ".join(shapes)
                expected = "is what torch's default_collate cannot make a batch of; write collate(self, samples)"
                expected += ", for instance with raytune_hpo.pad_collate" if len(shapes) > 1 else f": {said}"
                raise ExperimentError(f"{self.field}: a sample", shown, expected) from error
            raise ExperimentError(f"{type(self.task).__name__}.collate", f"{len(samples)} samples", said) from error

    def refusal(self, tree: Tree, samples: int) -> str | None:
        """Why a batch is no tree of arrays with the samples on axis 0; None if it is. Raises ExperimentError for
        strings."""
        for path, leaf in paths(tree):
            if isinstance(leaf, str | bytes):
                expected = "is text, which is no array: leave it out in collate(self, samples), or encode it there"
                raise ExperimentError(f"{self.field}: a batch{path}", leaf, expected)
            shape = getattr(leaf, "shape", None)
            if shape is None or not len(shape) or shape[0] != samples:
                found = f"a {type(leaf).__name__}" if shape is None else f"{list(shape)}"
                return (
                    f"a batch of {samples} samples has {found} at {path or 'its top'}, and collate would have to "
                    f"answer the samples on axis 0, so they are read again for each batch; {IN_MEMORY}"
                )
        return None

    def too_large(self, size: int) -> str | None:
        most = self.task.decode_bytes
        if size <= most:
            return None
        return (
            f"its samples take {_bytes(size)}, more than decode_bytes = {_bytes(most)}, so they are read again for "
            f"each batch; {IN_MEMORY}"
        )

    def in_chunks(self) -> Tree | None:
        """All samples, of one shape; None where it turns out that they have to be streamed, or that they differ."""
        out: Tree | None = None
        n, start = len(self.split), 0
        for count, tree in self._chunks():
            if self.streamed is not None:
                return None
            arrays = mapped(as_array, tree)
            if out is None:
                out = mapped(lambda leaf: np.empty((n, *leaf.shape[1:]), leaf.dtype), arrays)
            if structure(out) != structure(arrays) or any(
                one.shape[1:] != other.shape[1:] or one.dtype != other.dtype  # 0 and 0.5 are numbers of two types
                for one, other in zip(leaves(out), leaves(arrays), strict=True)
            ):
                self.ragged = True
                return None
            for one, other in zip(leaves(out), leaves(arrays), strict=True):
                one[start : start + count] = other
            start += count
        return out

    def _chunks(self) -> Iterator[tuple[int, Tree]]:
        n = len(self.split)
        rows = [list(range(start, min(start + self._chunk, n))) for start in range(0, n, self._chunk)]
        workers = self.task.loader_workers if n * self._sample_s > SLOW_S else 0
        if workers:
            from raytune_hpo.training.sample_reader import SampleReader

            reader = SampleReader(self.split, self.task.collate, type(self.task).__name__, workers)
            try:
                for own, tree in zip(rows, reader.batches(rows, 0), strict=True):
                    self.streamed = self.refusal(tree, len(own))
                    yield len(own), tree
            except TrialError as error:
                raise ExperimentError(self.field, type(self.split.dataset).__name__, str(error)) from error
            finally:
                reader.close()
            return
        for own in rows:
            samples = [self.read(row) for row in own]
            tree = self.collated(samples)
            del samples
            self.streamed = self.refusal(tree, len(own))
            yield len(own), tree

    def read_all(self) -> list[Any]:
        """Every sample, of any shape; none where they are too large together."""
        size = 0
        samples = []
        for row in range(len(self.split)):
            samples.append(self.read(row))
            size += sum(getattr(leaf, "nbytes", 0) for leaf in leaves(samples[-1]))
            self.streamed = self.too_large(size)
            if self.streamed is not None:
                return []
        return samples


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size} bytes"
