"""scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, 10 classes. Comes with scikit-learn.

Source: UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), its test part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.tasks.cached_arrays import cached, sklearn_version
from raytune_hpo.tasks.splits import check_fractions
from raytune_hpo.training.data import Array, Split, Splits
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.partitions import stratified_split
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    import torch

SAMPLES = 1_797
CLASSES = 10
PIXEL_MAX = 16.0


@dataclass(frozen=True)
class Digits(Task):
    """An MLP on the 8 x 8 digits. x: [n, 64] float32 in [0, 1]; y: [n] int64.

    The split is stratified by class. It depends on the seed given to `load`, which is the
    experiment's, or on `split_seed` alone where that is set: then experiments with different seeds
    share one test set. Both fractions are shares of all samples.
    """

    kind: ClassVar = "classification"

    validation_fraction: float = 0.2
    test_fraction: float = 0.2
    split_seed: int | None = None

    def check(self) -> None:
        check_fractions(self)
        for part, size in zip(("test", "validation"), self._sizes(), strict=True):
            if size < CLASSES:
                field = f"{part}_fraction"
                expected = f"must give a sample of each of the {CLASSES} classes"
                raise ExperimentError(f"task.{field}", getattr(self, field), expected)

    def _sizes(self) -> tuple[int, int]:
        """Samples for the test and for validation: rounded up, as scikit-learn does, of which these were."""
        test = math.ceil(self.test_fraction * SAMPLES)
        return test, math.ceil(self.validation_fraction / (1 - self.test_fraction) * (SAMPLES - test))

    def load(self, seed: int) -> Splits:
        self.check()
        x, y = cached("digits", sklearn_version(), _made)
        x, y = (x / PIXEL_MAX).astype(np.float32), y.astype(np.int64)
        split_seed = derive_seed(seed if self.split_seed is None else self.split_seed, "digits split")
        n_test, n_validation = self._sizes()
        rest, test = stratified_split(y, n_test, split_seed)
        train, validation = (rest[part] for part in stratified_split(y[rest], n_validation, split_seed))
        return Splits(
            train=Split(x[train], y[train]),
            validation=Split(x[validation], y[validation]),
            test=Split(x[test], y[test]),
        )

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import mlp

        return mlp(64, CLASSES, config)


def _made() -> tuple[Array, Array]:
    """pixels, 0 to 16: [1797, 64] float64, classes: [1797] int64."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x, y
