from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import derive_seed
from raytune_hpo.tasks import Digits
from raytune_hpo.training.data import Splits
from raytune_hpo.training.trainer import SupervisedTrainer, evaluate, fit


def test_shapes_ranges_and_no_image_in_two_splits() -> None:
    splits = Digits().load(0)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [1077, 360, 360]
    for split in (splits.train, splits.validation, splits.test):
        assert split.x.shape[1:] == (64,)
        assert (split.x.dtype, split.y.dtype) == (np.float32, np.int64)
        assert (split.x.min(), split.x.max()) == (0.0, 1.0)
        counts = np.bincount(split.y, minlength=10) / len(split)
        assert counts.min() > 0.09  # stratified: the smallest class has 174 of 1,797
    everything = np.concatenate([splits.train.x, splits.validation.x, splits.test.x])
    assert len(np.unique(everything, axis=0)) == 1797


def same(a: Splits, b: Splits) -> bool:
    return np.array_equal(a.test.x, b.test.x) and np.array_equal(a.train.x, b.train.x)


def test_the_split_follows_the_seed_or_split_seed() -> None:
    assert same(Digits().load(1), Digits().load(1))
    assert not same(Digits().load(1), Digits().load(2))
    assert same(Digits(split_seed=7).load(1), Digits(split_seed=7).load(2))


@pytest.mark.parametrize(
    "options",
    [{"test_fraction": 0.0}, {"validation_fraction": 1.0}, {"test_fraction": 0.7, "validation_fraction": 0.3}],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ExperimentError, match=r"task\.\w+_fraction"):
        Digits(**options).check()


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_part_too_small_for_the_classes_is_refused(part: str) -> None:
    name = f"{part}_fraction"
    with pytest.raises(ExperimentError, match=rf"task\.{name} = 0\.001: .* each of the 10 classes"):
        Digits(**{name: 0.001}).check()
    assert len(getattr(Digits(**{name: 0.0056}).load(0), part)) >= 10


def test_the_split_is_the_one_that_scikit_learn_drew() -> None:
    x, y = load_digits(return_X_y=True)
    for seed, (test, validation) in product(range(20), ((0.2, 0.2), (0.1, 0.3), (0.33, 0.05), (0.5, 0.4))):
        draw = partial(train_test_split, random_state=derive_seed(seed, "digits split"))
        rest, tested = draw(np.arange(len(y)), test_size=test, stratify=y)
        trained, validated = draw(rest, test_size=validation / (1 - test), stratify=y[rest])
        splits = Digits(validation_fraction=validation, test_fraction=test).load(seed)
        for split, rows in ((splits.train, trained), (splits.validation, validated), (splits.test, tested)):
            np.testing.assert_array_equal(split.x, (x[rows] / 16).astype(np.float32))
            np.testing.assert_array_equal(split.y, y[rows])


def test_an_mlp_reaches_97_percent() -> None:
    splits = Digits(split_seed=0).load(0)
    trainer = SupervisedTrainer(Digits(), splits.for_trials(), max_epochs=15, device="cpu")
    trainer.setup({"lr": 3e-3, "batch_size": 16, "hidden_layers": 2, "batch_norm": True}, 1)
    for _ in fit(trainer, 15):
        pass
    assert evaluate(trainer.model, splits.test, trainer.task)["accuracy"] > 0.97
