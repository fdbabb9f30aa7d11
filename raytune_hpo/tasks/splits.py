"""How samples are divided between training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.data import Array

LEAST_TRAINING = 0.1
"""Share of all samples that the fractions must leave for training."""


class _Fractions(Protocol):
    @property
    def validation_fraction(self) -> float: ...
    @property
    def test_fraction(self) -> float: ...
    @property
    def split_seed(self) -> int | None: ...


def check_fractions(task: _Fractions) -> None:
    """Check a task's options validation_fraction, test_fraction and split_seed. Raises ExperimentError."""
    for name in ("validation_fraction", "test_fraction"):
        checks.number(f"task.{name}", getattr(task, name), 0, 1, open_low=True, open_high=True)
    if task.validation_fraction + task.test_fraction > 1 - LEAST_TRAINING:
        raise ExperimentError(
            "task.validation_fraction",
            task.validation_fraction,
            f"must leave {LEAST_TRAINING} for training beside test_fraction = {task.test_fraction}",
        )
    if task.split_seed is not None:
        checks.integer("task.split_seed", task.split_seed, 0)


def stratified_order(y: Sequence[int] | Array, rng: np.random.Generator) -> Array:
    """A random order of the samples whose every stretch holds the classes in their shares of the whole.

    y: [n] classes. Returns [n] int64, a permutation of 0..n-1. However long a stretch is, it has a few samples of a
    class more or less than that class's share. This is systematic sampling (Madow & Madow 1944): the members of a
    class, shuffled, lie at equal distances on [0, 1), from a random start.
    """
    y = np.asarray(y)
    place = np.empty(len(y))
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.argsort(place, kind="stable").astype(np.int64)
