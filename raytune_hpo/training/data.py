"""The data of a task: its splits, and what of them a trial may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Kind = Literal["classification", "regression"]


@dataclass(frozen=True)
class Split:
    """Samples of one split. x: [n, ...] features; y: [n] int64 classes or [n, d] float32 targets."""

    x: Array
    y: Array

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} samples and y has {len(self.y)}")

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class TrialData:
    """What a trial may see: training and validation data."""

    train: Split
    validation: Split


@dataclass(frozen=True)
class Splits:
    """The three splits. The test split never leaves the process that loaded it (see results.winner)."""

    train: Split
    validation: Split
    test: Split

    def for_trials(self) -> TrialData:
        return TrialData(train=self.train, validation=self.validation)
