from __future__ import annotations

import numpy as np
import pytest

from raytune_hpo import Experiment, Float
from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import LinearExtrapolation
from raytune_hpo.tasks.linear import test_points as points
from raytune_hpo.training.trainer import SupervisedTrainer, evaluate, fit

MEAN, DEVIATION = 39.5, float(np.std(np.arange(80)))


def test_the_points_and_their_standard_form() -> None:
    splits = LinearExtrapolation().load(3)
    back = [(s.x * DEVIATION + MEAN).ravel() for s in (splits.train, splits.validation, splits.test)]
    np.testing.assert_allclose(back[0], np.arange(80), atol=1e-4)
    np.testing.assert_allclose(back[1], np.arange(80, 100), atol=1e-4)
    assert (len(back[2]), round(back[2].min()), round(back[2].max())) == (20, 100, 199)
    np.testing.assert_allclose(back[2], points(), atol=1e-4)
    assert np.ptp(np.diff(points())) <= 1
    for split in (splits.train, splits.validation, splits.test):
        assert split.x.dtype == split.y.dtype == np.float32
        # y has the deviation of x, and a mean 10 higher.
        np.testing.assert_allclose(split.y * DEVIATION + MEAN + 10, split.x * DEVIATION + MEAN + 10)


def rmse(activation: str) -> tuple[float, float]:
    """Of the validation and the test points, after the handbook's training: 16 units, Adam 0.01, 100 epochs."""
    task = LinearExtrapolation()
    splits = task.load(0)
    trainer = SupervisedTrainer(task, splits.for_trials(), max_epochs=100, device="cpu")
    config = {"hidden_units": 16, "lr": 0.01, "batch_size": 16, "activation": activation, "lr_schedule": "cosine"}
    trainer.setup(config, 1)
    *_, last = fit(trainer, 100)
    return last["validation_rmse"], evaluate(trainer.model, splits.test, trainer.task)["rmse"]


def test_only_the_linear_activation_extrapolates_and_validation_tells() -> None:
    found = {name: rmse(name) for name in ("linear", "relu", "tanh")}
    assert found["linear"][1] < 1e-3
    assert min(found, key=lambda name: found[name][0]) == "linear"
    for name in ("relu", "tanh"):
        assert found[name][1] > 10 * found["linear"][1]


def test_what_it_refuses() -> None:
    for samples in (0, 99):
        with pytest.raises(ExperimentError, match=r"task\.validation_samples"):
            LinearExtrapolation(validation_samples=samples).check()
    with pytest.raises(ExperimentError, match="folds"):  # a fold would validate between its training points
        Experiment(name="x", task="linear", space={"lr": Float(1e-3, 1e-1, "log")}, folds=5)
