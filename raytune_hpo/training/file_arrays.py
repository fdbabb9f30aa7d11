"""Arrays that stay in their file: `np.memmap`s, sent to other processes by name, and rows of them not read yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError

Array = np.ndarray[Any, Any]


def lies_in_file(array: Any) -> bool:
    return isinstance(array, np.memmap | Rows)


class Rows:
    """Rows of arrays that lie in files, one after the other: read when they are indexed, by a slice or int64 [m].

    parts: arrays of one shape but for axis 0, and of one type. rows: [n], counted through all parts.
    """

    def __init__(self, parts: tuple[Any, ...], rows: Array) -> None:
        self._parts, self._rows = parts, rows
        self._ends = np.cumsum([len(part) for part in parts])

    @staticmethod
    def of(array: Any, rows: Array) -> Rows:
        return Rows(array._parts, array._rows[rows]) if isinstance(array, Rows) else Rows((array,), rows)

    @staticmethod
    def joined(*arrays: Any) -> Rows:
        """One after the other."""
        parts: list[Any] = []
        rows: list[Array] = []
        for array in arrays:
            start = sum(len(part) for part in parts)
            own = array if isinstance(array, Rows) else Rows((array,), np.arange(len(array)))
            parts += own._parts
            rows.append(own._rows + start)
        return Rows(tuple(parts), np.concatenate(rows))

    @property
    def dtype(self) -> np.dtype[Any]:
        found: np.dtype[Any] = self._parts[0].dtype
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self._parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Of a slice rows that are not read yet, of [m] numbers the array itself, [m, ...]."""
        rows = self._rows[index]
        if isinstance(index, slice):
            return Rows(self._parts, rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        part = np.searchsorted(self._ends, rows, side="right")
        for i, array in enumerate(self._parts):
            here = part == i
            if here.any():
                out[here] = array[rows[here] - (self._ends[i] - len(array))]
        return out

    def __reduce__(self) -> Any:
        return _rows_again, (tuple(reference(part) for part in self._parts), self._rows)


@dataclass(frozen=True)
class _InFile:
    """Where a memory-mapped array lies. start: bytes from the file's begin."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    start: int


def reference(array: Any) -> Any:
    """What stands for an array on its way to another process; an array that is no whole stretch of a file as it is."""
    if not isinstance(array, np.memmap) or array.filename is None or not array.flags.c_contiguous:
        return array
    mapping = np.frombuffer(array._mmap, np.uint8)  # type: ignore[attr-defined]  # an open part of the class
    # A memmap's mapping begins at a page, up to which `offset` is rounded down; a view of one keeps both.
    page = array.offset - array.offset % _granularity()
    start = page + array.ctypes.data - mapping.ctypes.data
    return _InFile(str(Path(array.filename).absolute()), array.dtype.str, array.shape, int(start))


def opened(array: Any) -> Any:
    """The array that `reference` stands for. Raises ExperimentError where its file cannot be read here."""
    if not isinstance(array, _InFile):
        return array
    try:
        return np.memmap(array.path, array.dtype, "r", array.start, array.shape)
    except (OSError, ValueError) as error:
        expected = f"must be a file that every process can read: {error}"
        raise ExperimentError("task", array.path, expected) from error


def _rows_again(parts: tuple[Any, ...], rows: Array) -> Rows:
    return Rows(tuple(opened(part) for part in parts), rows)


def _granularity() -> int:
    import mmap

    return mmap.ALLOCATIONGRANULARITY
