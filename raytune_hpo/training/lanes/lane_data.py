"""What the lanes of a task are trained on and measured by."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from raytune_hpo.training.batches import ArraySource
from raytune_hpo.training.criterion import Criterion
from raytune_hpo.training.lanes.program import ChainProgram, OwnProgram, Program
from raytune_hpo.training.lanes.structure import Structure
from raytune_hpo.training.losses import has_unscored


@dataclass(frozen=True)
class LaneData:
    """whole: the task's own functions compare models with the data, or these are no tensors x and y."""

    train: ArraySource
    validation: ArraySource
    criterion: Criterion
    whole: bool

    def program(self, structure: Structure) -> Program:
        kind = OwnProgram if self.whole else ChainProgram
        return kind(structure, self.criterion, unscored=self.unscored)

    @functools.cached_property
    def unscored(self) -> bool:
        """Whether training targets hold classes that are not scored; of the task's own they may."""
        if self.criterion.task.kind != "classification":
            return False
        return self.whole or any(has_unscored(y) for y in self.train.targets())
