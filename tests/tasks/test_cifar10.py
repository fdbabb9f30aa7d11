"""On a small set in CIFAR-10's own format."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written_data import CIFAR_EACH, write_cifar10

from raytune_hpo.errors import ExperimentError
from raytune_hpo.tasks import Cifar10
from raytune_hpo.tasks.cifar10 import DEVIATION, FOLDER, MEAN, PADDING
from raytune_hpo.tasks.data_folders import DATA_VARIABLE
from raytune_hpo.training.random_states import preserved_random_states
from raytune_hpo.training.trainer import SupervisedTrainer


@pytest.fixture(autouse=True)
def no_other_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


def small(folder: Path, **options: Any) -> Cifar10:
    return Cifar10(data_dir=str(folder), **{"validation_samples": 20, **options})


def raw(x: Any) -> Any:
    return (x * DEVIATION[:, None, None] + MEAN[:, None, None]) * 255


def test_splits(tmp_path: Path) -> None:
    write_cifar10(tmp_path / FOLDER)
    splits = small(tmp_path).load(0)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [80, 20, 20]
    assert splits.train.x.shape == (80, 3, 32, 32)
    assert (splits.train.x.dtype, splits.train.y.dtype) == (np.float32, np.int64)
    known = np.concatenate([raw(s.x)[:, :2, 0, 0].round().astype(int) for s in (splits.train, splits.validation)])
    assert sorted(map(tuple, known)) == [(number, k) for number in range(5) for k in range(CIFAR_EACH)]
    for split in (splits.train, splits.validation, splits.test):
        np.testing.assert_array_equal(raw(split.x)[:, 1, 0, 0].round().astype(int) % 10, split.y)
        assert np.ptp(np.bincount(split.y, minlength=10)) <= 1  # stratified


def test_the_sample_counts_and_the_folder_by_its_own_name_or_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path / FOLDER)
    part = small(tmp_path / FOLDER, train_samples=30, test_samples=5).load(0)
    assert [len(s) for s in (part.train, part.validation, part.test)] == [30, 20, 5]
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    assert len(Cifar10(validation_samples=20).load(0).train) == 80


def test_missing_data_say_how_to_get_them(tmp_path: Path) -> None:
    for task in (Cifar10(), Cifar10(data_dir=str(tmp_path))):
        with pytest.raises(ExperimentError) as caught:
            task.prepare()
        for words in ("cifar-10-python.tar.gz", FOLDER, "data_dir", DATA_VARIABLE):
            assert words in str(caught.value)


class Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        pickle.dumps({"data": np.zeros((4, 3072), np.uint8)}, protocol=2),
        pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 2]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, protocol=2),
        pickle.dumps({"data": np.zeros((1, 5), np.uint8), "labels": [1]}, protocol=2),
        pickle.dumps({"data": Evil(), "labels": [1]}, protocol=2),
    ],
)
def test_a_damaged_batch_is_named_and_nothing_in_it_is_executed(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path / FOLDER)
    (tmp_path / FOLDER / "data_batch_3").write_bytes(content)
    with pytest.raises(ExperimentError, match="no batch of CIFAR-10") as caught:
        small(tmp_path).load(0)
    assert "data_batch_3" in str(caught.value)
    assert capsys.readouterr().out == ""


def test_augmentation_crops_the_padded_image_and_mirrors_half_of_them() -> None:
    x = torch.arange(400 * 3 * 32 * 32, dtype=torch.float32).reshape(400, 3, 32, 32) + 1
    with preserved_random_states():
        torch.manual_seed(0)
        seen = Cifar10().augment(x)
        torch.manual_seed(0)
        assert torch.equal(seen, Cifar10().augment(x))
    padded = torch.nn.functional.pad(x, [PADDING] * 4)
    offsets, mirrored = set(), 0
    for image, whole in zip(seen, padded, strict=True):
        found = [
            (top, left, mirror)
            for top in range(2 * PADDING + 1)
            for left in range(2 * PADDING + 1)
            for mirror in (False, True)
            if torch.equal(image.flip(2) if mirror else image, whole[:, top : top + 32, left : left + 32])
        ]
        assert len(found) == 1
        offsets.add(found[0][:2])
        mirrored += found[0][2]
    assert len(offsets) == 81
    assert 150 < mirrored < 250


class Recording(Cifar10):
    """A linear model that keeps the batches it sees."""

    def build_model(self, config: Any) -> torch.nn.Module:
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))
        object.__setattr__(self, "seen", [])
        model.register_forward_pre_hook(lambda module, x: self.seen.append((module.training, x[0].clone())))  # type: ignore[attr-defined]
        return model


def test_the_trainer_augments_training_batches_alone_by_the_trials_own_random_state(tmp_path: Path) -> None:
    write_cifar10(tmp_path / FOLDER)
    data = small(tmp_path).load(0).for_trials()

    def epochs(seed: int, *, resume: bool = False) -> tuple[list[float], list[tuple[bool, torch.Tensor]]]:
        task = Recording(data_dir=str(tmp_path), validation_samples=20)
        trainer = SupervisedTrainer(task, data, max_epochs=2, device="cpu")
        trainer.setup({"batch_size": 40}, seed)
        losses = [trainer.train_epoch()["train_loss"]]
        torch.rand(5)  # others draw from the global generator too
        if resume:
            state = trainer.state_dict()
            trainer = SupervisedTrainer(task, data, max_epochs=2, device="cpu")
            trainer.setup({"batch_size": 40}, seed)
            trainer.load_state_dict(state)
        losses.append(trainer.train_epoch()["train_loss"])
        return losses, task.seen  # type: ignore[attr-defined]

    with preserved_random_states():
        losses, seen = epochs(1)
        again, _ = epochs(1, resume=True)
        other, _ = epochs(2)
    assert losses == again
    assert losses != other
    originals = {tuple(image.flatten()[:64].tolist()) for image in torch.from_numpy(data.train.x)}
    training = [image for is_training, x in seen if is_training for image in x]
    validation = [x for is_training, x in seen if not is_training]
    assert sum(tuple(image.flatten()[:64].tolist()) in originals for image in training) < len(training) / 4
    for x in validation:
        assert np.array_equal(x.numpy(), data.validation.x)


def test_resnet18_for_32_pixels_learns(tmp_path: Path) -> None:
    write_cifar10(tmp_path / FOLDER)
    task = small(tmp_path, train_samples=20)
    with preserved_random_states():
        model = task.build_model({"dropout": 0.5})
    kept: dict[str, tuple[int, ...]] = {}
    model.layer1.register_forward_hook(lambda m, x, y: kept.update(layer1=tuple(y.shape)))
    model.layer4.register_forward_hook(lambda m, x, y: kept.update(layer4=tuple(y.shape)))
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert kept == {"layer1": (2, 64, 32, 32), "layer4": (2, 512, 4, 4)}
    assert sum(p.numel() for p in model.parameters()) == 11_173_962  # He et al.'s ResNet-18 with a 3 x 3 stem
    trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=3, device="cpu")
    trainer.setup({"batch_size": 10, "lr": 1e-3}, 1)
    losses = [trainer.train_epoch()["train_loss"] for _ in range(3)]
    assert losses[-1] < losses[0]


def test_its_hyperparameters_are_checked() -> None:
    assert set(Cifar10().model_hyperparameters()) == {"dropout"}
    with pytest.raises(ExperimentError, match=r"space\.dropout"):
        Cifar10().build_model({"dropout": 1.0})
    with pytest.raises(ExperimentError, match=r"task\.train_samples"):
        Cifar10(train_samples=0).check()
    with pytest.raises(ExperimentError, match=r"task\.data_dir"):
        Cifar10(data_dir="/nowhere/at/all").check()
