"""What a trial reports: nested values, values that are none, results that end it."""

from __future__ import annotations

import datetime
import enum
import fractions
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune
from ray._private.dict import flatten_dict

from raytune_hpo import Choice, Experiment, load_results, report, run
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import CheckpointSaved, Reported
from raytune_hpo.results.results import Results


def tried(function: Callable[[dict[str, Any]], Any], path: Path, **fields: Any) -> Results:
    given = {"space": {"x": Choice([0, 1])}, "num_samples": 1, "max_epochs": 9, "max_failures": 0, **fields}
    experiment = Experiment(
        name="reported",
        task=function,
        metric="loss",
        mode="min",
        searcher="random",
        scheduler="fifo",
        executor="inline",
        **given,
    )
    return run(experiment, path)


def only(results: Results) -> Any:
    (trial,) = results.ledger.trials.values()
    return trial


def test_a6_nested_values_get_rays_names(tmp_path: Path) -> None:
    nested = {
        "loss": torch.tensor([0.5]),
        "eval": {"loss": np.float32(0.25), "per_class": {"cat": 1, 2: 0.5}, "empty": {}},
        "f1": [0.1, 0.2, {"deep": (1, 2)}],
        "eval/loss": 7.0,
        "none": None,
        "yes": np.bool_(True),
        "text": "short",
    }
    plain = {**nested, "loss": 0.5, "f1": [0.1, 0.2, {"deep": [1, 2]}]}
    metrics = only(tried(lambda config: tune.report(nested), tmp_path / "run")).metrics
    assert metrics == flatten_dict(plain, flatten_list=True)
    assert metrics["eval/loss"] == 0.25
    assert load_results(tmp_path / "run").rows()[0]["status"] == "completed"


def test_a6_arrays_are_numbers_by_index(tmp_path: Path) -> None:
    def function(config: dict[str, Any]) -> None:
        confusion = np.arange(4).reshape(2, 2)
        report({"loss": np.array([[1.5]]), "confusion": confusion, "grad": torch.ones(3, requires_grad=True)})

    metrics = only(tried(function, tmp_path / "run")).metrics
    assert metrics["loss"] == 1.5
    assert [metrics[f"confusion/{i}/{j}"] for i in (0, 1) for j in (0, 1)] == [0, 1, 2, 3]
    assert [metrics[f"grad/{i}"] for i in range(3)] == [1.0] * 3


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_a6_what_is_no_number_is_left_out_and_named_once(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["self"] = endless
    odd = {
        "model": torch.nn.Linear(1, 1),
        "curve": np.zeros(100),
        "list": list(range(33)),
        "grid": [[0.0] * 8] * 8,
        "log": "x" * 5000,
        "when": datetime.datetime(2026, 1, 1),
        "unspeakable": Unspeakable(),
        "set": {1, 2},
        "endless": endless,
    }

    def function(config: dict[str, Any]) -> None:
        for epoch in range(3):
            report({"loss": epoch, **odd})

    with pytest.warns(UserWarning, match="left out of what is reported") as said:
        trial = only(tried(function, tmp_path / "run"))
    assert (trial.status, trial.epoch, trial.metrics) == ("completed", 3, {"loss": 2})
    (text,) = [str(warning.message) for warning in said]
    assert all(f"'{name}" in text for name in odd)


class Grade(enum.StrEnum):
    GOOD = "good"


class Count(enum.IntEnum):
    ONE = 1


def test_near_a6_numbers_and_texts_of_a_users_own_types_become_pythons(tmp_path: Path) -> None:
    given = {"grade": Grade.GOOD, "count": Count.ONE, "half": fractions.Fraction(1, 2), "long": np.longdouble(0.5)}
    trial = only(tried(lambda config: report({"loss": 1, **given}), tmp_path / "run"))
    assert [type(trial.metrics[name]) for name in given] == [str, int, float, float]
    assert load_results(tmp_path / "run").ledger.trials["t00000"].metrics == trial.metrics


def test_near_a6_yielded_and_returned_results_are_as_reported_ones(tmp_path: Path) -> None:
    def yields(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"loss": 1.0, "eval": {"a": [1, 2]}}
        yield {"loss": torch.tensor([0.5]), "eval": {"a": 2}}

    results = tried(yields, tmp_path / "yielded")
    assert only(results).metrics == {"loss": 0.5, "eval/a": 2}
    assert next(iter(results.of(Reported))).metrics == {"loss": 1.0, "eval/a/0": 1, "eval/a/1": 2}
    trial = only(tried(lambda config: {"loss": torch.tensor([0.5]), "eval": {"a": 2}}, tmp_path / "returned"))
    assert (trial.status, trial.metrics) == ("completed", {"loss": 0.5, "eval/a": 2})


def test_near_a6_an_objective_that_is_left_out_fails_the_trial_and_says_why(tmp_path: Path) -> None:
    trial = only(tried(lambda config: report({"loss": np.zeros(50)}), tmp_path / "run"))
    assert trial.status == "failed"
    assert "metric 'loss' is an array of 50: it must be a number" in trial.error


def test_a17_done_ends_the_trial_and_the_code_after_it_runs(tmp_path: Path) -> None:
    said: list[str] = []

    def function(config: dict[str, Any]) -> None:
        try:
            for epoch in range(9):
                tune.report({"loss": epoch, "done": epoch == 2})
                if epoch == 2:
                    break
            said.append("after the loop")
        finally:
            said.append("finally")

    results = tried(function, tmp_path / "run")
    trial = only(results)
    assert (trial.status, trial.reason, trial.epoch) == ("completed", "done", 3)
    assert "done" not in trial.metrics
    assert said == ["after the loop", "finally"]
    assert only(load_results(tmp_path / "run")).reason == "done"


def test_near_a17_a_trial_that_goes_on_after_done_is_unwound(tmp_path: Path) -> None:
    unwound = []

    def function(config: dict[str, Any]) -> None:
        try:
            while True:
                report({"loss": 1.0, "done": np.bool_(True), "should_checkpoint": True})
        finally:
            unwound.append(True)

    trial = only(tried(function, tmp_path / "run"))
    assert (trial.epoch, trial.reason, trial.metrics) == (1, "done", {"loss": 1.0})
    assert unwound == [True]


class Steps(tune.Trainable):
    def setup(self, config: dict[str, Any]) -> None:
        Path(self.logdir, "setup.txt").write_text(f"{self.trial_id} {self.trial_name} {Path.cwd()}")

    def step(self) -> dict[str, Any]:
        number = self.iteration + 1
        return {"loss": 1 / number, "eval": {"n": number}, "done": number == 3, "should_checkpoint": number == 2}

    def save_checkpoint(self, folder: str) -> None:
        Path(folder, "n").write_text(str(self.iteration))


def test_near_a17_a_class_ends_and_saves_as_its_results_say(tmp_path: Path) -> None:
    results = tried(Steps, tmp_path / "run", checkpoint={"every": 100})
    trial = only(results)
    assert (trial.reason, trial.epoch, trial.metrics) == ("done", 3, {"loss": 1 / 3, "eval/n": 3})
    own = tmp_path / "run/trials/t00000"
    assert (own / "setup.txt").read_text() == f"t00000 t00000 {own}"
    assert [event.checkpoint.epoch for event in results.of(CheckpointSaved)] == [2, 3]


@pytest.mark.parametrize("number", [10**400, 10**5000], ids=["400 digits", "5000 digits"])
def test_c9_a_huge_number_fails_the_trial_or_is_left_out(number: int, tmp_path: Path) -> None:
    trial = only(tried(lambda config: report({"loss": number}), tmp_path / "objective"))
    assert trial.status == "failed"
    assert "'loss' is an integer of" in trial.error
    with pytest.warns(UserWarning, match="'beside' is an integer of"):
        trial = only(tried(lambda config: report({"loss": 1, "beside": number}), tmp_path / "beside"))
    assert (trial.status, trial.metrics) == ("completed", {"loss": 1})


def test_c9_lone_surrogates_in_names_texts_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def function(config: dict[str, Any]) -> None:
        report({"loss": 1, "na\udc80me": 1, "text": "a\udfffb"})
        raise ValueError("caf\udce9 \ud800")

    trial = only(tried(function, tmp_path / "run"))
    assert trial.status == "failed"
    assert trial.error.endswith(", in function: ValueError: caf\\udce9 \\ud800")
    assert trial.metrics == {"loss": 1, "na\\udc80me": 1, "text": "a\\udfffb"}
    assert main(["trials", str(tmp_path / "run")]) == 0
    capsys.readouterr()
