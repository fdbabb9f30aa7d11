"""Samples that differ in length, as one array: filled up to the longest. Torch is imported where it is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def padded(sequences: Sequence[Any], value: float = 0) -> tuple[Array, Array]:
    """(array [n, T, ...], mask bool [n, T]) of n sequences [t, ...], T the longest t; the mask says where they are.

    sequences: arrays, tensors or lists, alike but for their first axis. value: what fills them up, after their end.
    Raises ValueError where they are not alike.
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("padded() takes one sequence at least")
    shapes = {array.shape[1:] for array in arrays}
    if len(shapes) > 1 or any(not array.ndim for array in arrays):
        found = " and ".join(str(list(shape)) for shape in list(dict.fromkeys(array.shape for array in arrays))[:2])
        raise ValueError(f"padded() takes sequences [t, ...] that are alike but for t; here are {found}")
    longest = max(map(len, arrays))
    filled = [array for array in arrays if array.size] or arrays  # an empty list has no type of its own
    out = np.full((len(arrays), longest, *arrays[0].shape[1:]), value, np.result_type(*{a.dtype for a in filled}))
    mask = np.zeros((len(arrays), longest), bool)
    for i, array in enumerate(arrays):
        out[i, : len(array)] = array
        mask[i, : len(array)] = True
    return out, mask


def pad_collate(samples: Sequence[Any]) -> Any:
    """A batch of samples in which sequences differ in length; for `Task.collate`.

    Each sequence of a sample (an array [t, ...] or a list) becomes a dict, {"values": [N, T, ...] filled up with 0,
    "mask": bool [N, T]}; numbers are as `default_collate` has them. Where some are to be filled up otherwise, or all
    have one length, write `collate` with `padded`.
    """
    first = samples[0]
    if isinstance(first, Mapping):
        return {key: pad_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, tuple):
        parts = [pad_collate(column) for column in zip(*samples, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    import torch
    from torch.utils.data import default_collate

    if _is_sequence(first):
        values, mask = padded(samples)
        return {"values": torch.from_numpy(values), "mask": torch.from_numpy(mask)}
    return default_collate(list(samples))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list) or bool(getattr(value, "ndim", 0))
