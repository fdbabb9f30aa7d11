"""A run tries its task before the first trial: a fault that all configs share ends it, and nothing else does."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raytune_hpo import Choice, Experiment, Float, Results, Split, Splits, Task, resume, run
from raytune_hpo.errors import TaskError
from raytune_hpo.journal.events import Noticed
from raytune_hpo.training.hyperparameters import Hyperparameter
from raytune_hpo.workers import executors, first_call
from raytune_hpo.workers.first_check import first_remarks
from raytune_hpo.workers.transport import CallFailedError

EXECUTORS = ("inline", "auto", "processes", "lanes")


@dataclass(frozen=True)
class Halves(Task):
    """Two classes. wrong: with what; widths: of which the model is made, of 4 features."""

    wrong: str = ""
    kind: ClassVar[Any] = "classification"

    def load(self, seed: int) -> Splits:
        x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        y = (x[:, 0] > 0).astype(np.int64)
        return Splits(Split(x[:40], y[:40]), Split(x[40:50], y[40:50]), Split(x[50:], y[50:]))

    def model_hyperparameters(self) -> dict[str, Hyperparameter]:
        return {"width": Hyperparameter("width", "int", 4, "features that the model takes")}

    def build_model(self, config: Any) -> nn.Module:
        if self.wrong == "some" and config["width"] == 4:
            raise ValueError("four")
        if self.wrong == "memory":
            raise MemoryError
        if self.wrong == "warns":
            warnings.warn("a word of the model's", UserWarning, stacklevel=1)
        if self.wrong == "state":
            torch.set_default_dtype(torch.float64)
            os.environ["HALVES"] = "1"
        if self.wrong == "dies" and not (Path(os.environ["HALVES_FOLDER"]) / "died").exists():
            (Path(os.environ["HALVES_FOLDER"]) / "died").touch()
            os._exit(3)
        model = nn.Linear(config["width"], 1 if self.wrong == "outputs" else 2)
        if self.wrong == "spare":
            model.register_parameter("spare", nn.Parameter(torch.zeros(1)))
        return model


@dataclass(frozen=True)
class Diverging(Halves):
    def loss(self, model: nn.Module, batch: Any, config: Any) -> torch.Tensor:
        return model(batch.x).mean() * float("nan")


def done(task: Task, folder: Path, executor: str = "inline", **fields: Any) -> Results:
    usual: dict[str, Any] = {"space": {"lr": Float(1e-3, 1e-1, "log")}, "num_samples": 2, "max_epochs": 2}
    usual |= {"searcher": "random", "scheduler": "fifo"}
    if executor in ("processes", "lanes"):  # one worker on the two cores that these tests have
        usual["resources"] = {"cpus": 2}
    experiment = Experiment(name="first", task=task, executor=executor, max_failures=0, **{**usual, **fields})
    return run(experiment, folder / "run", quiet=True)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_fault_of_all_configs_ends_the_run_before_a_trial(executor: str, tmp_path: Path, ray_session: None) -> None:
    with pytest.raises(TaskError) as raised:
        done(Halves("outputs"), tmp_path, executor)
    assert str(raised.value).startswith("Halves.build_model (test_first_check.py, line ")
    assert "1 logits a sample, for targets with classes 0 to 1" in str(raised.value)
    assert not (tmp_path / "run").exists()  # so that the next try finds the place free


def test_a_first_loss_that_is_nan_does_too(tmp_path: Path) -> None:
    with pytest.raises(
        TaskError, match=r"Diverging.loss \(test_first_check.py, line \d+\): is nan for the first batch"
    ):
        done(Diverging(), tmp_path)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_fault_of_some_configs_is_their_trials(executor: str, tmp_path: Path, ray_session: None) -> None:
    space = {"width": Choice([4, 5])}  # usually four
    results = done(Halves("some"), tmp_path / "first", executor, space=space, num_samples=2, searcher="grid")
    assert results.counts["failed"] == 2  # each in its own way
    errors = [row["error"] for row in results.rows()]
    assert errors[0].endswith(", in build_model: ValueError: four")
    assert errors[0].startswith("test_first_check.py, line ")
    assert errors[1].startswith("RuntimeError: ")  # of no line of the user's


def test_memory_is_the_trials_own(tmp_path: Path) -> None:
    assert done(Halves("memory"), tmp_path).counts["failed"] == 2


def test_a_worker_that_dies_of_it_is_followed_by_one_without(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALVES_FOLDER", str(tmp_path))
    results = done(_Dying("dies", folder=str(tmp_path)), tmp_path, "processes", max_concurrent=1)
    assert (tmp_path / "died").exists()
    assert results.counts["completed"] == 2


@dataclass(frozen=True)
class _Dying(Halves):
    folder: str = ""

    def build_model(self, config: Any) -> nn.Module:
        os.environ["HALVES_FOLDER"] = self.folder  # the worker's environment is another
        return super().build_model(config)


def test_remarks_are_notices_and_warnings_are_the_trials(tmp_path: Path) -> None:
    results = done(Halves("spare"), tmp_path / "spare")
    assert [event.text for event in results.of(Noticed)] == [
        "no gradient reaches spare: the loss does not depend on it"
    ]
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        warned = done(Halves("warns"), tmp_path / "warns")
    assert warned.best is not None
    assert len(heard) == 2  # a trial each


def test_it_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers as without it; what a model's code changes of the process is put back."""
    with_check = done(Halves(), tmp_path / "with")
    tried = executors.configs_to_try
    monkeypatch.setattr(executors, "configs_to_try", lambda experiment: [])
    without = done(Halves(), tmp_path / "without")
    assert with_check.curves.equals(without.curves) or with_check.curves.drop(columns="seconds").equals(
        without.curves.drop(columns="seconds")
    )
    experiment = Experiment(name="x", task=Halves("state"), space={"lr": Float(1e-3, 1e-1)}).resolved
    configs = tried(experiment)
    assert first_remarks(experiment.recipe(), experiment.recipe().load(), configs, "cpu", 1) == []
    assert torch.get_default_dtype() == torch.float32
    assert "HALVES" not in os.environ


def test_a_resumed_run_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(Halves(), tmp_path, stop={"target": 0.0}, num_samples=1)

    checked: list[Any] = []
    monkeypatch.setattr(executors, "configs_to_try", lambda experiment: checked.append(experiment) or [])
    resume(tmp_path / "run", task=Halves(), quiet=True)
    assert checked == []


def test_a_check_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Actor:
        def call(self, method: str, *arguments: Any) -> str:
            return method

    check = first_call.FirstCheck([{"lr": 1}])
    assert not check.awaited
    assert check.begun("a", Actor()) == "check"  # type: ignore[arg-type]
    assert check.begun("b", Actor()) is None  # type: ignore[arg-type]
    assert check.awaited
    monkeypatch.setattr(first_call.time, "monotonic", lambda: check._until + 1)
    assert not check.awaited
    check.too_late = True
    assert check.ended(check.failed(CallFailedError(TaskError("Mine.loss", "is wrong"), ""))) == []
    assert check.at is None
