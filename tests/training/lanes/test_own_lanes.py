"""Tasks with data, losses, predictions and groups of their own, as lanes: each trains as its trainer would alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lane_device import DEVICE
from test_equality import compared, difference
from torch import nn
from torch.nn import functional

from raytune_hpo import F1, Accuracy, Metric, Split, Splits, Task, WholeMetric
from raytune_hpo.training import counted_draws
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.refusals import NotFusableError
from raytune_hpo.training.lanes.rows import stretches_of
from raytune_hpo.training.trainer import SupervisedTrainer

EPOCHS = 3
Config = dict[str, Any]


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    before, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(before)
    torch.set_num_threads(threads)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def cut(*arrays: Any) -> Splits:
    """47 samples to train on and 19 to validate on."""
    return Splits(
        *(tuple(a[s] for a in arrays) if len(arrays) > 1 else arrays[0][s] for s in (slice(47), slice(47, 66)))
    )


class Block(nn.Module):
    """Attention and dropout that know their causal mask and read their rate from an attribute."""

    def __init__(self, width: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config  # all of it, as people keep it
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)
        self.norm, self.drop = nn.LayerNorm(width), nn.Dropout(config["dropout"])
        self.register_buffer("mask", torch.ones(6, 6, dtype=torch.bool).triu(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        found, _ = self.attention(y, y, y, attn_mask=self.mask, need_weights=False)
        return x + self.drop(found)


class Language(nn.Module):
    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.block = Block(8, config)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.block(self.embed(ids)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Tokens(Task):
    """A language model with tied weights; the classes of some tokens are not scored."""

    def load(self, seed: int) -> Splits:
        text = rng().integers(0, 11, (66, 7))
        y = np.where(text[:, 1:] == 3, -100, text[:, 1:])
        return cut(text[:, :-1], y)

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {"dropout": 0.2}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Language(config)

    def predict(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return model(batch.x).transpose(1, 2)  # type: ignore[no-any-return]


class Coder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(9, 6), nn.Linear(3, 9)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        mean, log_variance = self.down(x).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.up(functional.dropout(code, 0.1, self.training)), mean, log_variance


@dataclass(frozen=True)
class Vae(Task):
    """Its noise is drawn in evaluation, too; beta is a number of the lane."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        x = rng().normal(size=(66, 9))
        return Splits(Split(x[:47]), Split(x[47:]))

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {"beta": 1.0}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Coder()

    def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        found, mean, log_variance = model(batch.x)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        return ((found - batch.x).square().sum(1) + config["beta"] * divergence).mean()


@dataclass(frozen=True)
class Pairs(Task):
    """Two inputs and no targets, as a dict; the loss reads a word of the config."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        a, b = rng().normal(size=(2, 66, 5))
        same = (a.sum(1) > b.sum(1)).astype(np.float32)
        made = [{"a": a[s], "b": b[s], "same": same[s]} for s in (slice(47), slice(47, 66))]
        return Splits(*made)

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {"margin": 1.0, "distance": "squared"}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))

    def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
        apart = (model(batch["a"]) - model(batch["b"])).square().sum(1)
        apart = apart if config["distance"] == "squared" else (apart + 1e-9).sqrt()
        other = (config["margin"] - apart).clamp(min=0)
        return (batch["same"] * apart + (1 - batch["same"]) * other).mean()


@dataclass(frozen=True)
class Labels(Task):
    kind: ClassVar = "multilabel"

    def load(self, seed: int) -> Splits:
        x = rng().normal(size=(66, 6))
        return cut(x, (x[:, :3] + 0.3 * rng().normal(size=(66, 3)) > 0.4).astype(np.int64))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


class Spread(WholeMetric):
    name, direction = "spread", "max"

    def value(self, outputs: torch.Tensor, targets: torch.Tensor) -> float:
        return float(outputs.max() - outputs.min())


@dataclass(frozen=True)
class Places(Task):
    """Classes of pixels, imbalanced ones, by a convolutional model with a way around; raw bytes."""

    groups: ClassVar = ("head",)

    def load(self, seed: int) -> Splits:
        x = rng().integers(0, 256, (66, 1, 6, 6)).astype(np.uint8)
        return cut(x, (x[:, 0] > 200).astype(np.uint8) + (x[:, 0] > 240))

    def preprocess(self, x: Any, statistics: Mapping[str, torch.Tensor]) -> Any:
        return x / 255.0

    def metrics(self) -> list[Metric]:
        return [Accuracy(), F1(), Spread()]

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Around()


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.norm(self.body(x)))
        return self.head(torch.cat([found, x], 1))  # type: ignore[no-any-return]


SGD: Config = {"optimizer": "sgd", "lr": 0.05, "batch_size": 16}
#: A small eps lets Adam take the sign of what is rounding alone, as of a bias before batch norm.
ADAM: Config = {"optimizer": "adam", "lr": 0.01, "batch_size": 16, "eps": 1e-3}
GROUPED: Config = {"lr_head": 0.02, "weight_decay": 0.1, "weight_decay_head": 0.01, "weight_decay_on": "matrices"}
#: Task, configs that are one stack.
STACKS: dict[str, tuple[Task, list[Config]]] = {
    "tokens": (Tokens(), [{**ADAM, "dropout": 0.4}, {**ADAM, "lr": 0.03}, {**SGD, "label_smoothing": 0.1}]),
    "vae": (Vae(), [ADAM, {**ADAM, "beta": 0.1}, {**SGD, "lr": 1e-3, "beta": 4.0}]),
    "pairs": (Pairs(), [ADAM, {**ADAM, "margin": 0.5}, {**SGD, "margin": 2.0, "clip_norm": 0.1}]),
    "labels": (Labels(), [ADAM, SGD, {**ADAM, "weight_decay": 0.1}]),
    "balanced labels": (Labels(), [{**c, "class_weight": "balanced"} for c in (ADAM, SGD)]),
    "places": (Places(), [ADAM, {**ADAM, "lr_head": 0.001}, {**SGD, "momentum_head": 0.5, "momentum": 0.0}]),
    "grouped places": (Places(), [{**c, **GROUPED} for c in (ADAM, {**ADAM, "optimizer": "adamw"}, SGD)]),
    "balanced places": (Places(), [{**c, "class_weight": "balanced"} for c in (ADAM, {**SGD, "label_smoothing": 0.1})]),
    "accumulated": (Pairs(), [{**c, "batch_size": 6, "accumulate": 3} for c in (ADAM, SGD, {**ADAM, "margin": 0.3})]),
    "accumulated places": (Places(), [{**c, "batch_size": 6, "accumulate": 3} for c in (ADAM, SGD)]),
}


def fused(task: Task, chunk: int | None = 1000) -> FusedTrainer:
    return FusedTrainer(task, task.splits(0).for_trials(), max_epochs=EPOCHS + 1, device=DEVICE, chunk=chunk)


def check(task: Task, configs: list[Config], chunk: int | None = 1000, epochs: int = EPOCHS) -> FusedTrainer:
    """Each lane is its solo trainer, whatever torch's generator does meanwhile."""
    together = fused(task, chunk)
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    curves = []
    for epoch in range(epochs):
        torch.manual_seed(epoch)
        curves.append(together.train_epoch())
    for i, config in enumerate(configs):
        alone = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=EPOCHS + 1, device=DEVICE)
        alone.setup(config, i)
        for curve in curves:
            torch.manual_seed(99)
            assert difference(curve[str(i)], alone.train_epoch()) < 1e-10, config
        assert difference(compared(together.state_dict(str(i))), compared(alone.state_dict())) < 1e-10, config
    return together


@pytest.mark.parametrize("name", list(STACKS))
def test_lanes_are_their_solo_trainers(name: str) -> None:
    together = check(*STACKS[name])
    assert together.unfusable is None
    assert len(together._stacks) + len(together._mixed) == 1, "they are one stack"


@pytest.mark.parametrize("name", ["tokens", "vae", "pairs"])
def test_one_by_one_they_are_too(name: str) -> None:
    task, configs = STACKS[name]
    check(task, configs, chunk=1)
    check(task, configs, chunk=2)


@pytest.mark.parametrize("name", list(STACKS))
def test_a_state_goes_from_lanes_to_the_trainer_and_back(name: str) -> None:
    task, configs = STACKS[name]
    together = fused(task)
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    together.train_epoch()
    alone = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=EPOCHS + 1, device=DEVICE)
    alone.setup(configs[0], 7)
    alone.load_state_dict(together.state_dict("0"))
    again = fused(task)
    again.enter("0", configs[0], 8, alone.state_dict())
    expected = together.train_epoch()["0"]
    assert difference(alone.train_epoch(), expected) < 1e-10
    assert difference(again.train_epoch()["0"], expected) < 1e-10


def test_a_copy_goes_on_from_its_donor() -> None:
    task, (config, other, _) = STACKS["places"]
    together = fused(task)
    together.enter("donor", config, seed=0)
    together.train_epoch()
    alone = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=EPOCHS + 1, device=DEVICE)
    alone.setup(other, 5)
    alone.load_state_dict(together.state_dict("donor"))
    together.copy("donor", "copy", other)
    assert difference(together.train_epoch()["copy"], alone.train_epoch()) < 1e-10


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_reports_between_passes(steps: int) -> None:
    @dataclass(frozen=True)
    class Short(Pairs):
        validate_every: ClassVar = steps

    task = Short()
    together = check(task, [ADAM, {**ADAM, "margin": 0.5}])
    together.enter("late", ADAM, seed=4)  # at another place of its pass
    found = together.train_epoch()
    late = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=EPOCHS + 1, device=DEVICE)
    late.setup(ADAM, 4)
    assert difference(found["late"], late.train_epoch()) < 1e-10


def test_a_word_that_the_loss_reads_keeps_lanes_apart_and_one_that_it_does_not_does_not() -> None:
    configs = [ADAM, {**ADAM, "distance": "plain"}, {**ADAM, "margin": 0.2}, {**ADAM, "distance": "plain", "lr": 0.1}]
    together = check(Pairs(), configs)
    assert sorted(len(stack.lanes) for stack in together._stacks.values()) == [2, 2]


def test_a_number_that_the_loss_takes_as_a_number_alone_keeps_lanes_apart() -> None:
    @dataclass(frozen=True)
    class Branching(Pairs):
        def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            found = super().loss(model, batch, config)
            return found * 2 if config["margin"] > 0.7 else found

    together = check(Branching(), [ADAM, {**ADAM, "margin": 0.5}, {**ADAM, "lr": 0.1}])
    assert together.unfusable is None
    assert sorted(len(stack.lanes) for stack in together._stacks.values()) == [1, 2]


def test_a_loss_that_vmap_refuses_is_said_and_trained_one_by_one() -> None:
    @dataclass(frozen=True)
    class Looking(Pairs):
        def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            found = super().loss(model, batch, config)
            return found if float(found.detach()) > 0 else found * 2

    together = check(Looking(), [ADAM, {**ADAM, "margin": 0.5}])
    assert together.unfusable == "Looking.loss is not vmappable"


def test_what_takes_its_steps_itself_is_no_lane() -> None:
    @dataclass(frozen=True)
    class Stepping(Pairs):
        def train_step(self, model: Any, batch: Any, optimizer: Any, config: Any) -> Any:
            return None

    with pytest.raises(NotFusableError, match="takes its steps itself"):
        fused(Stepping())


# They can fail ------------------------------------------------------------------------------------------


def test_noise_of_a_neighbour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    own = counted_draws.words_of

    def of_the_first(keys: Any, *rest: Any) -> torch.Tensor:
        found = own(keys, *rest)
        return found[:, :1].expand_as(found) if isinstance(keys, torch.Tensor) else found

    monkeypatch.setattr(counted_draws, "words_of", of_the_first)
    with pytest.raises(AssertionError):
        check(*STACKS["vae"])


def test_a_value_of_a_neighbour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytune_hpo.training.lanes.program.moving_values", lambda *_: {})
    with pytest.raises(AssertionError):
        check(*STACKS["vae"])


def test_a_group_with_anothers_rate_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "raytune_hpo.training.lanes.stack.stretches_of", lambda structure: stretches_of(structure)[::-1]
    )
    with pytest.raises(AssertionError):
        check(*STACKS["grouped places"])
