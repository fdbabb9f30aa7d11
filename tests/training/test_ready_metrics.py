"""The ready metrics against scikit-learn and torch: in unequal batches, of one model and of lanes, with -100 among the
targets, for each token and pixel. What holds for every metric is in tests/contracts."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
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
    ExperimentError,
    IoU,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Perplexity,
    RootMeanSquaredError,
    TopK,
    TrialError,
    Whole,
    WholeMetric,
)
from raytune_hpo.ensembles.selection import LogLoss, figures, metrics_of, per_sample, unmeasured
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.data import Split, TrialData
from raytune_hpo.training.evaluation import evaluate
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.losses import has_unscored, lane_losses, loss_of
from raytune_hpo.training.metrics import NOT_SCORED
from raytune_hpo.training.scores import Scores
from raytune_hpo.training.trainer import SupervisedTrainer
from raytune_hpo.training.unrolled import smoothed_loss
from raytune_hpo.verdicts.naive import naive_value

Tensor = torch.Tensor
Reference = Callable[[Any, Any], float]

SIZES = (1, 30, 7, 0, 64, 25)
N, L = sum(SIZES), 3


def kappa(outputs: Tensor, targets: Tensor, **options: Any) -> float:
    """A function of scikit-learn's in one line."""
    return float(reference.cohen_kappa_score(targets.cpu(), outputs.argmax(1).cpu(), **options))


KAPPA = Whole("kappa", "max", kappa, weights="linear")


def in_batches(metric: Metric, outputs: Tensor, targets: Tensor) -> list[float]:
    """[1 + L] values: of the first lane as one model, of each as a lane. outputs: [L, N, ...]; targets: [N, ...]."""
    one, lanes = Scores([metric]), Scores([metric], lanes=L)
    for part in torch.split(torch.arange(N), SIZES):
        one.add(outputs[0][part], targets[part])
        for at in (slice(0, 2), slice(2, L)):
            lanes.add(outputs[at][:, part], targets[part], at)
    return [found[metric.name] for found in (*one.results(), *lanes.results())]


def in_one_batch(metric: Metric, outputs: Tensor, targets: Tensor) -> float:
    scores = Scores([metric])
    scores.add(outputs, targets)
    return scores.results()[0][metric.name]


def check(metric: Metric, right: Reference, outputs: Tensor, targets: Tensor, places: bool = True) -> None:
    """right: of [n, C] and [n] of all scored places, or of whole targets; as numpy arrays."""

    def wanted(one: Tensor) -> float:
        if targets.is_floating_point() or not places or targets.ndim == one.ndim:
            return right(one.numpy(), targets.numpy())
        scored = targets != NOT_SCORED
        return right(one.movedim(1, -1)[scored].numpy(), targets[scored].numpy())

    found = in_batches(metric, outputs, targets)
    assert found == pytest.approx([wanted(one) for one in (outputs[0], *outputs)], rel=1e-12, abs=1e-14)
    assert len({round(value, 10) for value in found}) == L


# One class a target ------------------------------------------------------------------------------


def softmax(outputs: Any) -> Any:
    return torch.from_numpy(outputs).softmax(1).numpy()


def cross_entropy(outputs: Any, y: Any) -> float:
    return functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(y)).item()


def auroc(outputs: Any, y: Any) -> float:
    p = softmax(outputs)
    return float(reference.roc_auc_score(y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr"))


def calibration(outputs: Any, y: Any) -> float:
    p = softmax(outputs)
    confidence, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(0, 1, 16)
    within = [(confidence > low) & (confidence <= high) for low, high in pairwise(edges)]
    return float(sum(m.mean() * abs(right[m].mean() - confidence[m].mean()) for m in within if m.any()))


OF_CLASSES: list[tuple[Metric, Reference]] = [
    (Accuracy(), lambda o, y: reference.accuracy_score(y, o.argmax(1))),
    (TopK(3), lambda o, y: reference.top_k_accuracy_score(y, o, k=3, labels=range(o.shape[1]))),
    (CrossEntropy(), cross_entropy),
    (Perplexity(), lambda o, y: math.exp(cross_entropy(o, y))),
    (F1(), lambda o, y: reference.f1_score(y, o.argmax(1), average="macro")),
    (F1("micro"), lambda o, y: reference.f1_score(y, o.argmax(1), average="micro")),
    (Dice(), lambda o, y: reference.f1_score(y, o.argmax(1), average="macro")),
    (IoU(), lambda o, y: reference.jaccard_score(y, o.argmax(1), average="macro")),
    (AUROC(), auroc),
    (CalibrationError(), calibration),
    (KAPPA, lambda o, y: kappa(torch.from_numpy(o), torch.from_numpy(y), weights="linear")),
]


@pytest.mark.parametrize("shape", [(), (5,), (4, 3)], ids=["sample", "token", "pixel"])
@pytest.mark.parametrize("unscored", [0.0, 0.3], ids=["all", "some"])
@pytest.mark.parametrize(("metric", "right"), OF_CLASSES, ids=lambda value: getattr(value, "name", ""))
def test_classes(metric: Metric, right: Reference, unscored: float, shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(len(shape))
    y = torch.randint(0, 5, (N, *shape), generator=g)
    outputs = 2 * torch.randn(L, N, 6, *shape, generator=g, dtype=torch.float64)  # one class is never right
    outputs[:, :, 5] -= 20  # nor found
    outputs += functional.one_hot(y, 6).movedim(-1, 1)
    y[torch.rand(y.shape, generator=g) < unscored] = NOT_SCORED
    if metric.name == "auroc":  # scikit-learn wants every class there
        outputs = outputs[:, :, :5]
    check(metric, right, outputs, y)


def test_two_classes_are_ranked_by_the_difference_of_their_logits() -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (N,), generator=g)
    outputs = torch.randn(L, N, 2, generator=g, dtype=torch.float64) + functional.one_hot(y)
    check(AUROC(), auroc, outputs, y)
    far = outputs + 1000 * torch.randn(N, 1, generator=g, dtype=torch.float64)  # of which probabilities know nothing
    assert in_batches(AUROC(), far, y) == pytest.approx(in_batches(AUROC(), outputs, y), rel=1e-12)


def test_what_is_not_there_is_left_out() -> None:
    y = torch.tensor([0, 0, 1, 1])
    outputs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    found = Scores([F1(), IoU(), AUROC()])
    found.add(outputs, y)
    assert found.results()[0] == pytest.approx({"f1": (2 / 3 + 4 / 5) / 2, "iou": (1 / 2 + 2 / 3) / 2, "auroc": 0.75})
    alone = Scores([AUROC()])
    alone.add(outputs, torch.zeros(4, dtype=torch.int64))
    assert math.isnan(alone.results()[0]["auroc"])


def test_a_bin_of_confidence_holds_its_upper_end() -> None:
    """0.5 twice, right, and 0.75, wrong: in bins (0, 0.5] and (0.5, 1]."""
    outputs = torch.tensor([[0.0, 0.0], [0.0, 0.0], [math.log(3), 0.0]], dtype=torch.float64)
    assert in_one_batch(CalibrationError(2), outputs, torch.tensor([0, 0, 1])) == pytest.approx(1.75 / 3)


# Labels and masks --------------------------------------------------------------------------------


def bce(o: Any, y: Any) -> float:
    return functional.binary_cross_entropy_with_logits(torch.from_numpy(o), torch.from_numpy(y)).item()


OF_LABELS: list[tuple[Metric, Reference]] = [
    (BinaryCrossEntropy(), bce),
    (F1(), lambda o, y: float(np.mean([reference.f1_score(t, p) for t, p in zip(y.T, (o > 0).T, strict=True)]))),
    (F1("micro"), lambda o, y: reference.f1_score(y.ravel(), o.ravel() > 0)),
    (AUROC(), lambda o, y: reference.roc_auc_score(y, o, average="macro")),
]


@pytest.mark.parametrize("labels", [1, 6])
@pytest.mark.parametrize(("metric", "right"), OF_LABELS, ids=lambda value: getattr(value, "name", ""))
def test_labels(metric: Metric, right: Reference, labels: int) -> None:
    g = torch.Generator().manual_seed(labels)
    y = (torch.rand(N, labels, generator=g) < torch.linspace(0.1, 0.9, labels)).double()
    outputs = 2 * torch.randn(L, N, labels, generator=g, dtype=torch.float64) + y - 0.5
    check(metric, right, outputs, y)
    assert in_batches(metric, outputs, y.long()) == in_batches(metric, outputs, y)
    outputs = (2 * outputs).round() / 2  # many ties, and logits of 0, which are no
    check(metric, right, outputs, y)


def test_a_label_that_is_not_scored_is_one_place() -> None:
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(N, 4, generator=g) < 0.5).double()
    outputs = torch.randn(L, N, 4, generator=g, dtype=torch.float64)
    hidden = torch.rand(N, 4, generator=g) < 0.3
    masked = y.masked_fill(hidden, NOT_SCORED)
    columns = [(outputs[0][~hidden[:, k], k], y[~hidden[:, k], k]) for k in range(4)]
    f1 = np.mean([reference.f1_score(t, o > 0) for o, t in columns])
    areas = np.mean([reference.roc_auc_score(t, o) for o, t in columns])
    loss = functional.binary_cross_entropy_with_logits(outputs[0][~hidden], y[~hidden]).item()
    for metric, right in ((F1(), f1), (AUROC(), areas), (BinaryCrossEntropy(), loss)):
        assert in_batches(metric, outputs, masked)[:2] == pytest.approx([right, right], rel=1e-12)


@pytest.mark.parametrize("channel", ["both", "outputs", "none"])
@pytest.mark.parametrize(
    ("metric", "right"),
    [(Dice(), reference.f1_score), (IoU(), reference.jaccard_score)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_masks(metric: Metric, right: Callable[..., float], channel: str) -> None:
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(N, 1, 4, 5, generator=g) < 0.3).double()
    outputs = torch.randn(L, N, 1, 4, 5, generator=g, dtype=torch.float64) + y
    outputs = outputs.squeeze(2) if channel == "none" else outputs
    y = y if channel == "both" else y.squeeze(1)
    check(metric, lambda o, t: right(t.ravel(), o.ravel() > 0), outputs, y)


# Numbers -----------------------------------------------------------------------------------------

OF_NUMBERS: list[tuple[Metric, Reference]] = [
    (MeanSquaredError(), lambda o, y: reference.mean_squared_error(y, o)),
    (RootMeanSquaredError(), lambda o, y: math.sqrt(reference.mean_squared_error(y, o))),
    (MeanAbsoluteError(), lambda o, y: reference.mean_absolute_error(y, o)),
    (R2(), lambda o, y: reference.r2_score(y, o)),
]


@pytest.mark.parametrize("shape", [(), (1,), (4,)], ids=str)
@pytest.mark.parametrize(("metric", "right"), OF_NUMBERS, ids=lambda value: getattr(value, "name", ""))
def test_numbers(metric: Metric, right: Reference, shape: tuple[int, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    y = torch.randn(N, *shape, generator=g, dtype=torch.float64)
    check(metric, right, y + torch.randn(L, N, *shape, generator=g, dtype=torch.float64), y)


def test_r2_far_from_zero_and_of_targets_that_are_all_the_same() -> None:
    g = torch.Generator().manual_seed(0)
    y = (torch.randn(N, 2, generator=g) + 100_000).float()  # which leaves float32 2 digits of the deviation
    outputs = y + 0.5 * torch.randn(L, N, 2, generator=g)
    right = reference.r2_score(y.double(), outputs[0].double())
    assert in_batches(R2(), outputs, y)[0] == pytest.approx(right, rel=1e-6)
    same = y.clone()
    same[:, 1] = 100_000.1
    alone = reference.r2_score(y[:, 0].double(), outputs[0][:, 0].double())
    assert in_batches(R2(), outputs, same)[0] == pytest.approx(alone, rel=1e-6)
    assert math.isnan(in_batches(R2(), outputs, torch.full_like(y, 0.1))[0])
    assert R2().baseline(np.full(5, 0.1), np.full(7, 0.1)) is None


# Baselines ---------------------------------------------------------------------------------------


def test_baselines_are_of_the_training_data_and_of_what_is_scored() -> None:
    train = np.array([[0, 0, -100], [0, 1, 2]])
    validation = np.array([[0, 1, 1], [-100, 0, 2]])
    assert Accuracy().baseline(train, validation) == 2 / 5
    assert TopK(2).baseline(train, validation) == 4 / 5
    nats = -(2 * math.log(3 / 5) + 3 * math.log(1 / 5)) / 5
    assert CrossEntropy().baseline(train, validation) == pytest.approx(nats)
    assert Perplexity().baseline(train, validation) == pytest.approx(math.exp(nats))
    assert F1().baseline(train, validation) == pytest.approx(2 * 2 / (5 + 2) / 3)
    assert F1("micro").baseline(train, validation) == 2 / 5
    assert IoU().baseline(train, validation) == pytest.approx(2 / 5 / 3)
    assert AUROC().baseline(train, validation) == 0.5
    nothing = np.full((2, 2), -100)
    for metric in (Accuracy(), TopK(1), CrossEntropy(), Perplexity(), F1(), IoU(), AUROC()):
        assert metric.baseline(train, nothing) is None
        assert metric.baseline(nothing, nothing) is None
    assert F1().baseline(train.clip(0, 1), validation.clip(0, 1)) is None  # labels, or classes?


def test_baselines_of_labels_that_training_shows_one_way() -> None:
    train = np.array([[0, 1, -100], [0, 1, -100], [0, 0, -100]], dtype=np.float32)
    validation = np.array([[1, 1, 1], [0, 1, 1]], dtype=np.float32)
    right = -(math.log(1 / 5) + math.log(4 / 5) + 2 * math.log(2 / 3) + 2 * math.log(1 / 2)) / 6
    assert BinaryCrossEntropy().baseline(train, validation) == pytest.approx(right)
    assert F1().baseline(train, validation) == pytest.approx((0 + 1 + 0) / 3)
    assert Dice().baseline(train, validation) == pytest.approx(2 * 5 / (6 + 5))
    assert Dice().baseline(train, np.zeros((2, 3))) is None


class Labelled(Digits):
    kind = "multilabel"


def test_labels_as_whole_numbers_have_a_baseline() -> None:
    y = (np.random.default_rng(0).random((50, 3)) < 0.3).astype(np.int64)
    found = naive_value(Labelled(), "validation_f1", TrialData(Split(y, y), Split(y[:0], y[:0])))
    assert found == F1().baseline(y.astype(float), y.astype(float))
    assert found is not None


# What metrics are --------------------------------------------------------------------------------

ALL = [metric for metric, _ in (*OF_CLASSES, *OF_LABELS, *OF_NUMBERS)]


@pytest.mark.parametrize("metric", ALL, ids=lambda metric: metric.name)
def test_they_are_equal_to_themselves_in_another_process(metric: Metric) -> None:
    again = pickle.loads(pickle.dumps(metric))
    assert again == metric
    assert hash(again) == hash(metric)
    assert (again.name, again.direction) == (metric.name, metric.direction)
    assert metric != 1


def test_options_tell_metrics_apart() -> None:
    different = [
        Accuracy(),
        TopK(),
        TopK(1),
        F1(),
        F1("micro"),
        CalibrationError(),
        CalibrationError(10),
        Dice(),
        IoU(),
    ]
    different += [KAPPA, Whole("kappa", "max", kappa), Whole("kappa", "max", kappa, flat=False, weights="linear")]
    assert all((a == b) == (a is b) for a in different for b in different)
    assert [metric.name for metric in different[1:5]] == ["top5", "top1", "f1", "f1_micro"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TopK(0), "TopK.k = 0: must be an integer of at least 1"),
        (lambda: CalibrationError(0), "CalibrationError.bins = 0: must be an integer of at least 1"),
        (lambda: F1("weighted"), "F1.average = 'weighted': must be one of macro, micro"),  # type: ignore[arg-type]
        (lambda: Whole("a b", "max", kappa), "Whole.name = 'a b': must be a word"),
        (lambda: Whole("x", "up", kappa), "Whole.direction = 'up': must be one of min, max"),  # type: ignore[arg-type]
        (lambda: Whole("x", "max", "f"), "Whole.function = 'f': must be a function"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_are_one_line(make: Callable[[], Metric], words: str) -> None:
    with pytest.raises(ExperimentError) as raised:
        make()
    assert words in str(raised.value)


@pytest.mark.parametrize("metric", [Accuracy(), TopK(1), CrossEntropy(), CalibrationError()], ids=lambda m: m.name)
def test_metrics_of_classes_refuse_labels(metric: Metric) -> None:
    with pytest.raises(TrialError, match=r"takes one class a target.*found \[5, 3\] for \[5, 3\]"):
        Scores([metric]).add(torch.ones(5, 3), torch.ones(5, 3))


def test_metrics_of_numbers_refuse_what_would_broadcast() -> None:
    for metric in (MeanSquaredError(), MeanAbsoluteError(), R2(), BinaryCrossEntropy(), AUROC(), F1(), Dice()):
        with pytest.raises(TrialError, match=r"takes targets of the outputs' shape; found \[5, 3\] for \[5, 2\]"):
            in_one_batch(metric, torch.ones(5, 3), torch.ones(5, 2))
    with pytest.raises(TrialError, match="metric top5 asks for 5 of 3 classes"):
        Scores([TopK()]).add(torch.ones(5, 3), torch.ones(5, dtype=torch.int64))


def test_metrics_share_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    entropy = functional.cross_entropy
    monkeypatch.setattr(functional, "cross_entropy", lambda *a, **b: asked.append("loss") or entropy(*a, **b))
    topk = Tensor.topk
    monkeypatch.setattr(Tensor, "topk", lambda *a, **b: asked.append("top") or topk(*a, **b))
    add = Tensor.scatter_add_
    monkeypatch.setattr(Tensor, "scatter_add_", lambda *a: asked.append("counts") or add(*a))
    metrics = [CrossEntropy(), Perplexity(), TopK(1), TopK(1), TopK(2), F1(), F1("micro"), Dice(), IoU()]
    Scores(metrics).add(torch.randn(5, 3), torch.arange(5) % 3)
    assert sorted(asked) == ["counts"] * 6 + ["loss"] + ["top"] * 2


def test_nan_outputs_have_no_value_and_no_error() -> None:
    y = torch.arange(N) % 3
    outputs = torch.randn(L, N, 3)
    outputs[0, 5] = math.nan
    for metric in (CrossEntropy(), Perplexity(), CalibrationError(), AUROC(), KAPPA):
        found = in_batches(metric, outputs, y)
        assert [math.isnan(value) for value in found] == [True, True, False, False]
    assert math.isnan(Perplexity().finish([1e6, 1.0]))


# Whole splits ------------------------------------------------------------------------------------


class Seen(WholeMetric):
    name, direction = "seen", "max"

    def __init__(self, flat: bool) -> None:
        self.flat = flat
        self.shapes: list[list[int]] = []

    def value(self, outputs: Tensor, targets: Tensor) -> float:
        self.shapes += [list(outputs.shape), list(targets.shape)]
        return 1.0


def test_flat_or_as_the_task_has_them() -> None:
    outputs, y = torch.randn(L, N, 3, 4), torch.randint(0, 3, (N, 4))
    y[0, :2] = NOT_SCORED
    for metric, targets, shapes in (
        (Seen(True), y, [[4 * N - 2, 3], [4 * N - 2]]),
        (Seen(False), y, [[N, 3, 4], [N, 4]]),
        (Seen(True), outputs[0], [[N, 3, 4], [N, 3, 4]]),
    ):
        assert in_batches(metric, outputs, targets) == [1.0] * (1 + L)
        assert metric.shapes == shapes * (1 + L)


def test_batches_of_unequal_length() -> None:
    g = torch.Generator().manual_seed(0)
    parts = [(torch.randn(6, 3, t, generator=g), torch.randint(0, 3, (6, t), generator=g)) for t in (5, 2)]
    flat = [
        torch.cat([part.movedim(1, -1).flatten(0, 1) for part, _ in parts]),
        torch.cat([y.ravel() for _, y in parts]),
    ]
    scores = Scores([Accuracy(), AUROC()])
    for part in parts:
        scores.add(*part)
    found = scores.results()[0]
    assert found["accuracy"] == pytest.approx((flat[0].argmax(1) == flat[1]).double().mean().item())
    assert found["auroc"] == pytest.approx(AUROC().value(*flat), rel=1e-12)
    whole = Scores([Seen(False)])
    for part in parts:
        whole.add(*part)
    with pytest.raises(TrialError, match=r"its batches differ in shape: \[N, 3, 5\] and \[N, 3, 2\]"):
        whole.results()


def test_a_model_may_answer_the_same_tensor_each_time() -> None:
    same, scores = torch.zeros(2, 2), Scores([AUROC()])
    for logits, y in (([[0.0, 1.0], [0.0, 3.0]], [0, 1]), ([[0.0, 4.0], [0.0, 2.0]], [1, 0])):
        same.copy_(torch.tensor(logits))
        scores.add(same, torch.tensor(y))
    assert scores.results()[0]["auroc"] == 1.0


def test_outputs_that_are_no_tensors_cannot_be_joined() -> None:
    with pytest.raises(TrialError, match=r"metric auroc is of a whole split: it takes outputs .* found dict, Tensor"):
        Scores([AUROC()]).add({"boxes": torch.ones(2, 4)}, torch.tensor([0, 1]))


@pytest.mark.parametrize("answer", [torch.ones(3), "much", None], ids=str)
def test_a_function_that_answers_no_number(answer: Any) -> None:
    scores = Scores([Whole("odd", "max", lambda outputs, targets: answer)])
    scores.add(torch.ones(2, 2), torch.tensor([0, 1]))
    with pytest.raises(TrialError, match=r"metric odd is a .*, not one number"):
        scores.results()


@dataclass(frozen=True)
class Ranked(Digits):
    def metrics(self) -> Sequence[Metric]:
        return AUROC(), F1(), KAPPA


def some_digits(unscored: float = 0.0) -> TrialData:
    data = Digits().load(0)
    rng = np.random.default_rng(0)

    def some(split: Split, n: int) -> Split:
        return Split(split.x[:n], np.where(rng.random(n) < unscored, NOT_SCORED, split.y[:n]))

    return TrialData(some(data.train, 203), some(data.validation, 300))


CONFIGS: list[Mapping[str, Any]] = [
    {"lr": lr, "hidden_units": 8, "label_smoothing": s} for lr, s in ((0.1, 0), (0.02, 0.2))
]


@pytest.mark.parametrize("unscored", [0.0, 0.3])
def test_trainers_and_lanes_report_the_same(unscored: float) -> None:
    task, data = Ranked(), some_digits(unscored)
    fused = FusedTrainer(task, data, max_epochs=2, device="cpu")
    for i, config in enumerate(CONFIGS):
        fused.enter(str(i), config, seed=i)
    fused.train_epoch()
    side_by_side = fused.train_epoch()
    for i, config in enumerate(CONFIGS):
        trainer = SupervisedTrainer(task, data, max_epochs=2, device="cpu")
        trainer.setup(config, seed=i)
        trainer.train_epoch()
        alone = trainer.train_epoch()
        assert set(alone) >= {"validation_auroc", "validation_f1", "validation_kappa"}
        assert side_by_side[str(i)] == pytest.approx(alone, rel=1e-4)
        assert all(map(math.isfinite, alone.values()))
    kept = data.validation.y != NOT_SCORED
    found = evaluate(trainer.model, Split(data.validation.x[kept], data.validation.y[kept]), task)
    assert {f"validation_{name}": value for name, value in found.items()} == pytest.approx(
        {name: value for name, value in alone.items() if name.startswith("validation_")}, rel=1e-6
    )


def test_ensembles_leave_them_out_and_say_so() -> None:
    assert [metric.name for metric in metrics_of(Ranked())] == ["loss", "f1"]
    assert unmeasured(Ranked()) == ("auroc", "kappa")
    assert unmeasured(Digits()) == ()


def test_ensembles_measure_each_token_that_is_scored() -> None:
    g = torch.Generator().manual_seed(0)
    p = torch.randn(N, 3, 4, generator=g, dtype=torch.float64).softmax(1)
    y = torch.randint(0, 3, (N, 4), generator=g)
    y[torch.rand(N, 4, generator=g) < 0.3] = NOT_SCORED
    metrics = (LogLoss(), Accuracy(), F1())
    found = figures(per_sample(p.numpy(), y.numpy(), metrics), metrics)
    scores = Scores([CrossEntropy(), Accuracy(), F1()])
    scores.add(p.log(), y)
    assert found == pytest.approx(scores.results()[0], rel=1e-12)


# Losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [False, True])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["sample", "token"])
def test_losses_of_lanes_are_of_what_is_scored(shape: tuple[int, ...], smoothing: bool) -> None:
    g = torch.Generator().manual_seed(0)
    outputs = torch.randn(L, 17, 4, *shape, generator=g, dtype=torch.float64).requires_grad_()
    y = torch.randint(0, 4, (L, 17, *shape), generator=g)
    by = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)
    some = by if smoothing else None
    # To the bit where all are scored, of either way.
    plain = lane_losses(outputs, y, "classification", some)
    assert torch.equal(plain, lane_losses(outputs, y, "classification", some, unscored=True))
    assert not has_unscored(y, torch.full((2,), -100.0))
    y[torch.rand(y.shape, generator=g) < 0.3] = NOT_SCORED
    y[0, 0] = 1
    assert has_unscored(y)
    found = lane_losses(outputs, y, "classification", some, unscored=True)
    right = [
        loss_of(o, t, "classification", float(s) if smoothing else 0.0) for o, t, s in zip(outputs, y, by, strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(right), rtol=1e-12, atol=0)
    gradients = [
        torch.autograd.grad(losses.sum(), outputs, retain_graph=True)[0] for losses in (found, torch.stack(right))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)
    for o, t, s in zip(outputs, y, by, strict=True):
        torch.testing.assert_close(smoothed_loss(o, t, None, s), loss_of(o, t, "classification", float(s)))


def test_a_lane_without_a_scored_target_leaves_the_others_alone() -> None:
    outputs, y = torch.randn(2, 5, 3, requires_grad=True), torch.tensor([[0, 1, 2, 0, 1], [-100] * 5])
    found = lane_losses(outputs, y, "classification", unscored=True)
    assert found.isnan().tolist() == [False, True]
    assert torch.equal(found[0], lane_losses(outputs[:1], y[:1], "classification")[0])
