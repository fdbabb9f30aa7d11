"""The order of a trial's samples: a permutation a pass, cut into batches, batches into the steps of a report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from raytune_hpo.errors import TrialError
from raytune_hpo.seeding import derive_seed

if TYPE_CHECKING:
    from raytune_hpo.training.task import Task


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
        self._generator = torch.Generator().manual_seed(seed)
        self._samples, self.used, self._batch_size, self._accumulate = samples, used, batch_size, accumulate
        self.steps_of_pass = math.ceil(math.ceil(used / batch_size) / accumulate)
        self.steps = steps or self.steps_of_pass
        self._position = 0  # steps taken of the present pass; 0: it is not begun
        self._begun = self._generator.get_state()  # before the present pass was drawn
        self._across = self.steps != self.steps_of_pass  # whether a report may end within a pass
        self._pass = torch.empty(0, dtype=torch.int64)
        batches = [min(batch_size, used - start) for start in range(0, used, batch_size)]
        self._sizes = [batches[at : at + accumulate] for at in range(0, len(batches), accumulate)]  # of a pass

    def epoch(self) -> Iterator[list[torch.Tensor]]:
        """The batches of each step of a report, int64 [N] each."""
        samples, sizes = self.report()
        batches = iter(torch.split(samples, [size for step in sizes for size in step]))
        for step in sizes:
            yield [next(batches) for _ in step]

    def report(self) -> tuple[torch.Tensor, list[list[int]]]:
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
        return torch.cat(samples), sizes

    @property
    def samples_of_report(self) -> int:
        """At most."""
        return self.steps * self._accumulate * self._batch_size

    def _draw(self) -> None:
        if self._across:
            self._begun = self._generator.get_state()
        self._pass = torch.randperm(self._samples, generator=self._generator)[: self.used]

    @property
    def position(self) -> int:
        """Steps taken of the present pass, of orders whose reports are no passes."""
        return self._position

    def state_dict(self) -> dict[str, Any]:
        if not self._position:
            return {"order": self._generator.get_state()}
        return {"order": self._begun, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError and RuntimeError for what is no state of this."""
        self._generator.set_state(state["order"].cpu())
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
) -> DataOrder:
    """The order of a trial's samples, which `seed` decides. in_batches: as of `Source`. Raises TooFewSamplesError."""
    return DataOrder(
        derive_seed(seed, "data order"),
        samples,
        used=samples if in_batches else samples_of_pass(model, samples, batch_size),
        batch_size=batch_size,
        accumulate=config["accumulate"],
        steps=task.validate_every,
    )


def samples_of_pass(model: nn.Module, samples: int, batch_size: int) -> int:
    """How many samples a pass over the data uses.

    Batch norm has no variance for one sample, so that such a last batch is left out. Raises TooFewSamplesError where
    that leaves nothing.
    """
    if samples == 0:
        raise TooFewSamplesError("there are no training samples")
    batch_norm = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    leave_out = batch_norm and (samples % batch_size == 1 or batch_size == 1)
    if leave_out and 1 in (batch_size, samples):
        raise TooFewSamplesError(
            f"{samples} training samples in batches of {batch_size}: batch norm needs 2 in a batch"
        )
    return samples - 1 if leave_out else samples
