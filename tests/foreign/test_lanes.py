"""The programs' tasks as lanes: each lane trains as its task's trainer would alone. Which are fused is held here."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_hpo import Task
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.recipe import Recipe

#: A small eps lets Adam take the sign of what is rounding alone, as of a bias before batch norm.
ADAM = {"optimizer": "adam", "lr": 2e-3, "eps": 1e-3, "batch_size": 16}
SGD = {"optimizer": "sgd", "lr": 1e-2, "batch_size": 16}
FUSED = ("char_transformer", "segmentation", "vae", "multilabel", "finetune", "memmap", "imbalanced")
SAMPLES = {"segmentation": 9, "char_transformer": 20}  # of large models


@pytest.fixture(autouse=True)
def _double_on_one_thread() -> Iterator[None]:
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


def task_of(name: str, folder: Path, patch: pytest.MonkeyPatch) -> Task:
    tuned = importlib.import_module(f"foreign.tuned.{name}")
    if name == "memmap":
        tuned.make_data(folder, 2)
        return tuned.Stripes(str(folder))  # type: ignore[no-any-return]
    if name == "char_transformer":
        patch.setattr(tuned, "load_text", lambda load=tuned.load_text: load(9_000))
    if name == "finetune":  # what is learned before is the same for all
        patch.setattr(tuned, "pretrained_model", tuned.ConvNet)
    task: Task = tuned.experiment.task
    return task


def apart(one: Any, other: Any) -> float:
    if isinstance(one, Mapping):
        return max(apart(one[key], other[key]) for key in one)
    if isinstance(one, torch.Tensor):
        scale = max(1e-3, float(other.double().abs().max())) if other.numel() else 1.0
        return float((one.double() - other.double()).abs().max()) / scale if other.numel() else 0.0
    return abs(one - other) / max(1.0, abs(other)) if math.isfinite(other) else math.inf


@pytest.mark.parametrize("name", FUSED)
def test_a_lane_is_its_trainer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(name, tmp_path, monkeypatch)
    data = Recipe(task, max_epochs=3, seed=0).load()
    samples = SAMPLES.get(name, 40)
    data = replace(data, train=data.train.first(samples), validation=data.validation.first(samples // 2))
    together = FusedTrainer(task, data, max_epochs=3, device="cpu", chunk=8)
    configs = [
        {**config, "batch_size": 4} if name in SAMPLES else config for config in (ADAM, SGD, {**ADAM, "lr": 5e-3})
    ]
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    reports = [together.train_epoch() for _ in range(2)]
    assert together.unfusable is None
    assert len(together._stacks) == 1
    for i, config in enumerate(configs):
        alone = task.trainer(data, max_epochs=3, device="cpu")
        alone.setup(config, i)
        for report in reports:
            assert apart(report[str(i)], alone.train_epoch()) < 1e-10
        assert apart(together.state_dict(str(i))["model"], alone.state_dict()["model"]) < 1e-10


def test_what_is_packed_is_said_to_be_no_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of("gru", tmp_path, monkeypatch)
    data = Recipe(task, max_epochs=3, seed=0).load()
    data = replace(data, train=data.train.first(16), validation=data.validation.first(16))
    together = FusedTrainer(task, data, max_epochs=3, device="cpu")
    together.enter("0", {"batch_size": 16}, seed=0)
    together.train_epoch()
    assert str(together.unfusable).endswith("GRU is not vmappable")
