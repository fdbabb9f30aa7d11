"""A program's own loop and its Task learn the same: `main()` of the program runs unmodified, but for the order of its
batches, and what it prints of the first epoch is what the trainer reports."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from raytune_hpo import Task
from raytune_hpo.seeding import derive_seed
from raytune_hpo.training.counters import permutation_by_numpy

NUMBER = r"(-?\d+\.\d+)"


@dataclass(frozen=True)
class Case:
    """config: what the program has as its defaults. prints: the line of an epoch, whose numbers are `reported`."""

    seed: int
    config: Mapping[str, Any]
    prints: str
    reported: Sequence[str]
    argv: Sequence[str] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)


ADAM = {"optimizer": "adam"}
CASES = {
    # Of a text so long that batches of 16 divide its 576 blocks: the program means over batches, not samples.
    "char_transformer": Case(
        1337,
        {
            "optimizer": "adamw",
            "lr": 3e-3,
            "weight_decay": 0.1,
            "weight_decay_on": "matrices",
            "beta2": 0.95,
            "clip_norm": 1.0,
            "batch_size": 16,
        },
        f"train loss {NUMBER}",
        ["train_loss"],
        ["--epochs", "1"],
    ),
    "segmentation": Case(
        0,
        {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "batch_size": 16},
        f"train {NUMBER}, val {NUMBER}, mean IoU {NUMBER}",
        ["train_loss", "validation_loss", "validation_iou"],
        constants={"EPOCHS": 1},
    ),
    # Its validation draws noise, by batches of its own.
    "vae": Case(1, {**ADAM, "lr": 2e-3, "batch_size": 32}, f"train loss {NUMBER}", ["train_loss"], ["--epochs", "1"]),
    "siamese": Case(
        0,
        {**ADAM, "lr": 1e-3, "batch_size": 64},
        f"loss {NUMBER} test {NUMBER}",
        ["train_loss", "validation_loss"],
        constants={"EPOCHS": 1},
    ),
    "multilabel": Case(
        42,
        {**ADAM, "lr": 3e-3, "batch_size": 64},
        f"loss: {NUMBER} - val_loss: {NUMBER} - val_f1: {NUMBER}",
        ["train_loss", "validation_loss", "validation_f1"],
        constants={"EPOCHS": 1},
    ),
    "gru": Case(
        0,
        {**ADAM, "lr": 5e-3, "batch_size": 32, "clip_norm": 1.0},
        f"train {NUMBER} . valid {NUMBER} . accuracy {NUMBER}",
        ["train_loss", "validation_loss", "validation_accuracy"],
        ["--epochs", "1"],
    ),
    "finetune": Case(
        0,
        {"optimizer": "sgd", "lr": 1e-2, "lr_head": 5e-2, "momentum": 0.9, "batch_size": 32},
        f"loss {NUMBER}",
        ["train_loss"],
        constants={"EPOCHS": 1},
    ),
    "gan": Case(
        0,
        {"lr_G": 1e-3, "lr_D": 3e-3, "beta1": 0.5, "batch_size": 125},
        f"Loss_D: {NUMBER} Loss_G: {NUMBER}",
        ["train_loss_D", "train_loss_G"],
        ["--niter", "1", "--batchSize", "125"],
    ),
    "memmap": Case(
        0,
        {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "batch_size": 64},
        f"train {NUMBER} {NUMBER}, test {NUMBER} {NUMBER}",
        ["train_loss", "", "validation_loss", "validation_accuracy"],
        ["--epochs", "1", "--megabytes", "2"],
    ),
    # Batches of 60 divide the 9,000 samples.
    "imbalanced": Case(
        0,
        {"optimizer": "adamw", "lr": 2e-3, "weight_decay": 1e-3, "batch_size": 60, "class_weight": "balanced"},
        f"loss={NUMBER} balanced_acc={NUMBER} macro_f1={NUMBER} acc={NUMBER}",
        ["train_loss", "", "validation_f1", ""],
        constants={
            "config": {"epochs": 1, "batch_size": 60, "lr": 2e-3, "weight_decay": 1e-3, "hidden": 128, "dropout": 0.3}
        },
    ),
}


def module(kind: str, name: str) -> Any:
    return importlib.import_module(f"foreign.{kind}.{name}")


def prepared(name: str, tmp_path: Path, patch: pytest.MonkeyPatch) -> Task:
    """The task of the tuned program, and both of them so that they can be compared."""
    program, tuned = module("programs", name), module("tuned", name)
    task: Task = tuned.experiment.task
    if name == "memmap":
        tuned.make_data(tmp_path, 2)
        return tuned.Stripes(str(tmp_path))
    if name == "char_transformer":
        for side in (program, tuned):
            patch.setattr(side, "load_text", lambda load=side.load_text: load(41_000))
    if name == "siamese":  # new pairs in every epoch cannot be the same on both sides: here they stay
        for side in (program, tuned):
            patch.setattr(side, "load_data", lambda load=side.load_data: [_fixed(split) for split in load()])
    if name == "finetune":  # the program measures before it trains: a DataLoader draws of what dropout draws from
        for side in (program, tuned):
            patch.setattr(side, "evaluate", lambda *_: 0.0)
    if name == "gan":  # the program draws the noise that it shows its progress by before it trains
        build = tuned.Ring.build_model

        def built(self: Any, config: Any) -> Any:
            model = build(self, config)
            torch.randn(2000, 8)
            return model

        patch.setattr(tuned.Ring, "build_model", built)
    return task


def _fixed(pairs: Any) -> Any:
    pairs.train = False
    return pairs


class Ordered:
    """A DataLoader whose shuffled batches of `samples` samples come in the order of a trial with this seed, and draw
    nothing. A batch is made like any."""

    def __init__(self, seed: int, samples: int) -> None:
        self._seed, self._samples = seed, samples

    def __call__(self, dataset: Any, batch_size: int, shuffle: bool = False, collate_fn: Any = default_collate) -> Any:
        if not shuffle or len(dataset) != self._samples:
            return DataLoader(dataset, batch_size, shuffle, collate_fn=collate_fn)
        order = torch.from_numpy(permutation_by_numpy(derive_seed(self._seed, "data order"), 0, len(dataset)))
        batches = [collate_fn([dataset[int(i)] for i in rows]) for rows in order.split(batch_size)]
        return _Batches(batches, dataset)


class _Batches(list[Any]):
    def __init__(self, batches: Sequence[Any], dataset: Any) -> None:
        super().__init__(batches)
        self.dataset = dataset


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models as small as these are slower with more, by far where others use the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


#: Those whose loop takes seconds.
SLOW = ("segmentation", "char_transformer")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.large) if n in SLOW else n for n in CASES])
def test_the_first_epoch_is_that_of_the_programs_own_loop(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for place in ("trainer", "criterion"):  # the program draws from torch's generator; trials here draw from counters
        monkeypatch.setattr(f"raytune_hpo.training.{place}.counts", lambda *_: False)
    monkeypatch.setattr("raytune_hpo.training.trainer.dropouts_of", lambda *_: [])
    case, program = CASES[name], module("programs", name)
    task = prepared(name, tmp_path, monkeypatch)
    data = task.splits(seed=0).for_trials()
    trainer = task.trainer(data, max_epochs=2, device="cpu")
    trainer.setup(case.config, case.seed)
    first, second = trainer.train_epoch(), trainer.train_epoch()

    monkeypatch.setattr(program, "DataLoader", Ordered(case.seed, len(data.train)))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *case.argv])
    for constant, value in case.constants.items():
        monkeypatch.setattr(program, constant, value)
    capsys.readouterr()
    random = torch.random.get_rng_state()
    program.main()
    torch.random.set_rng_state(random)
    found = re.search(case.prints, capsys.readouterr().out)
    assert found
    for printed, reported in zip(found.groups(), case.reported, strict=True):
        if reported:
            decimals = len(printed.partition(".")[2])
            assert first[reported] == pytest.approx(float(printed), abs=0.6 * 10**-decimals), reported
    if name != "gan":
        assert second["train_loss"] < first["train_loss"]
