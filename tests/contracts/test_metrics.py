"""Every metric of the package, and two of a user's, against the metric contract; and what a wrong one is told."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from typing import Any, ClassVar

import pytest
import torch
from own_metrics import MacroF1
from own_metrics import MeanAbsoluteError as OwnAbsoluteError
from torch.nn import functional

from raytune_hpo import (
    AUROC,
    F1,
    R2,
    Accuracy,
    BinaryCrossEntropy,
    CalibrationError,
    CrossEntropy,
    Dice,
    Experiment,
    ExperimentError,
    Float,
    IoU,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Perplexity,
    RootMeanSquaredError,
    TopK,
    Whole,
)
from raytune_hpo.errors import TrialError
from raytune_hpo.objective import Objective
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.testing.metrics import MetricContract
from raytune_hpo.training.scores import Scores

Tensor = torch.Tensor


def shares(targets: Tensor) -> Tensor:
    """[C] logs of the classes' shares."""
    return targets.bincount().div(len(targets)).log()


def mean(targets: Tensor) -> Tensor:
    return targets.mean(0)


def always(targets: Tensor) -> Tensor:
    return torch.ones(targets.shape[1:])


class OfClasses(MetricContract):
    kind = "classification"
    constant = staticmethod(shares)
    ignores = True


class OfLabels(MetricContract):
    kind = "multilabel"
    constant = staticmethod(always)
    ignores = True


class OfNumbers(MetricContract):
    kind = "regression"
    constant = staticmethod(mean)


class TestAccuracy(OfClasses):
    metric = Accuracy()


class TestTopK(OfClasses):
    metric = TopK(2)


class TestCrossEntropy(OfClasses):
    metric = CrossEntropy()


class TestPerplexity(OfClasses):
    metric = Perplexity()


class TestF1(OfClasses):
    metric = F1()


class TestMicroF1(OfClasses):
    metric = F1("micro")


class TestDice(OfClasses):
    metric = Dice()


class TestIoU(OfClasses):
    metric = IoU()


class TestAUROC(OfClasses):
    metric = AUROC()


class TestCalibrationError(OfClasses):
    metric = CalibrationError()
    constant = None

    @pytest.fixture(params=[0, 1])
    def batch(self, request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
        """Of logits that are right, each lane less overconfident than the one before."""
        generator = torch.Generator().manual_seed(request.param)
        logits = 0.3 * torch.randn(101, 4, generator=generator)
        targets = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
        return logits * torch.tensor([30.0, 12.0, 8.0, 5.0, 3.0])[:, None, None], targets


class TestBinaryCrossEntropy(OfLabels):
    metric = BinaryCrossEntropy()
    constant = staticmethod(lambda targets: targets.mean(0).logit())


class TestF1OfLabels(OfLabels):
    metric = F1()


class TestMicroF1OfLabels(OfLabels):
    metric = F1("micro")

    @staticmethod
    def constant(targets: Tensor) -> Tensor:
        """The best of all answers."""
        answers = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=targets.shape[1])))
        metric = F1("micro")
        return max(answers, key=lambda a: metric.finish(metric.sums(a.expand_as(targets), targets).tolist()))


class TestDiceOfMasks(OfLabels):
    metric = Dice()


class TestIoUOfMasks(OfLabels):
    metric = IoU()


class TestAUROCOfLabels(OfLabels):
    metric = AUROC()


class TestMeanSquaredError(OfNumbers):
    metric = MeanSquaredError()


class TestRootMeanSquaredError(OfNumbers):
    metric = RootMeanSquaredError()


class TestR2(OfNumbers):
    metric = R2()


class TestMeanAbsoluteError(OfNumbers):
    metric = MeanAbsoluteError()
    constant = staticmethod(lambda targets: targets.median(0).values)


def median_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().median()


class TestWhole(OfNumbers):
    metric = Whole("median_error", "min", median_error)
    constant = None


class TestOwnMacroF1(MetricContract):
    metric = MacroF1()
    kind = "classification"


class TestOwnAbsoluteError(MetricContract):
    metric = OwnAbsoluteError()
    kind = "regression"


def test_the_definitions() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 1.0]])
    y = torch.tensor([0, 1, 1, 1])
    outputs, targets = torch.tensor([[1.0], [5.0]]), torch.tensor([[2.0], [3.0]])
    found = {
        type(metric): metric.finish(metric.sums(*data).tolist())
        for metrics, data in (
            ((Accuracy(), CrossEntropy(), MacroF1()), (logits, y)),
            ((MeanSquaredError(), RootMeanSquaredError(), MeanAbsoluteError()), (outputs, targets)),
        )
        for metric in metrics
    }
    assert found == {
        Accuracy: 3 / 4,
        CrossEntropy: pytest.approx(-logits.log_softmax(1)[range(4), y].mean().item()),
        MacroF1: pytest.approx((2 / 3 + 4 / 5) / 2),
        MeanSquaredError: 2.5,
        RootMeanSquaredError: math.sqrt(2.5),
        MeanAbsoluteError: 1.5,
    }


class CountedError(RootMeanSquaredError):
    """Says how often it is asked, and is never the same function as another's."""

    name = "counted"
    calls = 0

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        type(self).calls += 1
        return super().sums(outputs, targets)


def test_sums_that_metrics_share_are_computed_once_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(functional, "mse_loss", lambda *a, **b: asked.append(a) or (a[0] - a[1]) ** 2)
    scores = Scores([MeanSquaredError(), RootMeanSquaredError()])
    scores.add(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    assert scores.results() == [{"loss": 4.0, "rmse": 2.0}]
    assert len(asked) == 1
    two = [CountedError(), CountedError()]
    Scores(two).add(torch.ones(1, 1), torch.ones(1, 1))
    assert CountedError.calls == 2


def test_the_device_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores([CrossEntropy(), Accuracy(), MacroF1()], lanes=3)
    scores.add(torch.randn(3, 5, 4), torch.arange(5) % 4, slice(0, 3))
    waits = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: waits.append(1) or tolist(self))
    monkeypatch.setattr(Tensor, "item", None)
    assert len(scores.results()) == 3
    assert waits == [1]


def test_targets_of_several_axes() -> None:
    """An image for an answer, and a class for each pixel."""
    outputs, image = torch.randn(6, 2, 3), torch.randn(6, 2, 3)
    scores = Scores([MeanSquaredError(), MeanAbsoluteError()])
    scores.add(outputs, image)
    errors = outputs - image
    found = {"loss": errors.square().mean().item(), "mae": errors.abs().mean().item()}
    assert scores.results()[0] == pytest.approx(found)
    logits, classes = torch.randn(6, 4, 2, 3), torch.randint(0, 4, (6, 2, 3))
    pixels = Scores([CrossEntropy(), Accuracy()])
    pixels.add(logits, classes)
    right = (logits.argmax(1) == classes).float().mean().item()
    found = {"loss": functional.cross_entropy(logits, classes).item(), "accuracy": right}
    assert pixels.results()[0] == pytest.approx(found)


class FlatError(MeanAbsoluteError):
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().sum((-1, -2))


@pytest.mark.parametrize("lanes", [None, 2])
def test_sums_of_a_wrong_shape_end_the_trial(lanes: int | None) -> None:
    outputs = torch.ones(5, 1) if lanes is None else torch.ones(2, 5, 1)
    with pytest.raises(TrialError, match="the sums of metric mae have shape"):
        Scores([FlatError()], lanes).add(outputs, torch.ones(5, 1), slice(0, 2) if lanes else ...)


def named(name: Any, direction: Any = "max") -> Metric:
    return type("Own", (Accuracy,), {"name": name, "direction": direction})()


class Answers(Digits):
    answer: ClassVar[Any]

    def metrics(self) -> Any:
        return self.answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"validation_f1": "max"}, "task.metrics() = {'validation_f1': 'max'}: must be a sequence of Metric objects"),
        (None, "task.metrics() = None: must be a sequence of Metric objects"),
        ("f1", "task.metrics() = 'f1': must be a sequence of Metric objects"),
        (["f1"], "task.metrics() = 'f1': must be a Metric object"),
        ([MacroF1], "must be a Metric object; write MacroF1()"),
        ([MacroF1(), MacroF1()], "MacroF1.name = 'macro_f1': is another metric's, too"),
        ([named("loss")], "Own.name = 'loss': is the loss's own, which is always reported"),
        ([named("")], "Own.name = '': must be a word, as in validation_WORD"),
        ([named(None)], "Own.name = None: must be a word"),
        ([named("f1", "up")], "Own.direction = 'up': must be 'min' or 'max'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_metrics_of_a_task_are_one_line(answer: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "answer", answer, raising=False)
    with pytest.raises(ExperimentError) as raised:
        Experiment(name="x", task=Answers(), space={"lr": Float(0.01, 0.1)})
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_task_reports_and_optimizes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Digits().reported() == {"validation_accuracy": "max", "validation_loss": "min"}
    monkeypatch.setattr(Answers, "answer", (MacroF1(), Accuracy()), raising=False)
    space = {"lr": Float(0.01, 0.1)}
    own = Experiment(name="x", task=Answers(), space=space)
    assert own.resolved.objective == Objective("validation_macro_f1", "max")
    assert list(Answers().reported()) == ["validation_macro_f1", "validation_accuracy", "validation_loss"]
    with pytest.raises(ExperimentError, match="validation_macro_f1 is better when it is higher"):
        Experiment(name="x", task=Answers(), space=space, mode="min")
    monkeypatch.setattr(Answers, "answer", ())
    assert Experiment(name="x", task=Answers(), space=space).resolved.objective == Objective("validation_loss", "min")


def test_metrics_are_named_without_torch() -> None:
    code = "import sys, raytune_hpo; raytune_hpo.Accuracy(), raytune_hpo.Metric; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
