"""scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, 10 classes. Comes with scikit-learn.

Source: UCI Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998), its test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from raytune_hpo.seeding import derive_seed
from raytune_hpo.tasks.splits import check_fractions
from raytune_hpo.training.data import Split, Splits
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    import torch

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

    def load(self, seed: int) -> Splits:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        self.check()
        x, y = load_digits(return_X_y=True)
        x, y = (x / PIXEL_MAX).astype(np.float32), y.astype(np.int64)
        split_seed = derive_seed(seed if self.split_seed is None else self.split_seed, "digits split")
        rest, test = train_test_split(
            np.arange(len(y)), test_size=self.test_fraction, stratify=y, random_state=split_seed
        )
        train, validation = train_test_split(
            rest,
            test_size=self.validation_fraction / (1 - self.test_fraction),
            stratify=y[rest],
            random_state=split_seed,
        )
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
