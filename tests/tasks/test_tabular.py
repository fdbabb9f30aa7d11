"""Diabetes, as scikit-learn ships it, and California housing, from a small copy in scikit-learn's own form."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_data import write_california

from raytune_hpo import Experiment, Float
from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import CaliforniaHousing, Diabetes
from raytune_hpo.tasks.california_housing import FILE
from raytune_hpo.tasks.data_folders import DATA_VARIABLE
from raytune_hpo.training.data import Splits
from raytune_hpo.training.trainer import SupervisedTrainer, fit


@pytest.fixture(autouse=True)
def no_other_copy_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (DATA_VARIABLE, "SCIKIT_LEARN_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def rows(splits: Splits) -> list[int]:
    return [len(s) for s in (splits.train, splits.validation, splits.test)]


def test_diabetes_is_standardised_by_its_training_samples() -> None:
    splits = Diabetes().load(0)
    assert rows(splits) == [266, 88, 88]
    assert splits.train.x.shape[1:] == (10,)
    assert splits.train.y.shape[1:] == (1,)
    for values in (splits.train.x, splits.train.y):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(values.std(axis=0), 1, atol=1e-5)
    assert 0.01 < np.abs(splits.test.x.mean(axis=0)).max() < 0.5  # other samples, the same scale
    everything = np.concatenate([splits.train.x, splits.validation.x, splits.test.x])
    assert len(np.unique(everything, axis=0)) == 442


def test_the_split_follows_the_seed_or_split_seed() -> None:
    def test_x(seed: int, **options: Any) -> Any:
        return Diabetes(**options).load(seed).test.x

    assert np.array_equal(test_x(1), test_x(1))
    assert not np.array_equal(test_x(1), test_x(2))
    assert np.array_equal(test_x(1, split_seed=7), test_x(2, split_seed=7))


def test_an_mlp_explains_a_third_of_the_progression() -> None:
    task = Diabetes()
    trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=40, device="cpu")
    trainer.setup({"hidden_units": 16, "lr": 0.003, "weight_decay": 0.1}, 1)
    assert min(m["validation_rmse"] for m in fit(trainer, 40)) < 0.82  # sqrt(1 - 1/3)


def test_california_is_found_in_the_option_the_variable_and_scikit_learns_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("option", "variable", "sklearn", "home/scikit_learn_data"):
        write_california(tmp_path / folder)
    assert rows(CaliforniaHousing(data_home=str(tmp_path / "option")).load(0)) == [180, 60, 60]
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "variable"))
    CaliforniaHousing().prepare()
    (tmp_path / "variable" / FILE).unlink()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))
    CaliforniaHousing().prepare()
    monkeypatch.delenv("SCIKIT_LEARN_DATA")
    (tmp_path / "sklearn" / FILE).unlink()
    splits = CaliforniaHousing().load(0)
    np.testing.assert_allclose(splits.train.x.mean(axis=0), 0, atol=1e-5)
    assert splits.train.x[:, 2].std() == 0  # rooms a household: 5 everywhere here
    assert 0 < splits.train.y.mean() < 5  # in 100,000 dollars


def test_california_trains_the_handbooks_network(tmp_path: Path) -> None:
    write_california(tmp_path)
    units = {"units_1": 6, "units_2": 5, "units_3": 4, "units_4": 3}
    space = {"hidden_layers": 4, **units, "activation": "leaky_relu", "batch_size": 256, "lr": Float(1e-4, 1e-1, "log")}
    task = CaliforniaHousing(data_home=str(tmp_path))
    Experiment(name="x", task=task, space=space)
    trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=30, device="cpu")
    trainer.setup({**space, "lr": 0.01}, 1)
    assert [tuple(p.shape) for p in trainer.model.parameters() if p.ndim == 2] == [
        (6, 8),
        (5, 6),
        (4, 5),
        (3, 4),
        (1, 3),
    ]
    losses = [m["validation_loss"] for m in fit(trainer, 30)]
    assert losses[-1] < losses[0] / 2


def test_california_without_a_copy_or_a_network_says_how_to_get_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # No download is tried where its host does not answer: it could take 10 s of silence.
    monkeypatch.setattr("sklearn.datasets.fetch_california_housing", lambda **_: pytest.fail("a download was tried"))
    with pytest.raises(ExperimentError) as caught:
        CaliforniaHousing(data_home=str(tmp_path)).prepare()
    message = str(caught.value)
    for words in ("data_home", DATA_VARIABLE, "fetch_california_housing", FILE, str(tmp_path)):
        assert words in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None
    assert not list(tmp_path.iterdir())


def test_california_behind_a_dead_proxy_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ExperimentError, match="fetch_california_housing"):
        CaliforniaHousing(data_home=str(tmp_path)).prepare()
    assert socket.getdefaulttimeout() is None


def test_a_damaged_copy_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"nonsense")
    with pytest.raises(ExperimentError, match="damaged") as caught:
        CaliforniaHousing(data_home=str(tmp_path)).load(0)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"task\.data_home"):
        CaliforniaHousing(data_home="/nowhere/at/all").check()
