"""y = x + 10, learned on 0..99 and tested on 100..199: does the search find the activation that extrapolates?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo import checks
from raytune_hpo.training.data import Array, Split, Splits
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    import torch

KNOWN = 100
"""The integers below it are for training and validation."""
TEST_SAMPLES = 20


def test_points() -> Array:
    """[20] float64: integers at even distances from 100 to 199, both among them."""
    return np.linspace(KNOWN, 2 * KNOWN - 1, TEST_SAMPLES).round()


@dataclass(frozen=True)
class LinearExtrapolation(Task):
    """An MLP on y = x + 10. x: [n, 1] float32; y: [n, 1] float32, both standardised; no randomness in the split.

    Of the 100 integers 0..99 the `validation_samples` largest (80..99) are for validation, the others for training:
    with validation points between the training points every activation looks alike, and only points beyond them
    reward what the test asks for, extrapolation. The test points are `test_points()`.

    x and y are standardised with mean and deviation of the training samples (0..79: 39.5 and 23.09), so that the
    RMSE is in such deviations; times 23.09 it is in units of y.
    """

    kind: ClassVar = "regression"
    target: ClassVar = "x + 10, standardised"
    exchangeable: ClassVar = False

    validation_samples: int = 20

    def check(self) -> None:
        checks.integer("task.validation_samples", self.validation_samples, 1, KNOWN - 2)

    def load(self, seed: int) -> Splits:
        self.check()
        known = np.arange(KNOWN, dtype=np.float64)
        train, validation = np.split(known, [KNOWN - self.validation_samples])

        def split(x: Array) -> Split:
            # y is x shifted, so that both have one standard form.
            standardised = ((x - train.mean()) / train.std()).astype(np.float32)[:, None]
            return Split(standardised, standardised.copy())

        return Splits(train=split(train), validation=split(validation), test=split(test_points()))

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import mlp

        return mlp(1, 1, config)
