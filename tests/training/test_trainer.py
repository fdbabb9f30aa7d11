"""What is particular to SupervisedTrainer; what every trainer does is in tests/contracts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.data import Array, Split, Splits, TrialData
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.evaluation import evaluate
from raytune_hpo.training.hyperparameters import MLP_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.models import mlp
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer, fit


@dataclass(frozen=True)
class Toy(Task):
    kind: ClassVar[Literal["classification", "regression"]] = "classification"
    outputs: int = 2

    def load(self, seed: int) -> Splits:
        raise NotImplementedError

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        return mlp(4, self.outputs, config)


@dataclass(frozen=True)
class ToyRegression(Toy):
    kind: ClassVar[Literal["classification", "regression"]] = "regression"
    outputs: int = 1


def features(n: int = 33) -> Array:
    return np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)


def classes(x: Array) -> Array:
    labels: Array = (x[:, 0] > 0).astype(np.int64)
    return labels


def data_of(x: Array, y: Array) -> TrialData:
    return TrialData(train=Split(x, y), validation=Split(x, y))


def trainer_for(config: dict[str, Any], data: TrialData | None = None, **options: Any) -> SupervisedTrainer:
    x = features()
    options = {"max_epochs": 5, "device": "cpu", **options}
    trainer = SupervisedTrainer(Toy(), data or data_of(x, classes(x)), **options)
    trainer.setup(config, 1)
    return trainer


def test_it_learns() -> None:
    trainer = trainer_for({"lr": 0.02, "batch_size": 8}, max_epochs=30)
    metrics = list(fit(trainer, 30))
    assert len(metrics) == 30
    assert metrics[-1]["validation_accuracy"] > 0.95
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"] / 2
    assert list(fit(trainer, 30)) == []


@pytest.mark.parametrize("how", ["read-only", "memory map", "float64", "strided", "big-endian"])
def test_data_of_every_kind_are_read_and_not_written(how: str, tmp_path: Path) -> None:
    x = features()
    y = classes(x)
    expected = list(fit(trainer_for({}, data_of(x, y)), 2))
    if how == "read-only":
        given = x.copy()
        given.flags.writeable = False
        y.flags.writeable = False
    elif how == "memory map":
        np.save(tmp_path / "x.npy", x)
        given = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif how == "float64":
        given = x.astype(np.float64)
    elif how == "strided":
        given = np.repeat(x, 2, axis=0)[::2]
    else:
        given = x.astype(">f4")
    before = given.copy()
    assert list(fit(trainer_for({}, data_of(given, y)), 2)) == expected
    np.testing.assert_array_equal(given, before)


def test_a_model_that_works_in_place_does_not_reach_the_data() -> None:
    class InPlace(Toy):
        def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
            return torch.nn.Sequential(torch.nn.ReLU(inplace=True), mlp(4, 2, config))

    x = features()
    before = x.copy()
    trainer = SupervisedTrainer(InPlace(), data_of(x, classes(x)), max_epochs=2, device="cpu")
    trainer.setup({}, 1)
    trainer.train_epoch()
    np.testing.assert_array_equal(x, before)


def test_train_loss_is_the_mean_over_samples_not_over_batches() -> None:
    """33 samples in batches of 32, with a learning rate too small to change the model."""
    x = features(33)
    trainer = trainer_for({"lr": 1e-12, "optimizer": "sgd", "batch_size": 32}, data_of(x, classes(x)))
    metrics = trainer.train_epoch()
    assert metrics["train_loss"] == pytest.approx(metrics["validation_loss"], rel=1e-5)


def test_batch_norm_leaves_out_a_last_batch_of_one() -> None:
    trainer = trainer_for({"batch_norm": True, "batch_size": 32})  # 33 samples
    assert math.isfinite(trainer.train_epoch()["train_loss"])
    with pytest.raises(TrialError, match="batch norm"):
        trainer_for({"batch_norm": True, "batch_size": 1})


def test_divergence_ends_the_epoch_early(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(400)
    trainer = trainer_for({"lr": 1e30, "optimizer": "sgd", "batch_size": 1}, data_of(x, classes(x)))
    steps = 0
    real = trainer._train_step

    def counted(*args: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        return real(*args)

    monkeypatch.setattr(trainer, "_train_step", counted)
    metrics = trainer.train_epoch()
    assert steps < 100
    assert math.isnan(metrics["train_loss"])
    assert math.isnan(metrics["validation_accuracy"])
    assert math.isfinite(metrics["lr"])


def test_clipping_bounds_the_step() -> None:
    trainer = trainer_for({"optimizer": "sgd", "momentum": 0.0, "lr": 1.0, "clip_norm": 1e-3, "batch_size": 33})
    before = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach().clone()
    trainer.train_epoch()
    after = torch.nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_own_early_stopping_ends_fit_and_survives_a_restore() -> None:
    frozen = {"lr": 1e-30, "optimizer": "sgd"}
    options = {"max_epochs": 20, "early_stopping": EarlyStopping(patience=3)}
    assert len(list(fit(trainer_for(frozen, **options), 20))) == 4
    first = trainer_for(frozen, **options)
    for _ in range(3):
        first.train_epoch()
    second = trainer_for(frozen, **options)
    second.load_state_dict(first.state_dict())
    assert len(list(fit(second, 20))) == 1
    assert second.should_stop


def test_fit_stops_by_its_own_argument() -> None:
    trainer = trainer_for({"lr": 1e-30, "optimizer": "sgd"})
    assert len(list(fit(trainer, 20, EarlyStopping(patience=2)))) == 3


def test_early_stopping_on_an_unknown_metric_says_what_there_is() -> None:
    trainer = trainer_for({}, early_stopping=EarlyStopping(1, metric="accuracy"))
    with pytest.raises(TrialError, match="validation_accuracy"):
        trainer.train_epoch()


def test_a_state_of_another_model_is_refused() -> None:
    state = trainer_for({"hidden_units": 8}).state_dict()
    with pytest.raises(TrialError, match="does not fit"):
        trainer_for({"hidden_units": 9}).load_state_dict(state)


def test_another_optimizer_takes_the_weights_and_starts_with_fresh_moments() -> None:
    source = trainer_for({"optimizer": "adam"})
    source.train_epoch()
    target = trainer_for({"optimizer": "sgd"})
    target.load_state_dict(source.state_dict())
    assert target.optimizer.state_dict()["state"] == {}
    target.train_epoch()
    assert target.epoch == 2


def test_regression_of_flat_targets() -> None:
    """y: [n] must not broadcast against outputs of [n, 1]."""
    x = features(64)
    y = (x @ np.array([1.0, -2.0, 0.5, 0.0])).astype(np.float32)
    trainer = SupervisedTrainer(ToyRegression(), data_of(x, y), max_epochs=60, device="cpu")
    trainer.setup({"activation": "linear", "lr": 0.02, "batch_size": 16}, 1)
    last = list(fit(trainer, 60))[-1]
    assert last["validation_rmse"] < 1e-2
    assert last["validation_rmse"] == pytest.approx(math.sqrt(last["validation_loss"]))


@pytest.mark.parametrize("batch", [1, 7, 4096])
def test_evaluate_agrees_with_the_definition(batch: int) -> None:
    x = features()
    y = classes(x)
    model = mlp(4, 2, {"dropout": 0.5})
    found = evaluate(model, Split(x, y), Toy(), batch)
    assert model.training  # left as it was
    with torch.no_grad():
        log_p = torch.log_softmax(model.eval()(torch.tensor(x)), 1).numpy()
    assert found["loss"] == pytest.approx(-log_p[np.arange(len(y)), y].mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((log_p.argmax(1) == y).mean())
    assert list(found) == ["loss", "accuracy"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_mixed_precision_on_a_gpu(precision: str) -> None:
    config = {"precision": precision, "clip_norm": 1.0, "lr": 0.02, "batch_size": 8, "dropout": 0.1}
    trainer = trainer_for(config, device="cuda")
    metrics = list(fit(trainer, 20))
    assert metrics[-1]["validation_accuracy"] > 0.9
    restored = trainer_for(config, device="cuda")
    restored.load_state_dict(trainer.state_dict())
    assert restored.train_epoch()["train_loss"] == pytest.approx(trainer.train_epoch()["train_loss"], rel=1e-2)
