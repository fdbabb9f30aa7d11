"""Models whose outputs do not fit the targets, and data that nothing can be learned from: nothing is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raytune_hpo import Experiment, ExperimentError, Float, Results, Split, Splits, Task, run
from raytune_hpo.errors import TrialError

SPACE = {"lr": Float(1e-3, 1e-1, "log")}


class Answer(nn.Module):
    """A linear layer of `outputs`, whose answer is changed by `how`."""

    def __init__(self, how: str, outputs: int) -> None:
        super().__init__()
        self.layer, self.how = nn.Linear(4, outputs), how

    def forward(self, x: torch.Tensor) -> Any:
        y = self.layer(x)
        changed = {
            "right": lambda: y,
            "flat": lambda: y.reshape(-1),
            "wide": lambda: y[:, None],
            "tuple": lambda: (y, y),
            "dict": lambda: {"logits": y},
            "likeliest": lambda: y.argmax(-1),
            "short": lambda: y[1:],
            "flat when measured": lambda: y if self.training else y.flatten(),
        }
        return changed[self.how]()


@dataclass(frozen=True)
class Line(Task):
    """Regression, whose targets are a sum of the features. how: of the model's answer."""

    kind: ClassVar[Any] = "regression"
    how: str = "right"
    numbers: int = 1

    def load(self, seed: int) -> Splits:
        x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        y = np.repeat(x.sum(1, keepdims=True), self.numbers, 1)
        return Splits(Split(x[:40], y[:40]), Split(x[40:50], y[40:50]), Split(x[50:], y[50:]))

    def build_model(self, config: Any) -> nn.Module:
        if self.how == "chain":  # of layers that lanes stack
            return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))
        return Answer(self.how, self.numbers)


@dataclass(frozen=True)
class Signs(Task):
    """Two classes. how: of the model's answer; data: what is wrong with them."""

    how: str = "right"
    outputs: int = 2
    data: str = ""

    def load(self, seed: int) -> Splits:  # noqa: PLR0912  (a case each)
        x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
        y: Any = (x[:, 0] > 0).astype(np.int64)
        first, second = 40, 50
        match self.data:
            case "no training samples":
                first, second = 0, 10
            case "no validation samples":
                second = 40
            case "no test samples":
                second = 60
            case "NaN":
                x[3, 1] = np.nan
                x[7] = np.inf
            case "NaN in test":
                x[55, 0] = np.nan
            case "tokens":
                y = np.repeat(y[:, None], 5, 1)
            case "pixels":
                y = np.tile(y[:, None, None], (1, 2, 2))
            case "one-hot":
                y = np.eye(2)[y]
            case "column":
                y = y[:, None]
            case "halves":
                y = y + 0.5
            case "whole floats":
                y = y.astype(np.float64)
            case "negative":
                y = y - 100
            case "unseen":
                y[45] = 5
            case "one class":
                y = np.zeros_like(y)
            case "words":
                y = np.where(y > 0, "cat", "dog")
            case "lengths":
                return Splits(Split(x[:40], y[:39]), Split(x, y), Split(x, y))
            case "raises":
                raise FileNotFoundError("features.csv")
        parts = (slice(0, first), slice(first, second), slice(second, None))
        return Splits(*(Split(x[part], y[part]) for part in parts))

    def build_model(self, config: Any) -> nn.Module:
        return Answer(self.how, self.outputs)


def done(task: Any, tmp_path: Path, executor: str = "inline", **fields: Any) -> Results:
    fields = {"num_samples": 1, "max_epochs": 1, "max_failures": 0, "searcher": "random", "scheduler": "fifo", **fields}
    experiment = Experiment(name="shapes", task=task, space=SPACE, executor=executor, **fields)
    return run(experiment, tmp_path / "run")


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trial says of itself, where the first check has not ended the run before."""
    monkeypatch.setattr("raytune_hpo.workers.executors.configs_to_try", lambda experiment: [])


def error_of(results: Results) -> str:
    (trial,) = results.ledger.trials.values()
    assert trial.status == "failed"
    assert not trial.epoch  # nothing was reported
    return str(trial.error)


def refused(task: Any, tmp_path: Path, executor: str = "inline", **fields: Any) -> str:
    with pytest.raises(ExperimentError) as raised:
        done(task, tmp_path, executor, **fields)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("how", ["chain", "flat"])
def test_b1_outputs_without_the_axis_of_the_targets_are_refused(how: str, tmp_path: Path) -> None:
    text = "the model answers [40] for targets of shape [40, 1]"
    assert text in error_of(done(Line(how), tmp_path / "lanes"))
    # Alone, as processes train, and as folds.
    assert text in error_of(done(_Alone(how), tmp_path / "alone"))
    assert "the model answers [25] for targets of shape [25, 1]" in error_of(
        done(Line(how), tmp_path / "folds", folds=2)
    )


@dataclass(frozen=True)
class _Alone(Line):
    """Line with a trainer of its own, which is the usual one: never trained as a lane."""

    def trainer(self, data: Any, *, max_epochs: int, device: str | None) -> Any:
        from raytune_hpo.training.trainer import SupervisedTrainer

        return SupervisedTrainer(self, data, max_epochs=max_epochs, device=device)


@pytest.mark.usefixtures("unchecked")
def test_b1_in_processes(tmp_path: Path, ray_session: None) -> None:
    error = error_of(done(Line("chain"), tmp_path, "processes"))
    assert "the model answers [40] for targets of shape [40, 1]" in error


@pytest.mark.usefixtures("unchecked")
def test_b1_range_test_and_hypergradient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from raytune_hpo.probes.lr_range import lr_range_test

    task = Line("chain")
    with pytest.raises(TrialError, match=r"answers \[40\] for targets of shape \[40, 1\]"):
        lr_range_test(task, task.load(0).for_trials(), {"lr": 0.1}, 0, steps=20)
    error = error_of(done(task, tmp_path, hypergradient={}))
    assert "for targets of shape [40, 1]" in error


@pytest.mark.usefixtures("unchecked")
def test_near_b1_one_output_for_two_classes_and_other_answers(tmp_path: Path) -> None:
    wanted = {
        "tuple": "answers a tuple of [40, 2], [40, 2]: it must answer one tensor",
        "dict": "answers a dict of [40, 2]",
        "likeliest": "answers int64 [40]: outputs must be floating-point",
        "short": "answers [39, 2] for targets of shape [40]",
        "wide": "answers [40, 1, 2] for targets of shape [40]",
        "flat when measured": "answers [20] for targets of shape [10]",
    }
    for number, (how, text) in enumerate(wanted.items()):
        assert text in error_of(done(Signs(how), tmp_path / str(number)))
    too_few = error_of(done(Signs(outputs=1), tmp_path / "few"))
    assert "1 logits a sample, for targets with classes 0 to 1: it must answer 2 or more" in too_few
    assert done(Signs(), tmp_path / "right").best is not None


def test_near_b1_evaluate_and_ensembles() -> None:
    from raytune_hpo.training.ensemble_model import predictions
    from raytune_hpo.training.evaluation import evaluate

    task = Line()
    split = task.load(0).test
    for measure in (
        lambda: evaluate(Answer("flat", 1), split, task),
        lambda: predictions(Answer("flat", 1), split, task),
    ):
        with pytest.raises(TrialError, match=r"answers \[10\] for targets of shape \[10, 1\]"):
            measure()


def test_near_b1_max_batch_says_why_no_batch_can_be_trained() -> None:
    from raytune_hpo.probes.max_batch import max_batch

    task = Line("flat")
    space = Experiment(name="x", task=task, space=SPACE).resolved.space
    with pytest.raises(TrialError, match="for targets of shape"):
        max_batch(task, task.load(0).for_trials(), space, 0, limit=4)


def test_near_b1_targets_of_several_numbers_stay(tmp_path: Path) -> None:
    assert done(Line(numbers=3), tmp_path).best is not None


class _Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(1, 3, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layer(x[..., None])


class _Last(nn.Module):
    def forward(self, pair: Any) -> torch.Tensor:
        outputs: torch.Tensor = pair[0][:, -1]
        return outputs


@dataclass(frozen=True)
class Recurrent(Line):
    def build_model(self, config: Any) -> nn.Module:
        return nn.Sequential(_Lstm(), _Last(), nn.Linear(3, 1))


def test_near_b1_a_layer_may_hand_a_tuple_to_the_next_one(tmp_path: Path) -> None:
    assert done(Recurrent(), tmp_path).best is not None


@pytest.mark.usefixtures("unchecked")
def test_a5_targets_per_token_or_pixel_want_logits_for_each(tmp_path: Path) -> None:
    for data, shape in (("tokens", "[40, 5]"), ("pixels", "[40, 2, 2]")):
        error = error_of(done(Signs(data=data), tmp_path / data))
        wanted = shape.replace("[40", "[N, C")
        assert f"answers [40, 2] for targets of shape {shape}: it must answer {wanted}, a logit for each class" in error


REFUSALS = {
    "no training samples": "Signs.load.train = 'no samples': must hold some",
    "no validation samples": "Signs.load.validation = 'no samples': must hold some",
    "NaN": "Signs.load.train.x = nan: sample 3 is the first of 5 values that are not finite",
    "NaN in test": "Signs.load.test.x = nan: sample 5 has a value that is not finite",
    "one-hot": "looks like one-hot classes: write y.argmax(1)",
    "column": "write y[:, 0]",
    "halves": "classes must be whole numbers from 0",
    "negative": "Signs.load.train.y = -100: classes must count from 0",
    "words": "must be numbers: its dtype is <U3",
    "lengths": "x has 40 samples and y has 39",
    "raises": ", in load: FileNotFoundError: features.csv",
}


@pytest.mark.parametrize("data", REFUSALS)
def test_c19_data_that_cannot_be_trained_on(data: str, tmp_path: Path) -> None:
    assert REFUSALS[data] in refused(Signs(data=data), tmp_path)


def test_c19_in_every_executor_no_trial_is_begun(tmp_path: Path, ray_session: None) -> None:
    for executor in ("auto", "processes", "lanes"):
        for data in ("no validation samples", "raises"):
            path = tmp_path / f"{executor} {data}"
            assert REFUSALS[data] in refused(Signs(data=data), path, executor)
            journal = path / "run" / "journal.jsonl"
            assert not journal.exists() or '"suggest"' not in journal.read_text()


def test_c19_and_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from raytune_hpo.cli.main import main

    file = tmp_path / "exp.py"
    file.write_text(
        "from tests.reports.test_shapes_and_data import Signs, SPACE\n"
        "from raytune_hpo import Experiment\n"
        "experiment = Experiment(name='x', task=Signs(data='NaN'), space=SPACE, executor='inline')\n"
    )
    for verb in (
        ["run", str(file), "--run-dir", str(tmp_path / "run")],
        ["lr-range", str(file)],
        ["max-batch", str(file)],
    ):
        assert main(verb) == 2
        assert "values that are not finite" in capsys.readouterr().err


def test_near_c19_what_is_odd_and_can_be_trained_is_said(tmp_path: Path) -> None:
    from raytune_hpo.journal.events import Noticed

    def said(data: str, outputs: int = 2) -> list[str]:
        results = done(Signs(data=data, outputs=outputs), tmp_path / data)
        assert results.best is not None
        return [event.text for event in results.of(Noticed)]

    assert said("unseen", 6) == ["class 5 is in the validation split and in no training sample"]
    assert any("every training target is the same, 0" in text for text in said("one class"))
    assert said("whole floats") == []
    assert said("no test samples") == []


@dataclass(frozen=True)
class Holed(Line):
    """Regression on features with missing values, which its model fills in."""

    missing_values: ClassVar[bool] = True
    infinite: bool = False

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        x = splits.train.x.copy()
        x[2, 0] = np.inf if self.infinite else np.nan
        return dataclasses.replace(splits, train=Split(x, splits.train.y))

    def build_model(self, config: Any) -> nn.Module:
        class Filled(nn.Linear):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x.nan_to_num())

        return Filled(4, 1)


def test_near_c19_missing_values_that_the_model_takes(tmp_path: Path) -> None:
    assert done(Holed(), tmp_path / "missing").best is not None
    assert "Holed.load.train.x = inf: sample 2 has a value" in refused(Holed(infinite=True), tmp_path / "infinite")


@dataclass(frozen=True)
class Pooled(Line):
    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        x, y = splits.train.x, splits.train.y
        return dataclasses.replace(splits, validation=Split(x[:0], y[:0]))


def test_near_c19_folds_need_no_validation_split_but_a_sample_each(tmp_path: Path) -> None:
    assert done(Pooled(), tmp_path / "two", folds=2).best is not None
    assert refused(Pooled(), tmp_path / "many", folds=41).startswith("folds = 41: must be 40 at most")


@dataclass(frozen=True)
class Huge(Line):
    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        y = splits.train.y.astype(np.float64)
        y[5] = 1e300
        return dataclasses.replace(splits, train=Split(splits.train.x, y))


def test_near_c19_a_target_that_32_bits_do_not_hold(tmp_path: Path) -> None:
    assert "Huge.load.train.y = 1e+300: sample 5 has a value that is not finite" in refused(Huge(), tmp_path)
