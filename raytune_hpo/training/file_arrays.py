"""Arrays that stay in their file: `np.memmap`s and views of them, sent to other processes by name, and rows of them not
read yet.

A mapping that is copied on write (mode "c") is not one of these: what was written to it is nowhere but in memory.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError

Array = np.ndarray[Any, Any]

FILE_GONE = "must be a file that every process can read for as long as the run is"


def lies_in_file(array: Any) -> bool:
    return isinstance(array, Rows) or _mapping_of(array) is not None


def files_of(array: Any) -> list[str]:
    """The files that an array which lies in files is read from."""
    parts = array.parts if isinstance(array, Rows) else (array,)
    return [str(mapping.filename) for part in parts if (mapping := _mapping_of(part)) is not None]


def gathered(array: Any, rows: Array) -> Array:
    """The rows, int64 [m], of an array that lies in files: a copy in memory, [m, ...]."""
    return np.asarray(array[rows])


class Rows:
    """Rows of arrays that lie in files, one after the other: read when they are indexed, by a slice or int64 [m].

    parts: arrays of one shape but for axis 0, and of one type. rows: [n], counted through all parts.
    """

    def __init__(self, parts: tuple[Any, ...], rows: Array) -> None:
        self.parts, self._rows = parts, rows
        self._ends = np.cumsum([len(part) for part in parts])

    @staticmethod
    def of(array: Any, rows: Array) -> Rows:
        return Rows(array.parts, array._rows[rows]) if isinstance(array, Rows) else Rows((array,), rows)

    @staticmethod
    def joined(*arrays: Any) -> Rows:
        """One after the other."""
        parts: list[Any] = []
        rows: list[Array] = []
        for array in arrays:
            start = sum(len(part) for part in parts)
            own = array if isinstance(array, Rows) else Rows((array,), np.arange(len(array)))
            parts += own.parts
            rows.append(own._rows + start)
        return Rows(tuple(parts), np.concatenate(rows))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self._rows), *self.parts[0].shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Of them all, in memory."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        """Of a slice rows that are not read yet, of [m] numbers the array itself, [m, ...]."""
        rows = self._rows[index]
        if isinstance(index, slice):
            return Rows(self.parts, rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        part = np.searchsorted(self._ends, rows, side="right")
        for i, array in enumerate(self.parts):
            here = part == i
            if here.any():
                out[here] = array[rows[here] - (self._ends[i] - len(array))]
        return out

    def __reduce__(self) -> Any:
        return _rows_again, (tuple(reference(part) for part in self.parts), self._rows)


@dataclass(frozen=True)
class _InFile:
    """Where an array lies in a file. start, length: bytes of the file that it is within, of which its first element is
    at `first`. strides: in bytes."""

    path: str
    start: int
    length: int
    first: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def reference(array: Any) -> Any:
    """What stands for an array on its way to another process; an array that lies in no file as it is."""
    mapping = _mapping_of(array)
    if mapping is None or isinstance(array, Rows):
        return array
    if mapping.mode in ("r+", "w+"):
        mapping.flush()  # another machine reads the file, and not this one's memory
    memory = np.frombuffer(mapping._mmap, np.uint8)
    # A memmap's mapping begins at a page, up to which `offset` is rounded down.
    page = mapping.offset - mapping.offset % mmap.ALLOCATIONGRANULARITY
    steps = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    below = sum(step for step in steps if step < 0) if array.size else 0
    above = sum(step for step in steps if step > 0) + array.itemsize if array.size else 0
    start = page + array.ctypes.data + below - memory.ctypes.data
    path = str(Path(mapping.filename).absolute())
    return _InFile(path, int(start), above - below, -below, array.dtype, array.shape, array.strides)


def opened(array: Any) -> Any:
    """The array that `reference` stands for, read-only. Raises ExperimentError where its file cannot be read here."""
    if not isinstance(array, _InFile):
        return array
    if not array.length:
        return np.zeros(array.shape, array.dtype)
    try:
        found = np.memmap(array.path, np.uint8, "r", array.start, (array.length,))
    except (OSError, ValueError) as error:
        raise ExperimentError("task", array.path, f"{FILE_GONE}: {error}") from error
    return np.ndarray(array.shape, array.dtype, found, array.first, array.strides)


def _mapping_of(array: Any) -> Any:
    """The memmap that an array is, or is a view of; None where it lies in memory. What is computed of a memmap is of
    that class as well, and has no file."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array._mmap is not None:  # type: ignore[attr-defined]  # an open part of it
            return array if array.mode != "c" and array.filename is not None else None
        array = array.base
    return None


def _rows_again(parts: tuple[Any, ...], rows: Array) -> Rows:
    return Rows(tuple(opened(part) for part in parts), rows)
