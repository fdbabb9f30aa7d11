"""The range test: the handbook's steps, a range that holds good rates, and nothing else touched."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from raytune_hpo import Experiment, ExperimentError, Float, Hypergradient, SearchSpace, TrialError
from raytune_hpo.cli.main import main
from raytune_hpo.display.lr_range_plot import lr_range_png
from raytune_hpo.probes.lr_range import LRRange, lr_range_test, suggested
from raytune_hpo.probes.max_batch import max_batch
from raytune_hpo.tasks import Digits
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.trainer import SupervisedTrainer


@pytest.fixture(scope="module")
def data() -> TrialData:
    return Digits().load(0).for_trials()


@pytest.fixture(scope="module")
def adam(data: TrialData) -> LRRange:
    return lr_range_test(Digits(), data, {"optimizer": "adam"}, seed=0, device="cpu")


def test_the_rates_are_the_handbooks(adam: LRRange) -> None:
    factor = math.exp(math.log(10**6) / 500)
    assert adam.lrs[0] == 1e-5
    assert all(b / a == pytest.approx(factor) for a, b in zip(adam.lrs, adam.lrs[1:], strict=False))
    assert len(adam.lrs) == len(adam.losses) == len(adam.smoothed)


def test_the_range_holds_good_rates_and_no_useless_ones(adam: LRRange) -> None:
    assert 1e-4 < adam.low < 3e-3 < adam.high < 0.3
    assert adam.low <= adam.point <= adam.high
    assert adam.falls


def test_plain_sgd_wants_larger_rates(data: TrialData, adam: LRRange) -> None:
    sgd = lr_range_test(Digits(), data, {"optimizer": "sgd", "momentum": 0.0}, seed=0, device="cpu", steps=200)
    assert sgd.low > 3 * adam.low
    assert sgd.high > adam.high


def test_the_seed_decides_and_the_process_keeps_its_random_state(data: TrialData) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    one, again, other = (
        lr_range_test(Digits(), data, {"dropout": 0.3}, seed=s, device="cpu", steps=30) for s in (1, 1, 2)
    )
    assert torch.rand(2).tolist() == expected
    assert one == again
    assert one.losses != other.losses


def curve(*smoothed: float) -> LRRange:
    lrs = [10.0 ** (i - 5) for i in range(len(smoothed))]
    return suggested(lrs, smoothed, smoothed, None)


def test_a_range_is_from_a_tenth_of_the_fall_to_the_lowest_point() -> None:
    found = curve(2.0, 1.95, 1.5, 0.6, 0.5, 0.9)
    assert (found.low, found.high, found.point) == (1e-3, 1e-1, 1e-3)


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    for found in (curve(2.0, 2.0, 1.99, 2.5), curve(2.0, 2.1, math.nan)):
        assert not found.falls
        assert found.low == 1e-5


def test_wrong_bounds_are_refused(data: TrialData) -> None:
    for wrong in ({"low": 0.0}, {"high": 1e-6}, {"steps": 3}, {"low": math.nan}):
        with pytest.raises(ExperimentError):
            lr_range_test(Digits(), data, {}, seed=0, **wrong)


class Grouped(Digits):
    groups = ("head",)

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(OrderedDict(body=nn.Linear(64, 8), act=nn.ReLU(), head=nn.Linear(8, 10)))


def test_a_group_with_a_rate_of_its_own_keeps_it(data: TrialData, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[list[float]] = []
    own = SupervisedTrainer._train_step

    def step(trainer: SupervisedTrainer, *given: Any) -> torch.Tensor:
        rates.append([group["lr"] for group in trainer.optimizer.param_groups])
        return own(trainer, *given)

    monkeypatch.setattr(SupervisedTrainer, "_train_step", step)
    lr_range_test(
        Grouped(), data, {"optimizer": "sgd", "lr_head": 0.01}, 0, low=1e-4, high=1e-2, steps=20, device="cpu"
    )
    assert {head for head, _ in rates} == {0.01}
    assert rates[0][1] == pytest.approx(1e-4)
    assert rates[-1][1] > 1e-3


def test_a_task_that_takes_its_steps_itself_has_no_range_no_hypergradient_and_no_lanes(data: TrialData) -> None:
    class Stepping(Digits):
        def train_step(self, model: Any, batch: Any, optimizer: Any, config: Any) -> Any:
            raise AssertionError

    with pytest.raises(TrialError, match="train_step"):
        lr_range_test(Stepping(), data, {}, 0, device="cpu")
    space = {"lr": Float(1e-3, 0.1, "log")}
    with pytest.raises(TrialError, match="train_step"):
        max_batch(Stepping(), data, SearchSpace(space), 0, device="cpu")
    for options in ({"hypergradient": Hypergradient()}, {"lr_range": "auto"}):
        with pytest.raises(ExperimentError, match="train_step"):
            Experiment(name="steps", task=Stepping(), space=space, max_epochs=1, **options).resolved  # noqa: B018
    plain = Experiment(name="steps", task=Stepping(), space=space, max_epochs=1)
    assert plain.resolved.lanes_refusal == "this task takes its steps itself"


def test_the_picture_is_a_png_also_of_a_hopeless_curve(adam: LRRange) -> None:
    for found in (adam, curve(2.0, 2.1, math.nan)):
        assert lr_range_png(found, "title").startswith(b"\x89PNG")


def test_the_verb(experiments: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["lr-range", str(experiments / "digits.py"), "-o", str(tmp_path / "out"), "--steps", "60"]
    assert main(arguments) == 0
    assert "to paste: " in capsys.readouterr().out
    document = json.loads((tmp_path / "out" / "lr_range.json").read_text())
    assert document["low"] < document["high"]
    assert (tmp_path / "out" / "lr_range.png").read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--apply"]) == 0
    assert eval("{" + capsys.readouterr().out.strip() + "}", {"Float": lambda *a, **k: a})["lr"][0] > 0
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["experiment"] == "digits"


@pytest.mark.parametrize(
    "wrong", [["--steps", "5"], ["--low", "-1"], ["--high", "1e-9"], ["-o", "/dev/null/x"], ["--set", "lr=2"]]
)
def test_wrong_commands_are_one_line(wrong: list[str], experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr-range", str(experiments / "digits.py"), "--steps", "20", *wrong]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1


def test_a_function_trainable_is_refused(experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lr-range", str(experiments / "function_trainable.py")]) == 2
    assert "range test needs a Task" in capsys.readouterr().err
