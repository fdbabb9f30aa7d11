"""The order of a trial's samples: a permutation a pass, cut into batches, batches into the steps of a report.

A pass's permutation is a function of the trial's seed and the number of the pass (`training.counters`): it is the same
alone and as a lane of many, on each device, and nothing but that number need be kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.counters import permutation_by_numpy

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task


Samples = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class TooFewSamplesError(TrialError):
    """An epoch would have no step."""


class DataOrder:
    """samples: there are. used: of a pass, at most `samples`. batch_size: of a batch, the last of a pass may be
    smaller. accumulate: batches of an optimizer step, the last of a pass may have fewer. steps: of a report; None is
    a pass.

    A report of fewer steps than a pass has goes on where the one before ended. On the CPU whatever the device is, so
    that a trial sees the same batches everywhere.
    """

    def __init__(
        self, seed: int, samples: int, *, used: int, batch_size: int, accumulate: int = 1, steps: int | None = None
    ) -> None:
        self._seed = seed
        self._passes = 0  # drawn so far
        #: Of a trial of before orders came from counters: what its passes are drawn from.
        self._generator: torch.Generator | None = None
        self._begun: torch.Tensor | None = None  # its state before the present pass was drawn
        self._samples, self.used, self._batch_size, self._accumulate = samples, used, batch_size, accumulate
        self.steps_of_pass = math.ceil(math.ceil(used / batch_size) / accumulate)
        self.steps = steps or self.steps_of_pass
        self._position = 0  # steps taken of the present pass; 0: it is not begun
        self._across = self.steps != self.steps_of_pass  # whether a report may end within a pass
        self._pass: Samples = np.empty(0, np.int64)
        batches = [min(batch_size, used - start) for start in range(0, used, batch_size)]
        self._sizes = [batches[at : at + accumulate] for at in range(0, len(batches), accumulate)]  # of a pass

    def epoch(self) -> Iterator[list[torch.Tensor]]:
        """The batches of each step of a report, int64 [N] each."""
        samples, sizes = self.report()
        batches = iter(torch.split(torch.from_numpy(samples), [size for step in sizes for size in step]))
        for step in sizes:
            yield [next(batches) for _ in step]

    def report(self) -> tuple[Samples, list[list[int]]]:
        """The samples of a report in order, int64, and of each of its steps how many each batch takes of them."""
        if not self._position and self.steps == self.steps_of_pass:
            self._draw()
            return self._pass, self._sizes
        samples, sizes = [], []
        for _ in range(self.steps):
            if self._position == 0:
                self._draw()
            start = self._position * self._accumulate * self._batch_size
            sizes.append(self._sizes[self._position])
            samples.append(self._pass[start : start + sum(sizes[-1])])
            self._position = (self._position + 1) % self.steps_of_pass
        return np.concatenate(samples), sizes

    @property
    def samples_of_report(self) -> int:
        """At most."""
        return self.steps * self._accumulate * self._batch_size

    def _draw(self) -> None:
        if self._generator is not None:
            self._begun = self._generator.get_state()
            self._pass = torch.randperm(self._samples, generator=self._generator).numpy()[: self.used]
            return
        self._pass = permutation_by_numpy(self._seed, self._passes, self._samples)[: self.used]
        self._passes += 1

    @property
    def position(self) -> int:
        """Steps taken of the present pass, of orders whose reports are no passes."""
        return self._position

    def state_dict(self) -> dict[str, Any]:
        """`order`: the seed, which goes with a copy, and the passes before the present one, int64 [2]; or a generator's
        state, uint8."""
        began = {"position": self._position} if self._position else {}
        if self._generator is None:
            return {"order": torch.tensor([self._seed, self._passes - len(began)]), **began}
        return {"order": self._begun if began else self._generator.get_state(), **began}

    @property
    def counted(self) -> bool:
        """Whether its passes come from counters."""
        return self._generator is None

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError and RuntimeError for what is no state of this."""
        order = state["order"].cpu()
        if order.dtype == torch.int64:
            self._generator, self._seed, self._passes = None, int(order[0]), int(order[1])
        else:
            self._generator = torch.Generator()
            self._generator.set_state(order)
        position = int(state.get("position", 0)) % self.steps_of_pass
        if position:
            self._across = True  # as of a donor whose passes are of other lengths
            self._draw()
        self._position = position


def order_of(
    task: Task,
    model: nn.Module,
    batch_size: int,
    samples: int,
    config: Mapping[str, Any],
    seed: int,
    *,
    in_batches: bool = False,
    world: int = 1,
) -> DataOrder:
    """The order of a trial's samples, which `seed` decides. in_batches: as of `Source`.
    world: processes that share each batch. Raises TooFewSamplesError."""
    return DataOrder(
        derive_seed(seed, "data order"),
        samples,
        used=samples if in_batches else samples_of_pass(model, samples, batch_size, world),
        batch_size=batch_size,
        accumulate=config["accumulate"],
        steps=task.validate_every,
    )


def samples_of_pass(model: nn.Module, samples: int, batch_size: int, world: int = 1) -> int:
    """How many samples a pass over the data uses. world: processes that share each batch.

    Batch norm has no variance for one sample, so that a last batch that gives a process one is left out. Raises
    TooFewSamplesError where that leaves nothing.
    """
    if samples == 0:
        raise TooFewSamplesError("there are no training samples")
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
        return samples
    fewest, last = 2 * world, samples % batch_size
    if min(samples, batch_size) < fewest:
        shared = f", which {world} processes share" if world > 1 else ""
        raise TooFewSamplesError(
            f"{samples} training samples in batches of {batch_size}{shared}: batch norm needs {fewest} in a batch"
        )
    return samples - last if 0 < last < fewest else samples
