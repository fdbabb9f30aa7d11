"""Random partitions of samples: in two, or in k folds; with or without the classes' shares kept in each part.

The indices are those of scikit-learn's `train_test_split`, `KFold` and `StratifiedKFold`, whose algorithms these are
(https://scikit-learn.org/stable/modules/cross_validation.html#cross-validation-iterators), with the same draws in the
same order: runs recorded with those are resumed. Here, as importing scikit-learn takes a second, several on a cold
disk, in every process that splits; and no version of it can move the samples of an old run. The draws are NumPy's
legacy generator's, whose streams are frozen (NEP 19).
"""

from __future__ import annotations

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.data import Array


def random_split(n: int, size: int, seed: int) -> tuple[Array, Array]:
    """`size` of n samples and the others, at random, as `train_test_split(test_size=size)`.

    Returns the others: [n - size] and the drawn: [size], int64. Raises ExperimentError where either is empty.
    """
    _check_parts(n, size)
    order = np.random.RandomState(seed).permutation(n)
    return order[size:], order[:size]


def stratified_split(y: Array, size: int, seed: int) -> tuple[Array, Array]:
    """The same with each class's share kept, as `train_test_split(test_size=size, stratify=y)`.

    This is StratifiedShuffleSplit
    (https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedShuffleSplit.html): how many
    of a class go to a part is the mode, about, of a multivariate hypergeometric distribution; which ones, and the
    order of each part, is random.

    y: [n] classes. Returns the others: [n - size] and the drawn: [size], int64. Raises ExperimentError where a class
    has a single sample, or a part fewer samples than there are classes.
    """
    inverse, counts = _classes(y)
    _check_parts(len(y), size)
    if counts.min() < 2:
        raise ExperimentError("split", size, "stratified, it needs two samples or more of each class")
    if min(size, len(y) - size) < len(counts):
        expected = f"of {len(y)} samples: stratified, each part must have one for each of the {len(counts)} classes"
        raise ExperimentError("split", size, expected)
    rng = np.random.RandomState(seed)
    members = np.split(np.argsort(inverse, kind="stable"), np.cumsum(counts)[:-1])
    n_others = _shared_out(len(y) - size, counts, rng)
    n_drawn = _shared_out(size, counts - n_others, rng)
    others, drawn = [], []
    for samples, of_others, of_drawn in zip(members, n_others, n_drawn, strict=True):
        shuffled = samples[rng.permutation(len(samples))]
        others.append(shuffled[:of_others])
        drawn.append(shuffled[of_others : of_others + of_drawn])
    return rng.permutation(np.concatenate(others)), rng.permutation(np.concatenate(drawn))


def random_folds(n: int, folds: int, seed: int) -> list[tuple[Array, Array]]:
    """Of each fold the samples outside and inside, as `KFold(folds, shuffle=True)`.

    Returns `folds` pairs of int64 indices, ascending; sizes differ by one at most. Raises ExperimentError where there
    are fewer samples than folds.
    """
    _check_folds(n, folds)
    order = np.random.RandomState(seed).permutation(n)
    fold = np.empty(n, np.int64)
    for k, samples in enumerate(np.array_split(order, folds)):
        fold[samples] = k
    return _of_each(fold, folds)


def stratified_folds(y: Array, folds: int, seed: int) -> list[tuple[Array, Array]]:
    """The same with each class's share kept, as `StratifiedKFold(folds, shuffle=True)`.

    y: [n] classes. Raises ExperimentError where a class has fewer samples than there are folds.
    """
    inverse, counts = _classes(y)
    _check_folds(int(counts.min()), folds)
    # Folds take samples in turns, class after class: the classes as they appear in y, not as they sort.
    first = np.unique(inverse, return_index=True)[1]
    classes = np.argsort(first)
    in_turns = np.repeat(np.arange(len(classes)), counts[classes])
    shares = [np.bincount(in_turns[k::folds], minlength=len(classes)) for k in range(folds)]
    rng = np.random.RandomState(seed)
    fold = np.empty(len(y), np.int64)
    for label, share in zip(classes, np.transpose(shares), strict=True):
        of_class = np.repeat(np.arange(folds), share)
        rng.shuffle(of_class)
        fold[inverse == label] = of_class
    return _of_each(fold, folds)


def _classes(y: Array) -> tuple[Array, Array]:
    """Of y: [n] the class of each sample: [n], as a number from 0, and each class's samples. Raises ExperimentError."""
    if y.ndim != 1:
        raise ExperimentError("y", y.shape, "must be one class a sample where a split is to keep their shares")
    _, inverse, counts = np.unique(y, return_inverse=True, return_counts=True)
    return inverse, counts


def _shared_out(draws: int, counts: Array, rng: np.random.RandomState) -> Array:
    """How many of `draws` samples are of each class: its share, rounded down, and one more where most is cut off.

    Ties are broken at random. counts: [C] samples of each class. Returns [C] int64.
    scikit-learn's `utils.extmath._approximate_mode`.
    """
    shares = counts / counts.sum() * draws
    whole = np.floor(shares)
    left = int(draws - whole.sum())
    cut_off = shares - whole
    for value in np.unique(cut_off)[::-1]:
        if left == 0:
            break
        tied = np.flatnonzero(cut_off == value)
        # Drawn where all of them get one, too: the draws that follow are to be scikit-learn's.
        chosen = rng.choice(tied, size=min(len(tied), left), replace=False)
        whole[chosen] += 1
        left -= len(chosen)
    shared: Array = whole.astype(np.int64)
    return shared


def _of_each(fold: Array, folds: int) -> list[tuple[Array, Array]]:
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(folds)]


def _check_parts(n: int, size: int) -> None:
    if not 0 < size < n:
        raise ExperimentError("split", size, f"must leave samples in both parts of {n}")


def _check_folds(n: int, folds: int) -> None:
    if folds > n:
        raise ExperimentError("folds", folds, f"must be {n} at most, or a fold has no sample (of some class)")
