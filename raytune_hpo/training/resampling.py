"""Other ways to split what a trial may see: k folds, and a fresh split for each repetition of a config.

Both pool the training and the validation data and never touch the test split. Classes keep their shares
in every part (stratified). The parts depend on the seed alone, so that all trials of an experiment see the
same ones and their differences are paired.
"""

from __future__ import annotations

import numpy as np

from raytune_hpo.training.data import Array, Split, TrialData
from raytune_hpo.training.partitions import random_folds, random_split, stratified_folds, stratified_split
from raytune_hpo.training.task import Task

#: What follows a metric's name where it is the deviation over the folds.
DEVIATION = "_std"


def pooled(data: TrialData) -> Split:
    """Training and validation samples as one split, in this order."""
    x = np.concatenate([data.train.x, data.validation.x])
    return Split(x, np.concatenate([data.train.y, data.validation.y]))


def fold_data(task: Task, data: TrialData, folds: int, seed: int) -> list[TrialData]:
    """The data of each fold: it validates on one k-th of the pool and trains on the rest.

    Every sample is validated on exactly once.
    """
    pool = pooled(data)
    stratifies = _stratifies(task, pool.y, folds)
    parts = stratified_folds(pool.y, folds, seed) if stratifies else random_folds(len(pool), folds, seed)
    return [_parts(pool, train, validation) for train, validation in parts]


def resplit(task: Task, data: TrialData, seed: int) -> TrialData:
    """Training and validation data drawn anew from the pool, of the sizes they have."""
    pool, size = pooled(data), len(data.validation)
    stratifies = _stratifies(task, pool.y, 2)
    train, validation = stratified_split(pool.y, size, seed) if stratifies else random_split(len(pool), size, seed)
    return _parts(pool, train, validation)


def _stratifies(task: Task, y: Array, parts: int) -> bool:
    """Whether every class has a sample for each part."""
    return task.kind == "classification" and int(np.unique(y, return_counts=True)[1].min()) >= parts


def _parts(pool: Split, train: Array, validation: Array) -> TrialData:
    return TrialData(Split(pool.x[train], pool.y[train]), Split(pool.x[validation], pool.y[validation]))
