"""Partitions are scikit-learn's to the index: runs that were recorded with those are resumed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.partitions import random_folds, random_split, stratified_folds, stratified_split

rng = np.random.default_rng(0)
COUNTS: dict[str, list[int]] = {
    "digits": [178, 182, 177, 183, 181, 182, 181, 179, 174, 180],
    "ties": [20] * 12,
    "ties of two kinds": [7] * 9 + [13] * 5,
    "pairs": [2] * 10,
    "very unequal": [3000, 2, 2, 3, 400],
    "one class": [40],
    **{f"random {k}": list(rng.integers(2, 60, rng.integers(2, 20))) for k in range(5)},
}
SHARES = (0.1, 0.2, 1 / 3, 0.25, 0.2 / (1 - 0.2), 0.5, 0.77)


def classes(counts: list[int], seed: int) -> Any:
    """In random order, with labels that are no 0..C-1."""
    shuffled = np.random.default_rng(seed)
    return shuffled.permutation(np.repeat(shuffled.permutation(len(counts)) * 3 - 5, counts))


def assert_same(found: Any, expected: Any) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("kind", COUNTS)
def test_splits(kind: str) -> None:
    compared = 0
    for seed in range(30):
        y = classes(COUNTS[kind], seed)
        n = len(y)
        for share in SHARES:
            size = math.ceil(share * n)
            expected = train_test_split(np.arange(n), test_size=share, random_state=seed)
            assert_same(random_split(n, size, seed), expected)
            try:
                expected = train_test_split(np.arange(n), test_size=share, random_state=seed, stratify=y)
            except ValueError:
                with pytest.raises(ExperimentError, match="each part must have one"):
                    stratified_split(y, size, seed)
                continue
            assert_same(stratified_split(y, size, seed), expected)
            compared += 1
    assert compared >= 30


@pytest.mark.parametrize("kind", COUNTS)
def test_folds(kind: str) -> None:
    for seed in range(10):
        y = classes(COUNTS[kind], seed)
        n = len(y)
        for folds in (2, 3, 5, 10):
            pairs = KFold(folds, shuffle=True, random_state=seed).split(np.zeros(n))
            for found, expected in zip(random_folds(n, folds, seed), pairs, strict=True):
                assert_same(found, expected)
            if folds > min(COUNTS[kind]):
                with pytest.raises(ExperimentError, match="folds"):
                    stratified_folds(y, folds, seed)
                continue
            pairs = StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(n), y)
            for found, expected in zip(stratified_folds(y, folds, seed), pairs, strict=True):
                assert_same(found, expected)


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ([5, 1], 2, "two samples or more of each class"),
        ([5, 5, 5], 2, "each of the 3 classes"),
        ([5, 5, 5], 13, "each of the 3 classes"),
        ([5, 5], 0, "must leave samples in both parts of 10"),
        ([5, 5], 10, "must leave samples in both parts of 10"),
    ],
)
def test_what_cannot_be_split_is_refused_in_one_line(counts: list[int], size: int, message: str) -> None:
    y = classes(counts, 0)
    with pytest.raises(ValueError, match=r"\w"):
        train_test_split(np.arange(len(y)), test_size=size, stratify=y)
    with pytest.raises(ExperimentError, match=message) as caught:
        stratified_split(y, size, 0)
    assert "\n" not in str(caught.value)
    if "both parts" in message:
        with pytest.raises(ExperimentError, match=message):
            random_split(len(y), size, 0)


def test_more_folds_than_samples_and_no_classes_are_refused() -> None:
    with pytest.raises(ExperimentError, match="folds = 4: must be 3 at most"):
        random_folds(3, 4, 0)
    for split in (stratified_split, stratified_folds):
        with pytest.raises(ExperimentError, match="one class a sample"):
            split(np.zeros((6, 2)), 2, 0)
