"""What every trainer must do, whatever is inside it. One subclass per implementation.

    class TestMine(TrainerContract):
        factory = "my_module:make"      # a function without arguments that returns a Trainer
        configs = {"plain": {"lr": 0.1}, ...}   # each goes through the save-and-restore tests; the first through all

The factory is named by a string because a new process has to find it, too. Run as a script, this
file is that new process; it reads lines, FACTORY FOLDER.
"""

from __future__ import annotations

import atexit
import copy
import functools
import importlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from raytune_hpo.training.checkpoint import load_state, save_state
from raytune_hpo.training.trainer import Trainer

SEED = 20240607
HALF = 3


def make_trainer(factory: str) -> Trainer:
    module, function = factory.split(":")
    trainer: Trainer = getattr(importlib.import_module(module), function)()
    return trainer


def epochs(trainer: Trainer, count: int) -> list[dict[str, float]]:
    return [trainer.train_epoch() for _ in range(count)]


def assert_same(found: Any, expected: Any, where: str = "state") -> None:
    """Bit for bit: tensors by their elements, floats by their repr (so NaN equals NaN)."""
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), f"{where} differs"
    elif isinstance(expected, Mapping):
        assert list(found) == list(expected), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for i, item in enumerate(expected):
            assert_same(found[i], item, f"{where}[{i}]")
    else:
        assert repr(found) == repr(expected), f"{where}: {found!r} is not {expected!r}"


def differ(a: Any, b: Any) -> bool:
    try:
        assert_same(a, b)
    except AssertionError:
        return True
    return False


def disturb() -> None:
    """Draw from every global generator, as whatever runs between two epochs may."""
    random.random()
    np.random.standard_normal()
    torch.rand(3)


def continue_saved_trials(factory: str, folder: Path) -> None:
    """Restore every saved trial, train the second half, write what came out. The new process."""
    configs = json.loads((folder / "configs.json").read_text())
    for name, config in configs.items():
        trainer = make_trainer(factory)
        trainer.setup(config, SEED)
        trainer.load_state_dict(load_state(folder / f"{name}.half"))
        metrics = epochs(trainer, HALF)
        save_state({"metrics": metrics, "state": trainer.state_dict()}, folder / f"{name}.continued")


@functools.cache
def new_process() -> Any:
    """A process that `continue_saved_trials` runs in, for all trainers: to import torch takes seconds."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, __file__, str(torch.get_num_threads())]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_end, process)
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()  # closes its pipes


class TrainerContract:
    factory: ClassVar[str]
    configs: ClassVar[dict[str, dict[str, Any]]]

    def started(self, config: Mapping[str, Any] | None = None, seed: int = SEED) -> Trainer:
        trainer = make_trainer(self.factory)
        trainer.setup(self.some_config if config is None else config, seed)
        return trainer

    @property
    def some_config(self) -> dict[str, Any]:
        return next(iter(self.configs.values()))

    @pytest.fixture(scope="class")
    @classmethod
    def continued(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A folder with every config's first half, continued in one new process."""
        folder = tmp_path_factory.mktemp("trials")
        (folder / "configs.json").write_text(json.dumps(cls.configs))
        for name, config in cls.configs.items():
            trainer = make_trainer(cls.factory)
            trainer.setup(config, SEED)
            epochs(trainer, HALF)
            save_state(trainer.state_dict(), folder / f"{name}.half")
        new_process().stdin.write(f"{cls.factory} {folder}\n")
        new_process().stdin.flush()
        assert new_process().stdout.readline() == "done\n", "the new process failed: its traceback is above"
        return folder

    def test_restored_in_a_new_process_goes_on_bit_for_bit(self, continued: Path) -> None:
        for name, config in type(self).configs.items():
            whole = self.started(config)
            metrics = epochs(whole, 2 * HALF)
            found = load_state(continued / f"{name}.continued")
            assert_same(found["metrics"], metrics[HALF:], f"{name}: metrics")
            assert_same(found["state"], whole.state_dict(), f"{name}: state")

    def test_the_second_half_is_really_training(self) -> None:
        """Guards the test above: it would pass for a trainer that does nothing."""
        trainer = self.started()
        first = trainer.state_dict()
        epochs(trainer, 1)
        assert differ(trainer.state_dict(), first)

    def test_seed_decides_everything(self) -> None:
        disturb()
        first = epochs(self.started(), 2)
        disturb()
        assert_same(epochs(self.started(), 2), first, "metrics")
        assert differ(epochs(self.started(seed=SEED + 1), 2), first)

    def test_setup_again_starts_over(self) -> None:
        trainer = self.started()
        first = epochs(trainer, 2)
        trainer.setup(self.some_config, SEED)
        assert trainer.epoch == 0
        assert_same(epochs(trainer, 2), first, "metrics")

    def test_what_runs_between_epochs_changes_nothing(self) -> None:
        expected = epochs(self.started(), 2)
        one, other = self.started(), self.started(seed=SEED + 1)
        found = []
        for _ in range(2):
            found.append(one.train_epoch())
            other.train_epoch()
            disturb()
        assert_same(found, expected, "metrics")

    def test_state_is_a_snapshot(self) -> None:
        trainer = self.started()
        epochs(trainer, 1)
        state = trainer.state_dict()
        kept = copy.deepcopy(state)
        after = epochs(trainer, 1)
        assert_same(state, kept)
        for _ in range(2):  # a second restore finds the state as the first found it
            restored = self.started()
            restored.load_state_dict(state)
            assert_same(epochs(restored, 1), after, "metrics")
            assert_same(state, kept)

    def test_state_can_be_saved_and_read_back(self, tmp_path: Path) -> None:
        trainer = self.started()
        epochs(trainer, 1)
        save_state(trainer.state_dict(), tmp_path / "state.pt")
        assert_same(load_state(tmp_path / "state.pt"), trainer.state_dict())

    def test_epoch_counts_and_is_restored(self) -> None:
        trainer = self.started()
        assert trainer.epoch == 0
        epochs(trainer, 2)
        assert trainer.epoch == 2
        restored = self.started()
        restored.load_state_dict(trainer.state_dict())
        assert restored.epoch == 2

    def test_metrics_are_plain_floats_under_the_same_names(self) -> None:
        first, second = epochs(self.started(), 2)
        assert list(first) == list(second)
        assert {type(value) for value in first.values()} == {float}


if __name__ == "__main__":
    # Sums are split among the threads, so that bits agree only for the same number of them.
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        factory_, folder_ = line.rstrip("\n").split(" ", 1)
        continue_saved_trials(factory_, Path(folder_))
        print("done", flush=True)
