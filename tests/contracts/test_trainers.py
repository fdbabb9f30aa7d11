"""Every trainer of the package against the trainer contract."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from raytune_hpo.errors import ExperimentError
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space.parameters import Float
from raytune_hpo.testing.trainers import TrainerContract, epochs
from raytune_hpo.training.data import Split, Splits
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.folded import FoldedTrainer
from raytune_hpo.training.hypergradient import HypergradientTrainer
from raytune_hpo.training.hyperparameters import (
    LR_SCHEDULES,
    MLP_HYPERPARAMETERS,
    OPTIMIZERS,
    Hyperparameter,
)
from raytune_hpo.training.lanes.one_lane import OneLane
from raytune_hpo.training.models import mlp
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task
from raytune_hpo.training.trainer import SupervisedTrainer

MODEL = {"hidden_units": 12, "hidden_layers": 2, "dropout": 0.3, "batch_size": 16}


@dataclass(frozen=True)
class Blobs(Task):
    """Noisy points round three centres. The validation labels are all wrong.

    Training then makes the validation loss worse from the start, so that the plateau schedule and
    early stopping have a state worth restoring.
    """

    kind: ClassVar = "classification"
    samples: int = 57

    def load(self, seed: int) -> Splits:
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 3, self.samples)
        x = (rng.normal(size=(self.samples, 5)) + y[:, None]).astype(np.float32)
        split = Split(x, y)
        return Splits(train=split, validation=Split(x[:20], (y[:20] + 1) % 3), test=split)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return MLP_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        return mlp(5, 3, config)


@dataclass(frozen=True)
class Line(Blobs):
    """y = x . w, and its opposite for validation, as in Blobs."""

    kind: ClassVar = "regression"

    def load(self, seed: int) -> Splits:
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(self.samples, 5)).astype(np.float32)
        y = (x @ rng.normal(size=(5, 1)) + 0.1).astype(np.float32)
        return Splits(train=Split(x, y), validation=Split(x[:20], -y[:20]), test=Split(x, y))

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        return mlp(5, 1, config)


def supervised_classification() -> SupervisedTrainer:
    task = Blobs()
    return SupervisedTrainer(
        task,
        task.load(0).for_trials(),
        max_epochs=6,
        device="cpu",
        early_stopping=EarlyStopping(patience=4),
    )


def supervised_regression() -> SupervisedTrainer:
    task = Line()
    return SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=6, device="cpu")


def hypergradient() -> HypergradientTrainer:
    task = Blobs()
    return HypergradientTrainer(
        task,
        task.load(0).for_trials(),
        max_epochs=6,
        device="cpu",
        hypergradient=Hypergradient(every=8, unroll=3, validation_samples=15),
        space_parameters={
            "lr": Float(1e-4, 1.0, "log"),
            "momentum": Float(0.0, 0.95),
            "weight_decay": Float(0.0, 0.1),
            "beta1": Float(0.5, 0.95, "reverse_log"),
            "beta2": Float(0.9, 0.999, "reverse_log"),
            "label_smoothing": Float(0.0, 0.3),
        },
    )


def folded() -> FoldedTrainer:
    task = Blobs()
    recipe = Recipe(task, max_epochs=6, seed=0, folds=3)
    return FoldedTrainer([recipe.trainer(part, "cpu") for part in recipe.data(task.load(0).for_trials())])


def one_lane() -> OneLane:
    task = Blobs()
    return OneLane(task, task.load(0).for_trials(), max_epochs=6, device="cpu")


class SupervisedContract(TrainerContract):
    """What those that train a Task do besides."""

    diverging: ClassVar[dict[str, Any]]  # a config whose loss stops being finite

    def test_the_metrics_of_every_task(self) -> None:
        assert {"train_loss", "validation_loss", "lr"} <= set(epochs(self.started(), 1)[0])

    def test_leaves_the_process_random_state_alone(self) -> None:
        torch.manual_seed(5)
        random.seed(5)
        expected = torch.rand(2).tolist(), random.random()
        torch.manual_seed(5)
        random.seed(5)
        epochs(self.started(), 1)
        assert (torch.rand(2).tolist(), random.random()) == expected

    def test_restored_trial_keeps_the_hyperparameters_of_its_own_config(self) -> None:
        source = self.started({**self.some_config, "lr": 1e-2, "weight_decay": 0.1})
        epochs(source, 1)
        target = self.started({**self.some_config, "lr": 1e-4, "weight_decay": 0.0})
        target.load_state_dict(source.state_dict())
        assert epochs(target, 1)[0]["lr"] == pytest.approx(1e-4)

    def test_divergence_is_reported_as_nan(self) -> None:
        trainer = self.started(self.diverging)
        last = epochs(trainer, 3)[-1]
        assert math.isnan(last["train_loss"])
        assert math.isnan(last["validation_loss"])
        assert trainer.epoch == 3

    def test_unknown_key_is_refused_with_the_nearest_name(self) -> None:
        with pytest.raises(ExperimentError, match="did you mean 'batch_size'"):
            self.started({"batchsize": 8})


class TestSupervisedClassification(SupervisedContract):
    factory = "test_trainers:supervised_classification"
    configs: ClassVar = {
        f"{optimizer}-{schedule}": {
            **MODEL,
            "optimizer": optimizer,
            "lr_schedule": schedule,
            "lr_step_epochs": 2,
            "warmup_epochs": 1.5 if optimizer == "adamw" else 0.0,
            "nesterov": schedule == "cosine",
            "momentum": 0.8,
            "batch_norm": schedule == "step",
            "clip_norm": 0.5 if schedule == "plateau" else 0.0,
            "label_smoothing": 0.1,
        }
        for optimizer in OPTIMIZERS
        for schedule in LR_SCHEDULES
    }
    diverging: ClassVar = {**MODEL, "optimizer": "sgd", "lr": 1e30}


class TestFolded(SupervisedContract):
    factory = "test_trainers:folded"
    configs: ClassVar = {"adam": MODEL, "plateau": {**MODEL, "optimizer": "sgd", "lr_schedule": "plateau"}}
    diverging: ClassVar = {**MODEL, "optimizer": "sgd", "lr": 1e30}


class TestOneLane(SupervisedContract):
    factory = "test_trainers:one_lane"
    configs: ClassVar = {
        name: config
        for name, config in TestSupervisedClassification.configs.items()
        if name.endswith(("-plateau", "-step")) or name == "adamw-cosine"
    }
    diverging: ClassVar = {**MODEL, "optimizer": "sgd", "lr": 1e30}


class TestHypergradient(SupervisedContract):
    """Four steps an epoch: the values move in epochs 1, 3 and 5, and before the restore as after it."""

    factory = "test_trainers:hypergradient"
    configs: ClassVar = {
        f"{optimizer}-{schedule}": {
            **MODEL,
            "optimizer": optimizer,
            "lr": 0.01,
            "momentum": 0.0 if optimizer == "rmsprop" else 0.8,
            "weight_decay": 0.01,
            "beta1": 0.85,
            "beta2": 0.95,
            "label_smoothing": 0.1,
            "nesterov": True,
            "batch_norm": optimizer == "adam",
            "lr_schedule": schedule,
        }
        for optimizer, schedule in zip(OPTIMIZERS, itertools.cycle(LR_SCHEDULES), strict=False)
    }
    # The learning rate moves and could save a trial from itself; nothing saves it from this.
    diverging: ClassVar = {**MODEL, "optimizer": "sgd", "weight_decay": 1e30}


class TestSupervisedRegression(SupervisedContract):
    factory = "test_trainers:supervised_regression"
    configs: ClassVar = {"adam": MODEL, "plateau": {**MODEL, "optimizer": "sgd", "lr_schedule": "plateau"}}
    diverging: ClassVar = {**MODEL, "optimizer": "sgd", "lr": 1e30}
