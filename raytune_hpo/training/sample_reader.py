"""Reads the samples of a map-style data set, batch by batch, in this process or in some of its own.

What a sample draws at random is seeded by (seed, the sample's number), whoever reads it. What goes wrong is a line that
names the sample, and the line of the user's code.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raytune_hpo.errors import PACKAGE, TrialError, one_line
from raytune_hpo.training.data import DatasetSplit
from raytune_hpo.training.random_states import OwnRandomStates
from raytune_hpo.training.reading_processes import ReadingProcesses

Key = tuple[list[int], int]


@dataclass(frozen=True)
class _Unread:
    """In place of a batch: why there is none, as a line."""

    text: str


class Batches:
    """As a data set whose samples are batches: by (rows, seed). Answers, and does not raise, what went wrong."""

    def __init__(self, split: DatasetSplit, collate: Callable[[Sequence[Any]], Any], task: str) -> None:
        self._split, self._collate, self._task = split, collate, task

    def __getitem__(self, key: Key) -> Any:
        rows, seed = key
        samples = []
        for row in rows:
            seed_for(seed, row)
            try:
                samples.append(self._split[row])
            except Exception as error:
                return _Unread(f"sample {row} cannot be read: {where(error)}")
        try:
            with _quiet():
                return self._collate(samples)
        except Exception as error:
            return _Unread(f"{self._task}.collate cannot make a batch of {len(samples)} samples: {where(error)}")


class SampleReader:
    """workers: processes, 0 for none, which are started when first needed. task: the name of the class whose `collate`
    it is. pinned: as for `ReadingProcesses`."""

    def __init__(
        self,
        split: DatasetSplit,
        collate: Callable[[Sequence[Any]], Any],
        task: str,
        workers: int,
        *,
        pinned: bool = False,
    ) -> None:
        self._batches = Batches(split, collate, task)
        self._workers = workers if "fork" in multiprocessing.get_all_start_methods() else 0
        self._pinned = pinned
        self._processes: ReadingProcesses | None = None

    def batches(self, rows: Sequence[list[int]], seed: int) -> Iterator[Any]:
        """Of these rows each, in order. Raises TrialError where samples cannot be read, or a process was lost."""
        keys: list[Key] = [(own, seed) for own in rows]
        left = len(keys)
        try:
            for found in self._from_processes(keys) if self._workers else self._here(keys):
                left -= 1
                if isinstance(found, _Unread):
                    raise TrialError(found.text)
                yield found
        except GeneratorExit:
            if left:  # batches that nobody asks for any more
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.close()
            self._processes = None

    def _here(self, keys: Sequence[Key]) -> Iterator[Any]:
        own = OwnRandomStates(0)
        for key in keys:
            with own.entered():
                found = self._batches[key]
            yield found

    def _from_processes(self, keys: Sequence[Key]) -> Iterator[Any]:
        if self._processes is None:
            with _quiet():
                self._processes = ReadingProcesses(self._batches.__getitem__, self._workers, pinned=self._pinned)
        yield from self._processes.batches(keys)


def seed_for(seed: int, row: int) -> None:
    """Seed Python's, NumPy's and torch's generators for one sample."""
    own = int(np.random.SeedSequence([seed, row]).generate_state(1)[0])
    random.seed(own)
    np.random.seed(own)
    torch.default_generator.manual_seed(own)


def where(error: BaseException) -> str:
    """An exception as a line, with the innermost line of the user's own code."""
    frames = list(traceback.extract_tb(error.__traceback__))
    outside = [frame for frame in frames if not frame.filename.startswith(PACKAGE)]
    own = [frame for frame in outside if "site-packages" not in frame.filename] or outside
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return one_line(error) + place


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without two warnings: of arrays that are shared and so read-only, and of a fork beside threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(not writable|fork)")
        yield
