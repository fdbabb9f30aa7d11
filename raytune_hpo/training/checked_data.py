"""The checks of what a task's `load` answers: before anything trains, and each a line that names the array.

What cannot be trained or measured is refused. What can, and is likely not meant, is said (`remarks`). Values that are
not finite are refused: one of them in a batch makes its loss NaN, so that every trial would diverge at some step with
no word of the reason. (Where NaN is a missing value that the model knows, the task says so: `Task.missing_values`.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.data import Array, Kind, Split, Splits, TrialData

SPLITS = ("train", "validation", "test")
CHUNK = 1 << 20  # numbers that are looked at at a time
FEW = 8  # classes that are listed


def checked_splits(field: str, found: Any, kind: Kind, *, missing_values: bool) -> Splits:
    """`found` with classes as integers. field: whose answer it is, as errors name it.

    An empty validation split is the caller's to judge: cross-validation can do without. Raises ExperimentError.
    """
    splits = check_type(field, found)
    checked = {
        name: _checked(f"{field}.{name}", getattr(splits, name), kind, missing_values=missing_values) for name in SPLITS
    }
    if not len(splits.train):
        raise ExperimentError(f"{field}.train", "no samples", "must hold some: there is nothing to train on")
    shape = np.shape(checked["train"].y)[1:]
    for name, split in checked.items():
        if len(split) and np.shape(split.y)[1:] != shape:
            expected = f"must be {['n', *shape]} as of the training split".replace("'", "")
            raise ExperimentError(f"{field}.{name}.y", list(np.shape(split.y)), expected)
    return Splits(**checked)


def check_type(field: str, found: Any) -> Splits:
    """Raise ExperimentError for anything but Splits of Splits."""
    if not isinstance(found, Splits):
        expected = "must return Splits(train=Split(x, y), validation=..., test=...)"
        raise ExperimentError(field, type(found).__name__, expected)
    for name in SPLITS:
        split = getattr(found, name)
        if not isinstance(split, Split):
            raise ExperimentError(f"{field}.{name}", type(split).__name__, "must be a Split(x, y)")
    return found


def check_enough(field: str, data: TrialData, folds: int | None) -> None:
    """Raise ExperimentError where nothing is left to validate on, or fewer samples than folds."""
    if folds is None and not len(data.validation):
        expected = "must hold some samples: without them no trial can be judged"
        raise ExperimentError(f"{field}.validation", "no samples", expected)
    pooled = len(data.train) + len(data.validation)
    if folds is not None and folds > pooled:
        raise ExperimentError("folds", folds, f"must be {pooled} at most, as many as there are samples")


def remarks(data: TrialData, kind: Kind, folds: int | None) -> list[str]:
    """What a person should know of data that can be trained on, and may not be what was meant."""
    y = np.asarray(data.train.y)
    found = []
    if (y == y[:1]).all():
        found.append(f"every training target is the same, {y[0].tolist()}: there is nothing to learn")
    if kind == "classification" and folds is None:
        unseen = np.setdiff1d(np.asarray(data.validation.y), y).tolist()
        if unseen:
            listed = ", ".join(map(str, unseen[:FEW])) + (", ..." if len(unseen) > FEW else "")
            classes = f"class {listed} is" if len(unseen) == 1 else f"classes {listed} are"
            found.append(f"{classes} in the validation split and in no training sample")
    return found


def _checked(field: str, split: Split, kind: Kind, *, missing_values: bool) -> Split:
    x, y = np.asarray(split.x), np.asarray(split.y)
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind not in "buif":
            expected = f"must be numbers: its dtype is {array.dtype}"
            raise ExperimentError(f"{field}.{name}", list(array.shape), expected)
    if kind == "classification":
        whole = _classes(f"{field}.y", y)
        if whole is not y:
            split = Split(split.x, whole)
    else:
        _check_finite(f"{field}.y", y, nan=False)
    _check_finite(f"{field}.x", x, nan=missing_values)
    return split


def _classes(field: str, y: Array) -> Array:
    """y, as int64 where it holds whole numbers in another type."""
    shape = list(y.shape)
    if y.ndim == 2 and y.shape[1] == 1:
        raise ExperimentError(field, shape, "must be [n], one class a sample: write y[:, 0]")
    if y.ndim == 2 and len(y) and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
        raise ExperimentError(field, shape, "looks like one-hot classes: write y.argmax(1)")
    if y.ndim != 1:
        expected = "must be [n], one class a sample: targets per token or per pixel are not scored here"
        raise ExperimentError(field, shape, f"{expected}; a function trainable can do that")
    if y.dtype.kind == "f":
        whole = np.isfinite(y) & (y == np.floor(y))
        if not whole.all():
            first = y[np.flatnonzero(~whole)[0]].item()
            expected = "classes must be whole numbers from 0; of real targets set kind = 'regression'"
            raise ExperimentError(field, first, expected)
        y = y.astype(np.int64)
    if len(y) and y.dtype.kind != "b" and y.min() < 0:
        raise ExperimentError(field, int(y.min()), "classes must count from 0; leave out samples that have none")
    return y


def _check_finite(field: str, array: Array, *, nan: bool) -> None:
    """Raise ExperimentError for values that are not finite numbers of 32 bits, which training computes in. nan: let NaN
    pass."""
    if array.dtype.kind != "f" or not array.size:
        return
    rows = max(1, CHUNK // max(1, array[0].size))
    count, first, example = 0, 0, 0.0
    for start in range(0, len(array), rows):
        with np.errstate(over="ignore"):
            values = array[start : start + rows].astype(np.float32, copy=False)
        bad = ~np.isfinite(values)
        if nan:
            bad &= ~np.isnan(values)
        if bad.any():
            if not count:
                first = start + int(np.argwhere(bad)[0][0])
                example = array[start : start + rows][bad][0].item()
            count += int(bad.sum())
    if count:
        which = f"sample {first} is the first of {count} values" if count > 1 else f"sample {first} has a value"
        expected = f"{which} that are not finite" if count > 1 else f"{which} that is not finite"
        hint = "clean them in load"
        if field.endswith(".x") and np.isnan(example):
            hint += ", or set missing_values = True on a task whose model takes NaN for a missing value"
        raise ExperimentError(field, example, f"{expected}; {hint}")
