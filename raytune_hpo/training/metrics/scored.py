"""Which targets count, and what shapes a metric takes. -100 is torch's `ignore_index`: padding, a pixel of no class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from raytune_hpo.errors import TrialError

if TYPE_CHECKING:
    from torch import Tensor

    from raytune_hpo.training.data import Array

NOT_SCORED = -100


def is_of_classes(outputs: Tensor, targets: Tensor) -> bool:
    """Whether a target is a class, outputs [*, N, C] for [*, N]; otherwise numbers or labels of the outputs' shape."""
    return outputs.ndim == targets.ndim + 1 and not targets.is_floating_point()


def check_classes(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Raise TrialError for a metric of classes that is asked of anything else."""
    if not is_of_classes(outputs, targets):
        wanted = "takes one class a target: outputs [N, C] for targets [N], or [N, C, ...] for [N, ...]"
        raise TrialError(f"metric {name} {wanted}; found {list(outputs.shape)} for {list(targets.shape)}")


def check_alike(name: str, outputs: Tensor, targets: Tensor) -> None:
    """Raise TrialError for a metric of numbers or labels that is asked of anything else: it would broadcast."""
    if outputs.shape != targets.shape:
        wanted = "takes targets of the outputs' shape"
        raise TrialError(f"metric {name} {wanted}; found {list(outputs.shape)} for {list(targets.shape)}")


def class_counts(train: Array, validation: Array) -> tuple[Array, Array] | None:
    """[classes] each: how often a class is in `train` and in `validation`, of those that are scored; None of none."""
    kept = [y[y != NOT_SCORED].astype(np.int64) for y in map(np.asarray, (train, validation))]
    if not len(kept[0]) or not len(kept[1]):
        return None
    classes = int(max(y.max() for y in kept)) + 1
    found, held_out = (np.bincount(y, minlength=classes) for y in kept)
    return found, held_out


def label_counts(y: Array) -> tuple[Array, Array]:
    """[n, ...] labels -> [...] each: how many are yes, and how many are scored."""
    y = np.asarray(y)
    return (y > 0).sum(0), (y != NOT_SCORED).sum(0)
