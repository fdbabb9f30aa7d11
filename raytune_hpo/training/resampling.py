"""Other ways to split what a trial may see: k folds, and a fresh split for each repetition of a config.

Both pool the training and the validation data and never touch the test split. Classes keep their shares
in every part (stratified). The parts depend on the seed alone, so that all trials of an experiment see the
same ones and their differences are paired.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.data import Array, ArraySplit, DatasetSplit, Split, TrialData
from raytune_hpo.training.file_arrays import Rows, lies_in_file
from raytune_hpo.training.metrics import NOT_SCORED
from raytune_hpo.training.partitions import random_folds, random_split, stratified_folds, stratified_split
from raytune_hpo.training.task import Task
from raytune_hpo.training.trees import mapped, structure

#: What follows a metric's name where it is the deviation over the folds.
DEVIATION = "_std"


def pooled(data: TrialData) -> Any:
    """Training and validation samples as one split, in this order. Raises ExperimentError where they cannot be one."""
    train, validation = _of_one_form(data)
    if isinstance(train, ArraySplit) and isinstance(validation, ArraySplit):
        if structure(train.tree) == structure(validation.tree):
            return train.with_tree(mapped(_joined, train.tree, validation.tree))
    elif isinstance(train, DatasetSplit) and isinstance(validation, DatasetSplit):
        return DatasetSplit(_Joined(train, validation), streamed=train.streamed or validation.streamed)
    expected = "cannot be pooled: folds, and repetitions of an exchangeable task, need two splits of one form"
    raise ExperimentError("task", f"{type(train).__name__} and {type(validation).__name__}", expected)


def can_be_pooled(data: TrialData) -> bool:
    train, validation = _of_one_form(data)
    if isinstance(train, ArraySplit) and isinstance(validation, ArraySplit):
        return bool(structure(train.tree) == structure(validation.tree))
    return isinstance(train, DatasetSplit) and isinstance(validation, DatasetSplit)


def _of_one_form(data: TrialData) -> tuple[Any, Any]:
    """The splits; where one is a data set that is read in a stream, the other as the one that it was decoded from."""
    train, validation = data.train, data.validation
    if isinstance(train, DatasetSplit) and isinstance(validation, ArraySplit):
        return train, validation.origin or validation
    if isinstance(train, ArraySplit) and isinstance(validation, DatasetSplit):
        return train.origin or train, validation
    return train, validation


class _Joined:
    """Two data sets, one after the other."""

    def __init__(self, *splits: DatasetSplit) -> None:
        self._splits = splits

    def __len__(self) -> int:
        return sum(map(len, self._splits))

    def __getitem__(self, index: int) -> Any:
        for split in self._splits:
            if index < len(split):
                return split[index]
            index -= len(split)
        raise IndexError(index)


def _joined(one: Any, other: Any) -> Any:
    if not len(one) or not len(other):
        return other if not len(one) else one
    if lies_in_file(one) or lies_in_file(other):
        return Rows.joined(one, other)
    return np.concatenate([one, other])


def fold_data(task: Task, data: TrialData, folds: int, seed: int) -> list[TrialData]:
    """The data of each fold: it validates on one k-th of the pool and trains on the rest.

    Every sample is validated on exactly once.
    """
    pool = pooled(data)
    y = _classes(task, pool, folds)
    parts = random_folds(len(pool), folds, seed) if y is None else stratified_folds(y, folds, seed)
    return [_parts(data, pool, train, validation) for train, validation in parts]


def resplit(task: Task, data: TrialData, seed: int) -> TrialData:
    """Training and validation data drawn anew from the pool, of the sizes they have."""
    pool, size = pooled(data), len(data.validation)
    y = _classes(task, pool, 2)
    train, validation = random_split(len(pool), size, seed) if y is None else stratified_split(y, size, seed)
    return _parts(data, pool, train, validation)


def _classes(task: Task, pool: Any, parts: int) -> Array | None:
    """[n] the class of each sample, where each has one and every class has a sample for each part."""
    y = pool.y if isinstance(pool, Split) else None
    if task.kind != "classification" or not isinstance(y, np.ndarray) or lies_in_file(y) or y.ndim != 1:
        return None
    found, counts = np.unique(y, return_counts=True)
    return y if int(counts.min()) >= parts and NOT_SCORED not in found else None


def _parts(data: TrialData, pool: Any, train: Array, validation: Array) -> TrialData:
    return replace(data, train=pool.take(train), validation=pool.take(validation))
