"""On a tiny set in MNIST's own file format, and on the real files where they are at hand."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_data import write_mnist

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import Mnist
from raytune_hpo.tasks import mnist as module
from raytune_hpo.tasks.data_folders import CACHE_VARIABLE
from raytune_hpo.training.trainer import SupervisedTrainer

TRAIN, TEST = 40, 12
SMALL: dict[str, Any] = {"validation_samples": 10}
REAL = next(
    (
        folder
        for folder in (os.environ.get(module.DATA_VARIABLE), Path(__file__).parents[3] / "shared" / "data")
        if folder and (Path(folder) / "MNIST" / "raw").is_dir()
    ),
    None,
)


@pytest.fixture(autouse=True)
def no_other_copy_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (module.DATA_VARIABLE, CACHE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


def test_splits(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    splits = Mnist(data_dir=str(tmp_path), **SMALL).load(0)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [30, 10, 12]
    assert splits.train.x.shape == (30, 1, 28, 28)
    assert (splits.train.x.dtype, splits.train.y.dtype) == (np.float32, np.int64)
    assert (splits.train.x.min(), splits.train.x.max()) == (0.0, 1.0)
    first_pixels = np.concatenate([s.x[:, 0, 0, 0] for s in (splits.train, splits.validation)]) * 255
    assert sorted(first_pixels.round().astype(int)) == list(range(TRAIN))
    for split in (splits.train, splits.validation, splits.test):  # image and label stay together
        np.testing.assert_array_equal((split.x[:, 0, 0, 0] * 255).round().astype(int) % 10, split.y)
    assert np.ptp(np.bincount(splits.validation.y, minlength=10)) <= 2  # stratified


def test_the_seed_and_the_sample_counts_decide_the_split(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    whole = Mnist(data_dir=str(tmp_path), **SMALL)
    part = Mnist(data_dir=str(tmp_path), train_samples=7, test_samples=5, **SMALL)
    assert np.array_equal(whole.load(3).train.y, whole.load(3).train.y)
    assert not np.array_equal(whole.load(3).train.y, whole.load(4).train.y)
    np.testing.assert_array_equal(part.load(3).validation.x, whole.load(3).validation.x)
    assert (len(part.load(3).train), len(part.load(3).test)) == (7, 5)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("given", ["", "MNIST", "MNIST/raw"])
def test_every_form_of_a_local_copy_is_found(tmp_path: Path, given: str, packed: bool) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", packed=packed)
    before = sorted(tmp_path.rglob("*"))
    assert len(Mnist(data_dir=str(tmp_path / given), **SMALL).load(0).test) == TEST
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_any_name_and_the_variable_and_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "anywhere")
    assert len(Mnist(data_dir=str(tmp_path / "anywhere"), **SMALL).load(0).test) == TEST
    monkeypatch.setenv(module.DATA_VARIABLE, str(tmp_path / "anywhere"))
    assert len(Mnist(**SMALL).load(0).test) == TEST
    monkeypatch.delenv(module.DATA_VARIABLE)
    write_mnist(tmp_path / "home" / ".cache" / "raytune_hpo" / "MNIST" / "raw")
    assert len(Mnist(**SMALL).load(0).test) == TEST
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    write_mnist(tmp_path / "cache" / "MNIST" / "raw", test=11)
    assert len(Mnist(**SMALL).load(0).test) == 11


def test_without_files_or_network_one_error_names_both_ways_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        Mnist(data_dir=str(tmp_path), **SMALL).load(0)
    message = str(caught.value)
    assert caught.value.field == "data_dir"
    for words in (module.DATA_VARIABLE, "data_dir", "MNIST/raw", "connect to the network", str(tmp_path)):
        assert words in message
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert socket.getdefaulttimeout() is None


def test_damaged_files_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    write_mnist(raw)
    (raw / "train-images-idx3-ubyte").write_bytes(b"\x00\x00\x08\x03nonsense")
    with pytest.raises(ExperimentError, match="damaged") as caught:
        Mnist(data_dir=str(tmp_path), **SMALL).load(0)
    assert str(raw) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"data_dir": "/nowhere/at/all"}, "task.data_dir"),
        ({"train_samples": 0}, "task.train_samples"),
        ({"validation_samples": None}, "task.validation_samples"),
    ],
)
def test_check_is_cheap_and_names_the_field(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        Mnist(**options).check()
    assert caught.value.field == field


def test_too_many_samples_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    for options in ({"validation_samples": TRAIN}, {"train_samples": TRAIN, **SMALL}):
        with pytest.raises(ExperimentError, match=f"share the {TRAIN} training images"):
            Mnist(data_dir=str(tmp_path), **options).load(0)


def test_a_trainer_trains_on_it(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw")
    task = Mnist(data_dir=str(tmp_path), **SMALL)
    trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=1, device="cpu")
    trainer.setup({"hidden_units": 8}, 1)
    assert trainer.train_epoch()["train_loss"] > 0


@pytest.mark.skipif(REAL is None, reason="no MNIST/raw in RAYTUNE_HPO_DATA nor in ../shared/data")
def test_the_real_files_are_learned() -> None:
    task = Mnist(data_dir=str(REAL), train_samples=5000, validation_samples=1000)
    splits = task.load(0)
    assert len(splits.test) == 10_000
    trainer = SupervisedTrainer(task, splits.for_trials(), max_epochs=2, device="cpu")
    trainer.setup({"hidden_units": 32}, 1)
    trainer.train_epoch()
    assert trainer.train_epoch()["validation_accuracy"] > 0.8
