"""Folds and fresh splits: nothing lost, nothing leaked, classes in proportion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from raytune_hpo import Experiment, ExperimentError, Float
from raytune_hpo.tasks import Digits
from raytune_hpo.training.data import Split, Splits, TrialData
from raytune_hpo.training.folded import FoldedTrainer
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.resampling import fold_data, pooled, resplit
from raytune_hpo.training.task import Task


@pytest.fixture(scope="module")
def splits() -> Splits:
    return Digits().load(0)


@pytest.fixture(scope="module")
def data(splits: Splits) -> TrialData:
    return splits.for_trials()


def rows(split: Split) -> set[bytes]:
    return {row.tobytes() for row in split.x}


def test_every_sample_is_validated_on_once_and_the_test_split_never(splits: Splits, data: TrialData) -> None:
    folds = fold_data(Digits(), data, 5, seed=1)
    everything = pooled(data)
    assert sum(len(f.validation) for f in folds) == len(everything)
    assert set().union(*(rows(f.validation) for f in folds)) == rows(everything)
    for fold in folds:
        assert len(fold.train) + len(fold.validation) == len(everything)
        assert not rows(fold.train) & rows(fold.validation)
        assert not (rows(fold.train) | rows(fold.validation)) & rows(splits.test)


def test_classes_keep_their_shares_in_every_fold(data: TrialData) -> None:
    share = np.bincount(pooled(data).y) / len(pooled(data))
    for fold in fold_data(Digits(), data, 5, seed=1):
        counts = np.bincount(fold.validation.y)
        assert np.abs(counts - share * len(fold.validation)).max() <= 1.01


def test_a_fresh_split_has_the_old_sizes_and_its_own_samples(data: TrialData) -> None:
    one, other, again = (resplit(Digits(), data, seed) for seed in (1, 2, 1))
    assert (len(one.train), len(one.validation)) == (len(data.train), len(data.validation))
    assert rows(one.validation) == rows(again.validation)
    assert rows(one.validation) != rows(other.validation)
    assert rows(one.train) | rows(one.validation) == rows(pooled(data))


@dataclass(frozen=True)
class Rare(Task):
    """A class with a single sample, which no stratified split can share out."""

    kind: ClassVar = "classification"

    def load(self, seed: int) -> Splits:
        raise NotImplementedError

    def build_model(self, config: Any) -> torch.nn.Module:
        raise NotImplementedError


def test_a_class_too_rare_to_be_stratified_is_split_at_random() -> None:
    x = np.arange(20, dtype=np.float32)[:, None]
    data = TrialData(Split(x[:15], np.array([0] * 14 + [1])), Split(x[15:], np.zeros(5, dtype=np.int64)))
    assert len(fold_data(Rare(), data, 4, seed=0)) == 4
    assert len(resplit(Rare(), data, 0).validation) == 5


@dataclass(frozen=True)
class Chosen(Digits):
    """Validation samples that are chosen, not drawn."""

    exchangeable: ClassVar[bool] = False


def test_chosen_validation_samples_stay(data: TrialData) -> None:
    recipe = Recipe(Chosen(), max_epochs=1, seed=0)
    assert recipe.data(data, repeat=3)[0] is data
    with pytest.raises(ExperimentError, match="folds"):
        Experiment(name="x", task=Chosen(), space={"lr": Float(0.1, 1.0)}, folds=5)
    for wrong in (1, 0, 2.5, "five"):
        with pytest.raises(ExperimentError, match="folds"):
            Experiment(name="x", task="digits", space={"lr": Float(0.1, 1.0)}, folds=wrong)
    with pytest.raises(ExperimentError, match="folds"):
        Experiment(name="x", task=rows, metric="loss", mode="min", space={"lr": Float(0, 1)}, folds=3)


def test_repetitions_share_seed_and_split_across_configs(data: TrialData) -> None:
    recipe = Recipe(Digits(), max_epochs=1, seed=0)
    assert recipe.trial_seed("t00001", 2) == recipe.trial_seed("t00009", 2) != recipe.trial_seed("t00001", 3)
    assert recipe.trial_seed("t00001") != recipe.trial_seed("t00009")
    first, second = (recipe.data(data, repeat)[0] for repeat in (0, 1))
    assert rows(first.validation) != rows(second.validation)
    assert recipe.data(data)[0] is data


def test_the_mean_and_the_deviation_are_those_of_the_folds_trained_one_by_one(data: TrialData) -> None:
    recipe = Recipe(Digits(), max_epochs=2, seed=0, folds=3)
    parts = recipe.data(data)
    together = FoldedTrainer([recipe.trainer(part, "cpu") for part in parts])
    together.setup({"lr": 0.01, "dropout": 0.2}, seed=5)
    alone = FoldedTrainer([recipe.trainer(part, "cpu") for part in parts])
    alone.setup({"lr": 0.01, "dropout": 0.2}, seed=5)
    reports = [[trainer.train_epoch() for _ in range(2)] for trainer in alone.trainers]
    for epoch in range(2):
        metrics = together.train_epoch()
        accuracies = [report[epoch]["validation_accuracy"] for report in reports]
        assert metrics["validation_accuracy"] == pytest.approx(np.mean(accuracies), abs=1e-12)
        assert metrics["validation_accuracy_std"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-12)
        assert "lr_std" not in metrics
    assert len({report[1]["validation_accuracy"] for report in reports}) > 1


def test_a_fold_that_diverges_is_the_trials_divergence(data: TrialData) -> None:
    recipe = Recipe(Digits(), max_epochs=1, seed=0, folds=2)
    trainer = FoldedTrainer([recipe.trainer(part, "cpu") for part in recipe.data(data)])
    trainer.setup({"lr": 1e12, "optimizer": "sgd"}, seed=0)
    assert np.isnan(trainer.train_epoch()["train_loss"])
