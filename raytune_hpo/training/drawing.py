"""Which numbers a model draws: of its trial and the step in training, of the batch alone where it is measured.

Every model draws from counters (`counted_draws`), in the trainer of one trial and in lanes alike; for a chain of known
layers (`lanes.structure`) without dropout there is nothing to draw.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.training.counters import key_of

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

#: Samples per pass of an evaluation of a model that counts: what it draws is of a batch and its elements.
COUNTED_BATCH = 256
#: The same for all trials and epochs: a model that draws where it is measured is measured with the same numbers.
MEASURED = key_of(0, "measured")


def counts(task: Task, model: nn.Module) -> bool:
    """Whether a task's model draws from counters."""
    if task.has_own_batches or task.has_own_step or not is_chain(model):
        return True
    return any(isinstance(module, nn.Dropout) for module in model.modules())


def is_chain(model: nn.Module) -> bool:
    """See `lanes.structure`, which is imported late: a process that trains none needs none of it."""
    from raytune_hpo.training.lanes.structure import is_chain as asked

    return asked(model)


def training_key(seed: int) -> int:
    return key_of(seed, "model")


def step_number(epoch: int, batch: int) -> int:
    """Of a batch of an epoch, both from 0."""
    return epoch << 32 | batch


def drawing(
    key: int | torch.Tensor, step: int | torch.Tensor, *, counting: bool
) -> contextlib.AbstractContextManager[Any]:
    """The context of a pass."""
    if not counting:
        return contextlib.nullcontext()
    from raytune_hpo.training.counted_draws import counted  # most runs of chains need none

    return counted(key, step)
