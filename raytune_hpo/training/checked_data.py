"""The checks of what a task's `load` answers: before anything trains, and each a line that names the array.

What cannot be trained or measured is refused. What can, and is likely not meant, is said (`remarks`). Values that are
not finite are refused: one of them in a batch makes its loss NaN, so that every trial would diverge at some step with
no word of the reason. (Where NaN is a missing value that the model knows, the task says so: `Task.missing_values`.)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.data import (
    STREAMED,
    AnySplit,
    Array,
    ArraySplit,
    DatasetSplit,
    Kind,
    Split,
    Splits,
    Stream,
    TrialData,
)
from raytune_hpo.training.file_arrays import FILE_GONE, files_of, gathered, lies_in_file
from raytune_hpo.training.metrics import NOT_SCORED
from raytune_hpo.training.resampling import can_be_pooled
from raytune_hpo.training.trees import mapped, paths

SPLITS = ("train", "validation", "test")
CHUNK = 1 << 20  # numbers that are looked at at a time
FEW = 8  # classes that are listed
ENDS = 16  # rows at either end of an array in a file that are looked at
SMALL = 16 << 20  # bytes: targets in a file are read whole up to here, so that classes can be counted


def checked_splits(field: str, found: Any, kind: Kind, *, missing_values: bool) -> Splits:
    """`found` with classes as integers. field: whose answer it is, as errors name it.

    Of arrays that lie in files the first and the last rows are looked at. An empty validation split is the caller's to
    judge: cross-validation can do without. Raises ExperimentError.
    """
    splits = check_type(field, found)
    if not len(splits.train):
        raise ExperimentError(f"{field}.train", "no samples", "must hold some: there is nothing to train on")
    checked = {
        name: _checked(f"{field}.{name}", getattr(splits, name), kind, missing_values=missing_values) for name in SPLITS
    }
    for name in SPLITS[1:]:
        if len(checked[name]):
            _check_alike(f"{field}.{name}", checked["train"], checked[name])
    return replace(splits, **checked)


def check_type(field: str, found: Any) -> Splits:
    """Raise ExperimentError for anything but Splits of splits."""
    if not isinstance(found, Splits):
        expected = "must return Splits(train=Split(x, y), validation=..., test=...)"
        raise ExperimentError(field, type(found).__name__, expected)
    for name in SPLITS:
        split = getattr(found, name)
        if not isinstance(split, AnySplit):
            expected = "must be a Split(x, y), a dict or tuple of arrays, a map-style data set or a Stream" + _instead(
                split
            )
            raise ExperimentError(f"{field}.{name}", type(split).__name__, expected)
        if isinstance(split, Stream):
            checks.integer(f"{field}.{name}.steps", split.steps, 0 if name == "test" else 1)
            if split.batch_size is not None:
                checks.integer(f"{field}.{name}.batch_size", split.batch_size, 1)
            if not callable(split.make):
                expected = "must be a function of a seed that answers an iterable of batches"
                raise ExperimentError(f"{field}.{name}.make", split.make, expected)
    return found


def _instead(split: Any) -> str:
    """What is to be given in place of an object of torch's; told by names, since torch is not imported here."""
    names = {cls.__name__ for cls in type(split).__mro__ if cls.__module__.startswith("torch.utils.data")}
    if "DataLoader" in names:
        return "; give its data set: batch_size is a hyperparameter, collate a method"
    return "; of samples in a stream make batches: Stream(make, steps)" if "IterableDataset" in names else ""


def _check_alike(field: str, train: Any, split: Any) -> None:
    """Raise ExperimentError where a split's samples have another form than those of the training split."""
    if type(train) is not type(split) or not isinstance(train, ArraySplit):
        return
    own, other = (dict(paths(s.tree)) for s in (train, split))
    if own.keys() != other.keys():
        more = sorted(own.keys() ^ other.keys())[0]
        missing = "is missing here" if more in own else "is not in the training split"
        raise ExperimentError(f"{field}{more}", sorted(other), f"as the training split: {more} {missing}")
    for path, array in own.items():
        shape, found = list(array.shape[1:]), list(other[path].shape[1:])
        if shape != found:
            expected = f"must be {['n', *shape]} as of the training split".replace("'", "")
            raise ExperimentError(f"{field}{path}", list(other[path].shape), expected)
        if array.dtype.kind != other[path].dtype.kind:
            expected = f"must be of the training split's type, {array.dtype}"
            raise ExperimentError(f"{field}{path}", str(other[path].dtype), expected)


def check_enough(field: str, data: TrialData, folds: int | None) -> None:
    """Raise ExperimentError where nothing is left to validate on, or fewer samples than folds."""
    if folds is None and not len(data.validation):
        expected = "must hold some samples: without them no trial can be judged"
        raise ExperimentError(f"{field}.validation", "no samples", expected)
    pooled = len(data.train) + len(data.validation)
    if folds is not None and folds > pooled:
        raise ExperimentError("folds", folds, f"must be {pooled} at most, as many as there are samples")


def check_streamed(data: TrialData, folds: int | None, executor: str, *, hypergradient: bool, ranks: int = 1) -> None:
    """Raise ExperimentError where data that are read in a stream do not serve what the experiment asks for."""
    if folds is not None and not can_be_pooled(data):
        forms = f"{type(data.train).__name__} and {type(data.validation).__name__}"
        expected = f"divide what training and validation data are together, and {forms} are not of one form"
        raise ExperimentError("folds", folds, expected)
    if isinstance(data.train, ArraySplit) and isinstance(data.validation, ArraySplit):
        return
    if ranks > 1 and isinstance(data.train, Stream):
        expected = "shares each batch among its processes, and a Stream's are whole: give a data set of samples"
        raise ExperimentError("resources.strategy", "ddp", expected)
    if executor == "lanes":
        raise ExperimentError("executor", "lanes", f"{STREAMED}; use processes or auto")
    if hypergradient:
        expected = "draws samples of its own, and these data are read in a stream: it needs them in memory"
        raise ExperimentError("hypergradient", "given", expected)


def remarks(data: TrialData, kind: Kind, folds: int | None) -> list[str]:
    """What a person should know of data that can be trained on, and may not be what was meant."""
    found = []
    why = {name: split.streamed for name in SPLITS[:2] if isinstance(split := getattr(data, name), DatasetSplit)}
    for text in dict.fromkeys(text for text in why.values() if text is not None):
        found.append(f"{' and '.join(name for name in why if why[name] == text)}: {text}")
    y = _whole_targets(data.train)
    if y is None:
        return found
    if (y == y[:1]).all():
        found.append(f"every training target is the same, {y[0].tolist()}: there is nothing to learn")
    validation = _whole_targets(data.validation)
    if kind == "classification" and folds is None and validation is not None:
        unseen = np.setdiff1d(np.setdiff1d(validation, [NOT_SCORED]), y).tolist()
        if unseen:
            listed = ", ".join(map(str, unseen[:FEW])) + (", ..." if len(unseen) > FEW else "")
            classes = f"class {listed} is" if len(unseen) == 1 else f"classes {listed} are"
            found.append(f"{classes} in the validation split and in no training sample")
    return found


def _whole_targets(split: Any) -> Array | None:
    y = split.y if isinstance(split, Split) else None
    return y if isinstance(y, np.ndarray) and not lies_in_file(y) else None


def _checked(field: str, split: Any, kind: Kind, *, missing_values: bool) -> Any:
    if not isinstance(split, ArraySplit):
        return split
    for path, array in paths(split.tree):
        if array.dtype.kind not in "buif":
            expected = f"must be numbers: its dtype is {array.dtype}"
            if path == ".y" and kind == "classification":
                expected += "; of names np.unique(y, return_inverse=True)[1] makes classes"
            raise ExperimentError(f"{field}{path}", list(array.shape), expected)
        nan = missing_values and path != ".y"
        if not lies_in_file(array):
            _check_finite(f"{field}{path}", array, nan=nan)
            continue
        for file in files_of(array):
            if not Path(file).is_file():
                raise ExperimentError(f"{field}{path}", file, FILE_GONE)
        for start in sorted({0, max(0, len(array) - ENDS)}):
            rows = np.arange(start, min(start + ENDS, len(array)))
            _check_finite(f"{field}{path}", gathered(array, rows), nan=nan, first_row=start)
    split = _with_whole_arrays(split)
    if isinstance(split, Split) and (lies_in_file(split.y) and split.y.nbytes <= SMALL):
        split = replace(split, y=np.ascontiguousarray(split.y[np.arange(len(split.y))]))
    if isinstance(split, Split) and isinstance(split.y, np.ndarray) and not lies_in_file(split.y):
        y = _targets(f"{field}.y", split.y, kind)
        return split if y is split.y else replace(split, y=y)
    if isinstance(split, Split) and split.y is None and kind != "other":
        raise ExperimentError(f"{field}.y", None, f"must be targets of kind = {kind!r}; without any, kind = 'other'")
    return split


def _with_whole_arrays(split: ArraySplit) -> ArraySplit:
    """Arrays in memory as they can be shared between processes: each in one piece."""
    if all(lies_in_file(leaf) or leaf.flags.c_contiguous for _, leaf in paths(split.tree)):
        return split
    tree = mapped(lambda leaf: leaf if lies_in_file(leaf) else np.ascontiguousarray(leaf), split.tree)
    changed = {"x": tree[0], "y": tree[1]} if isinstance(split, Split) else {"tree": tree}
    return replace(split, **changed)  # type: ignore[type-var]  # each kind is a dataclass


def _targets(field: str, y: Array, kind: Kind) -> Array:
    if kind == "classification":
        return _classes(field, y)
    if kind == "multilabel":
        if y.ndim != 2:
            raise ExperimentError(field, list(y.shape), "must be [n, K], a 0 or 1 for each of K labels")
        if not ((y == 0) | (y == 1)).all():
            first = y[(y != 0) & (y != 1)][0].item()
            raise ExperimentError(field, first, "labels must be 0 or 1")
    return y


def _classes(field: str, y: Array) -> Array:
    """y, as int64 where it holds whole numbers in another type."""
    shape = list(y.shape)
    if y.ndim == 2 and y.shape[1] == 1:
        raise ExperimentError(field, shape, "must be [n], one class a sample: write y[:, 0]")
    if y.ndim == 2 and y.shape[1] > 1 and len(y) > 1 and ((y == 0) | (y == 1)).all() and (y.sum(1) == 1).all():
        expected = "looks like one-hot classes: write y.argmax(1); of several labels a sample set kind = 'multilabel'"
        raise ExperimentError(field, shape, expected)
    if y.dtype.kind == "f":
        whole = np.isfinite(y) & (y == np.floor(y))
        if not whole.all():
            first = y[~whole][0].item()
            expected = "classes must be whole numbers from 0; of real targets set kind = 'regression'"
            raise ExperimentError(field, first, expected)
        y = y.astype(np.int64)
    if y.size and y.dtype.kind == "i":
        wrong = y[(y < 0) & ((y != NOT_SCORED) | (y.ndim == 1))]
        if wrong.size:
            hint = "leave out samples that have none" if y.ndim == 1 else f"a place that has none is {NOT_SCORED}"
            raise ExperimentError(field, int(wrong.min()), f"classes must count from 0; {hint}")
    return y


def _check_finite(field: str, array: Array, *, nan: bool, first_row: int = 0) -> None:
    """Raise ExperimentError for values that are not finite numbers of 32 bits, which training computes in. nan: let NaN
    pass. first_row: the number of the array's first sample."""
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
                first = first_row + start + int(np.argwhere(bad)[0][0])
                example = array[start : start + rows][bad][0].item()
            count += int(bad.sum())
    if count:
        which = f"sample {first} is the first of {count} values" if count > 1 else f"sample {first} has a value"
        expected = f"{which} that are not finite" if count > 1 else f"{which} that is not finite"
        hint = "clean them in load"
        if not field.endswith(".y") and np.isnan(example):
            hint += ", or set missing_values = True on a task whose model takes NaN for a missing value"
        raise ExperimentError(field, example, f"{expected}; {hint}")
