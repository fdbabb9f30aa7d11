"""What a task may bring of its own: data of any form, a loss, predictions, groups of parameters, steps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from raytune_hpo import Digits, ExperimentError, Hyperparameter, Split, Splits, Task, TrialError
from raytune_hpo.training.batches import source_of
from raytune_hpo.training.checkpoint import load_state, save_state
from raytune_hpo.training.evaluation import evaluate
from raytune_hpo.training.resampling import fold_data, resplit
from raytune_hpo.training.trainer import SupervisedTrainer


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def parts(*arrays: Any) -> list[tuple[Any, ...]]:
    """Three parts of 60, 20 and 20 samples."""
    return [tuple(a[start:end] for a in arrays) for start, end in ((0, 60), (60, 80), (80, 100))]


@dataclass(frozen=True)
class Line(Task):
    """A regression with an MLP, whose loss, groups or steps a test replaces."""

    kind: ClassVar = "regression"

    def load(self, seed: int) -> Splits:
        x = rng().normal(size=(100, 5))
        return Splits(*(Split(*part) for part in parts(x, x.sum(1))))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))


def trained(task: Task, config: Mapping[str, Any], epochs: int = 2, seed: int = 3) -> SupervisedTrainer:
    trainer = task.trainer(task.splits(0).for_trials(), max_epochs=10, device="cpu")
    assert isinstance(trainer, SupervisedTrainer)
    trainer.setup(config, seed)
    trainer.reports = [trainer.train_epoch() for _ in range(epochs)]  # type: ignore[attr-defined]
    return trainer


def weights(trainer: SupervisedTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


# Data ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens(Task):
    """Two inputs as a dict, integers among them; classes a token."""

    def load(self, seed: int) -> Splits:
        ids = rng().integers(0, 7, (100, 6))
        scale = rng().uniform(1, 2, size=(100, 1)).astype(np.float32)
        y = np.where(ids == 0, -100, ids % 3)
        made = parts(ids.astype(np.int32), scale, y)
        return Splits(*(Split({"ids": i, "scale": s}, own) for i, s, own in made))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.ModuleDict({"embed": nn.Embedding(7, 4), "head": nn.Linear(4, 3)})

    def predict(self, model: nn.Module, batch: Any) -> torch.Tensor:
        embedded = model["embed"](batch.x["ids"]) * batch.x["scale"][..., None]  # type: ignore[index]
        return model["head"](embedded).transpose(1, 2)  # type: ignore[index,no-any-return]


def test_arrays_come_as_they_are_and_floats_as_the_default_type() -> None:
    task = Tokens()
    batch = source_of(task, task.splits(0).for_trials(), "train", "cpu").at(torch.tensor([3, 1]))  # type: ignore[attr-defined]
    assert batch.x["ids"].dtype == torch.int32
    assert batch.x["scale"].dtype == torch.float64
    assert batch.y.dtype == torch.int64
    assert batch.x["ids"].shape == (2, 6)


def test_classes_a_token_are_scored_one_by_one_and_not_where_there_is_none() -> None:
    task = Tokens()
    trainer = trained(task, {"lr": 0.05, "batch_size": 8}, epochs=6)
    assert trainer.reports[-1]["validation_loss"] < trainer.reports[0]["validation_loss"]  # type: ignore[attr-defined]
    split = task.splits(0).validation
    found = evaluate(trainer.model, split, task)
    with torch.no_grad():
        batch = next(source_of(task, task.splits(0).for_trials(), "validation", "cpu").in_order())
        outputs = task.predict(trainer.model, batch)
    right = (outputs.argmax(1) == batch.y).sum() / (batch.y != -100).sum()
    assert found["accuracy"] == pytest.approx(right.item(), rel=1e-12)
    assert found["loss"] == pytest.approx(functional.cross_entropy(outputs, batch.y).item(), rel=1e-12)


@dataclass(frozen=True)
class Pictures(Digits):
    """uint8 pixels, scaled by `preprocess` with the statistics of the training samples."""

    def load(self, seed: int) -> Splits:
        found = super().load(seed)
        raw = [Split((s.x * 16).astype(np.uint8), s.y) for s in (found.train, found.validation, found.test)]
        return Splits(*raw, statistics={"scale": np.float64(16.0)})

    def preprocess(self, x: Any, statistics: Mapping[str, torch.Tensor]) -> Any:
        return x / statistics["scale"]


def test_what_preprocess_does_equals_what_load_might_have_done() -> None:
    one, other = trained(Digits(), {"lr": 0.01}), trained(Pictures(), {"lr": 0.01})
    for a, b in zip(one.reports, other.reports, strict=True):  # type: ignore[attr-defined]
        assert a == pytest.approx(b, rel=1e-9)
    splits = Pictures().splits(0)
    tested = evaluate(other.model, splits.test, Pictures(), statistics=splits.statistics)
    assert tested == pytest.approx(evaluate(one.model, Digits().splits(0).test, Digits()), rel=1e-9)


def test_large_arrays_are_preprocessed_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(Pictures(), {"lr": 0.01})
    monkeypatch.setattr("raytune_hpo.training.batches.WHOLE_BYTES", 100)
    assert trained(Pictures(), {"lr": 0.01}).reports == whole.reports  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Trees(Line):
    """A dict of arrays as a split, without x and y."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        a, b = rng().normal(size=(2, 100, 5))
        made = parts(a, b, (a.sum(1) > b.sum(1)).astype(np.float32))
        return Splits(*({"a": x, "b": y, "same": same} for x, y, same in made))

    def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        distance = (model(batch["a"]) - model(batch["b"])).square().sum(1)
        return (batch["same"] * distance + (1 - batch["same"]) * (1 - distance).clamp(min=0)).mean()


@pytest.mark.parametrize("whole", [16 << 20, 0])
def test_no_gradient_goes_to_what_preprocesses(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytune_hpo.training.batches.WHOLE_BYTES", whole)
    features = nn.Linear(64, 64)

    class Pretrained(Digits):
        def preprocess(self, x: Any, statistics: Mapping[str, torch.Tensor]) -> Any:
            return torch.relu(features(x))

    trained(Pretrained(), {})
    assert features.weight.grad is None


def test_a_loss_over_a_tree_is_trained_and_measured() -> None:
    trainer = trained(Trees(), {"lr": 0.05}, epochs=5)
    losses = [report["validation_loss"] for report in trainer.reports]  # type: ignore[attr-defined]
    assert losses[-1] < losses[0]
    assert list(trainer.reports[0]) == ["train_loss", "validation_loss", "lr"]  # type: ignore[attr-defined]
    assert Trees().default_metric() == "validation_loss"
    assert evaluate(trainer.model, Trees().splits(0).validation, Trees())["loss"] == pytest.approx(losses[-1])


def test_trees_are_folded_and_split_anew_whole() -> None:
    data = Trees().splits(0).for_trials()
    for found in (*fold_data(Trees(), data, 4, 0), resplit(Trees(), data, 1)):
        rows = np.concatenate([found.train.tree["a"], found.validation.tree["a"]])
        pool = np.concatenate([data.train.tree["a"], data.validation.tree["a"]])
        assert {tuple(row) for row in rows} == {tuple(row) for row in pool}
        both = found.train.tree
        assert ((both["a"].sum(1) > both["b"].sum(1)) == both["same"]).all()


# Losses -------------------------------------------------------------------------------------------------


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    from raytune_hpo.training.criterion import class_weights

    y = np.repeat([0, 1, 3], [50, 5, 10])
    found = class_weights(y, "classification")
    assert found is not None
    assert found[[0, 1, 3]] == pytest.approx(compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=y))
    plain, weighted = (trained(Digits(), {"class_weight": w}, 1) for w in ("none", "balanced"))
    assert not torch.equal(weights(plain), weights(weighted))


def test_class_weights_are_of_training_wherever_x_lies(tmp_path: Path) -> None:
    from raytune_hpo.training.criterion import criterion_of

    np.save(tmp_path / "x.npy", np.zeros((60, 3)))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    train, validation = Split(x, np.repeat([0, 1], [50, 10])), Split(np.zeros((14, 3)), np.repeat([0, 1, 2], [2, 8, 4]))
    for split in (validation, Split(x[:14], validation.y)):
        found = criterion_of(Digits(), train, split, "cpu")
        assert found.weights is not None
        assert found.weights.tolist() == pytest.approx([0.6, 3.0])
        assert found.highest == 2


def test_class_weights_want_the_default_loss() -> None:
    @dataclass(frozen=True)
    class Own(Digits):
        def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            return super().loss(model, batch, config)

    both = (trained(task, {}).reports for task in (Own(), Digits()))  # type: ignore[attr-defined]
    for own, house in zip(*both, strict=True):  # measured in batches of other sizes
        assert own == pytest.approx(house, rel=1e-9)
    with pytest.raises(TrialError, match="class_weight"):
        trained(Own(), {"class_weight": "balanced"})


@dataclass(frozen=True)
class Labels(Task):
    kind: ClassVar = "multilabel"

    def load(self, seed: int) -> Splits:
        x = rng().normal(size=(100, 6))
        return Splits(*(Split(*part) for part in parts(x, (x[:, :3] > 0).astype(np.int64))))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.Linear(6, 3)


def test_labels_have_their_loss_and_metric() -> None:
    trainer = trained(Labels(), {"lr": 0.1, "class_weight": "balanced", "batch_size": 8}, 8)
    assert trainer.reports[-1]["validation_f1"] > 0.9  # type: ignore[attr-defined]
    assert Labels().default_metric() == "validation_f1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda loss: loss.expand(3), r"shape \[3\]: it must answer one number"),
        (lambda loss: loss.item(), "answers a float"),
        (lambda loss: loss.detach(), "does not depend on any parameter"),
        (lambda loss: loss.long(), "answers int64"),
    ],
)
def test_a_loss_that_is_none_is_named(answer: Any, said: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Line):
        def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            found: torch.Tensor = answer(super().loss(model, batch, config))
            return found

    with pytest.raises(TrialError, match=rf"Wrong\.loss .*{said}"):
        trained(Wrong(), {})


# Groups -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grouped(Line):
    groups: ClassVar = ("head",)

    def parameter_groups(self, model: nn.Module, config: Mapping[str, Any]) -> Mapping[str, Any]:
        assert isinstance(model, nn.Sequential)
        return {"head": model[2].parameters()}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_groups_train_as_torchs_groups(optimizer: str) -> None:
    config = {"optimizer": optimizer, "lr": 0.01, "lr_head": 0.003, "weight_decay": 0.1, "weight_decay_head": 0.0}
    trainer = trained(Grouped(), {**config, "momentum": 0.5, "lr_schedule": "cosine", "batch_size": 16}, 2)
    task, kinds = Grouped(), {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    twin = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=10, device="cpu")
    twin.setup({"batch_size": 16}, 3)
    model = twin.model
    assert isinstance(model, nn.Sequential)
    kind: Any = kinds.get(optimizer, torch.optim.RMSprop)
    more = {"momentum": 0.5} if optimizer in ("sgd", "rmsprop") else {}
    more |= {"alpha": 0.99} if optimizer == "rmsprop" else {}
    own = [
        {"params": list(model[2].parameters()), "lr": 0.003, "weight_decay": 0.0},
        {"params": list(model[0].parameters()), "lr": 0.01, "weight_decay": 0.1},
    ]
    plain = kind(own, **more)
    source = twin._train
    for epoch in range(2):
        for group, lr in zip(plain.param_groups, (0.003, 0.01), strict=True):
            group["lr"] = lr * (1 + math.cos(math.pi * epoch / 10)) / 2
        for (index,) in twin._order.epoch():
            plain.zero_grad()
            batch = source.at(index)  # type: ignore[attr-defined]
            functional.mse_loss(model(batch.x), batch.y).backward()
            plain.step()
    torch.testing.assert_close(weights(trainer), torch.cat([p.detach().flatten() for p in model.parameters()]))


def test_weight_decay_on_matrices_leaves_biases_alone() -> None:
    start = trained(Line(), {"optimizer": "sgd"}, 0).model.state_dict()
    config = {"optimizer": "sgd", "lr": 1e-12, "momentum": 0.0, "weight_decay": 1e10, "batch_size": 60}
    after = trained(Line(), {**config, "weight_decay_on": "matrices"}, 1).model.state_dict()
    assert (after["0.weight"] / start["0.weight"]).mean() == pytest.approx(0.99, abs=1e-6)
    torch.testing.assert_close(after["0.bias"], start["0.bias"], rtol=0, atol=1e-9)
    every = trained(Line(), config, 1).model.state_dict()
    assert (every["0.bias"] / start["0.bias"]).mean() == pytest.approx(0.99, abs=1e-6)


def test_groups_are_restored_and_go_on(tmp_path: Any) -> None:
    config = {"lr": 0.01, "lr_head": 0.003, "weight_decay_on": "matrices", "batch_size": 16}
    whole = trained(Grouped(), config, 4)
    half = trained(Grouped(), config, 2)
    save_state(half.state_dict(), tmp_path / "state")
    again = trained(Grouped(), config, 0)
    again.load_state_dict(load_state(tmp_path / "state"))
    assert [again.train_epoch() for _ in range(2)] == whole.reports[2:]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda model: {"tail": model[0].parameters()}, "'tail' is not in groups"),
        (lambda model: {"head": [torch.zeros(1)]}, "no parameter of the model"),
        (lambda model: {"head": model[0].parameters(), "body": model.parameters()}, "is in two groups"),
    ],
)
def test_groups_that_are_none_are_named(found: Any, said: str) -> None:
    @dataclass(frozen=True)
    class Wrong(Line):
        groups: ClassVar = ("head", "body")

        def parameter_groups(self, model: nn.Module, config: Mapping[str, Any]) -> Mapping[str, Any]:
            answer: Mapping[str, Any] = found(model)
            return answer

    with pytest.raises(TrialError, match=said):
        trained(Wrong(), {})


def test_a_groups_hyperparameters_are_known_and_checked() -> None:
    assert {"lr_head", "weight_decay_head", "momentum_head"} <= Grouped().hyperparameters().keys()
    with pytest.raises(ExperimentError, match="lr_head"):
        Grouped().checked_config({"lr_head": -1.0})
    assert "lr_head" not in Grouped().structural_hyperparameters()


# Steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [Line(), Trees()], ids=["line", "tree"])
def test_accumulated_batches_are_one_of_their_size(task: Task) -> None:
    whole = trained(task, {"batch_size": 32, "optimizer": "sgd", "lr": 0.1})
    parts_ = trained(task, {"batch_size": 8, "accumulate": 4, "optimizer": "sgd", "lr": 0.1})
    torch.testing.assert_close(weights(whole), weights(parts_), rtol=1e-12, atol=1e-12)
    for one, other in zip(whole.reports, parts_.reports, strict=True):  # type: ignore[attr-defined]
        assert one == pytest.approx(other, rel=1e-10)


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_reports_between_passes_train_as_one_long_pass_does(steps: int, tmp_path: Any) -> None:
    @dataclass(frozen=True)
    class Short(Line):
        validate_every: ClassVar = steps

    config = {"batch_size": 16, "optimizer": "sgd", "lr": 0.1}  # 4 steps a pass
    by_pass = trained(Line(), config, 2 * steps)
    short = trained(Short(), config, 8)
    torch.testing.assert_close(weights(by_pass), weights(short), rtol=0, atol=0)
    half = trained(Short(), config, 5)
    save_state(half.state_dict(), tmp_path / "state")
    again = trained(Short(), config, 0)
    again.load_state_dict(load_state(tmp_path / "state"))
    assert [again.train_epoch() for _ in range(3)] == short.reports[5:]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Gan(Task):
    """A generator and a discriminator on a ring, with an optimizer each."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        angle = rng().uniform(0, 2 * np.pi, 100)
        return Splits(*(Split(*part) for part in parts(np.stack([np.cos(angle), np.sin(angle)], 1))))

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return {"lr_d": Hyperparameter("lr_d", "float", 1e-3, "of the discriminator", low=0)}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.ModuleDict({"g": nn.Linear(4, 2), "d": nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))})

    def optimizers(self, model: Any, config: Mapping[str, Any]) -> Any:
        lrs = {"g": config["lr"], "d": config["lr_d"]}
        return {name: torch.optim.Adam(model[name].parameters(), lr) for name, lr in lrs.items()}

    def train_step(self, model: Any, batch: Any, optimizer: Any, config: Mapping[str, Any]) -> Any:
        fake = model["g"](torch.randn(len(batch.x), 4))
        optimizer["d"].zero_grad()
        d = functional.softplus(-model["d"](batch.x)).mean() + functional.softplus(model["d"](fake.detach())).mean()
        d.backward()
        optimizer["d"].step()
        optimizer["g"].zero_grad()
        g = functional.softplus(-model["d"](fake)).mean()
        g.backward()
        optimizer["g"].step()
        return {"g": g, "d": d}

    def loss(self, model: Any, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        return functional.softplus(-model["d"](batch.x)).mean()


def test_a_step_of_its_own_with_two_optimizers(tmp_path: Any) -> None:
    config = {"lr": 0.01, "lr_d": 0.02, "lr_schedule": "step", "lr_step_epochs": 1}
    whole = trained(Gan(), config, 4)
    first = whole.reports[0]  # type: ignore[attr-defined]
    assert first["train_g"] == first["train_loss"] != first["train_d"]
    half = trained(Gan(), config, 2)
    rates = {name: o.param_groups[0]["lr"] for name, o in half._optimizers.items()}  # type: ignore[attr-defined]
    assert rates == pytest.approx({"g": 0.005, "d": 0.01})
    save_state(half.state_dict(), tmp_path / "state")
    torch.manual_seed(99)
    again = trained(Gan(), config, 0)
    again.load_state_dict(load_state(tmp_path / "state"))
    assert [again.train_epoch() for _ in range(2)] == whole.reports[2:]  # type: ignore[attr-defined]
