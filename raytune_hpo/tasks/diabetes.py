"""scikit-learn's diabetes: 442 patients, 10 baseline variables, the disease's progression a year later.

Source: Efron, Hastie, Johnstone & Tibshirani 2004, "Least Angle Regression". Comes with scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from raytune_hpo.tasks.cached_arrays import cached, sklearn_version
from raytune_hpo.tasks.tabular import TabularRegression
from raytune_hpo.training.data import Array


@dataclass(frozen=True)
class Diabetes(TabularRegression):
    """An MLP on diabetes. Options and shapes: `TabularRegression`.

    The targets (25 to 346, deviation 77) are standardised: an RMSE of 0.7 is 54 points of the progression score.
    """

    data_name: ClassVar = "diabetes"
    features: ClassVar = 10
    standardise_target: ClassVar = True
    target: ClassVar = "disease progression, standardised"

    def table(self) -> tuple[Array, Array]:
        x, y = cached("diabetes", sklearn_version(), _made)
        return x, y


def _made() -> tuple[Array, Array]:
    """features: [442, 10], targets: [442], float64."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return x, y
