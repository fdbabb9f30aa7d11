"""Which numbers a model draws: of its trial and the step in training, of the batch alone where it is measured.

Every model draws from counters (`counted_draws`), in the trainer of one trial and in lanes alike; for a chain of known
layers (`lanes.structure`) without dropout there is nothing to draw.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.training.counters import Stream, key_of, words_of

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task

#: Samples per pass of an evaluation of a model that counts: what it draws is of a batch and its elements.
COUNTED_BATCH = 256
#: The same for all trials and epochs: a model that draws where it is measured is measured with the same numbers.
MEASURED = key_of(0, "measured")


def counts(task: Task, model: nn.Module) -> bool:
    """Whether a task's model draws from counters by whatever operation it likes, within `drawing`."""
    return task.has_own_batches or task.has_own_step or not is_chain(model)


def dropouts_of(task: Task, model: nn.Module) -> list[nn.Dropout]:
    """What a model draws by that needs no `counted`: of a chain its dropouts, in order."""
    if task.has_own_batches or task.has_own_step or not is_chain(model):
        return []
    return [module for module in model.modules() if isinstance(module, nn.Dropout)]


class masking:  # noqa: N801  (read as a statement: with masking(dropouts, key, step))
    """Within it the dropouts of a chain draw what they would within `counted`, and torch knows nothing of it."""

    def __init__(self, dropouts: Sequence[nn.Dropout], key: int, step: int) -> None:
        self._drawing = [module for module in dropouts if module.training and 0 < module.p < 1]
        self._key, self._step = key, step

    def __enter__(self) -> None:
        words = words_of(self._key, self._step, 0, len(self._drawing))
        for module, own in zip(self._drawing, words, strict=True):
            vars(module)["forward"] = functools.partial(_masked, own, module.p)

    def __exit__(self, *_: object) -> None:
        for module in self._drawing:
            del vars(module)["forward"]


def _masked(words: torch.Tensor, rate: float, x: torch.Tensor) -> torch.Tensor:
    keep = Stream(words.to(x.device)).bernoulli(1 - rate, x.shape).to(x.dtype)
    return x * keep.div_(1 - rate)


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
