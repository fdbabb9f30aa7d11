"""Regression on a table of numbers: what diabetes and California housing share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.seeding import generator
from raytune_hpo.tasks.splits import check_fractions
from raytune_hpo.training.data import Array, Split, Splits
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TabularRegression(Task):
    """An MLP on a table. x: [n, features] float32; y: [n, 1] float32.

    Features have mean 0 and deviation 1 over the training samples; so have the targets of tasks that say so
    (`standardise_target`), whose RMSE is then in these deviations, and sqrt(1 - R^2). The split is random; it
    depends on the seed given to `load`, which is the experiment's, or on `split_seed` alone where that is set.
    Both fractions are shares of all samples.
    """

    kind: ClassVar = "regression"
    data_name: ClassVar[str]
    features: ClassVar[int]
    standardise_target: ClassVar[bool]

    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    split_seed: int | None = None

    def check(self) -> None:
        check_fractions(self)

    @abstractmethod
    def table(self) -> tuple[Array, Array]:
        """features: [n, features], targets: [n]. Raises ExperimentError where the data cannot be had."""

    def load(self, seed: int) -> Splits:
        self.check()
        x, y = self.table()
        y = y[:, None]
        n = len(x)
        split_seed = seed if self.split_seed is None else self.split_seed
        order = generator(split_seed, f"{self.data_name} split").permutation(n)
        n_test, n_validation = (max(1, round(n * share)) for share in (self.test_fraction, self.validation_fraction))
        test, validation, train = np.split(order, [n_test, n_test + n_validation])
        x = _standardised(x, train)
        if self.standardise_target:
            y = _standardised(y, train)
        parts = (Split(x[rows].astype(np.float32), y[rows].astype(np.float32)) for rows in (train, validation, test))
        return Splits(next(parts), next(parts), next(parts))

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import mlp

        return mlp(self.features, 1, config)


def _standardised(columns: Array, train: Array) -> Array:
    """columns: [n, d], each moved to mean 0 and deviation 1 over the rows `train`; a constant column to 0."""
    deviation = columns[train].std(axis=0)
    standardised: Array = (columns - columns[train].mean(axis=0)) / np.where(deviation == 0, 1.0, deviation)
    return standardised
