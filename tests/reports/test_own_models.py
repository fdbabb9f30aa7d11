"""Models and data that are no pair of arrays of numbers: what outsiders tried, as it is to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from raytune_hpo import Experiment, Float, Split, Splits, Task, run
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.speed import measured
from raytune_hpo.training.trainer import SupervisedTrainer

LRS = [{"lr": 1e-4 * (i + 1)} for i in range(6)]


@dataclass(frozen=True)
class Own(Task):
    """how: of the model. A regression of the sum of 6 numbers."""

    kind: ClassVar = "regression"
    how: str = "config"

    def load(self, seed: int) -> Splits:
        x = np.random.default_rng(0).normal(size=(90, 6)).astype(np.float32)
        parts = [Split(x[s], x[s].sum(1)) for s in (slice(60), slice(60, 90))]
        return Splits(*parts)

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        class Made(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.config, self.function = dict(config), (lambda x: x.tanh())
                self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 1)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.last(self.function(self.first(x)))  # type: ignore[no-any-return]

        class Noisy(Made):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x) + 0.3 * torch.randn(len(x), 1)

        return Noisy() if self.how == "noisy" else Made()


def lanes(task: Task, configs: list[dict[str, Any]]) -> FusedTrainer:
    together = FusedTrainer(task, task.splits(0).for_trials(), max_epochs=3, device="cpu", chunk=100)
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    return together


def test_a4_what_a_module_keeps_and_does_not_read_is_not_compared() -> None:
    together = lanes(Own(), LRS)
    together.train_epoch()
    assert [len(stack.lanes) for stack in together._stacks.values()] == [6]
    assert together.apart == []


def test_near_a4_a_loss_that_reads_a_word_is_said_to_keep_lanes_apart() -> None:
    @dataclass(frozen=True)
    class Wordy(Own):
        def model_hyperparameters(self) -> Mapping[str, Any]:
            return {"word": "one"}

        def loss(self, model: nn.Module, batch: Any, config: Mapping[str, Any]) -> torch.Tensor:
            return super().loss(model, batch, config) * len(config["word"])

    together = lanes(Wordy(), [{"word": "one"}, {"word": "four"}, {"lr": 0.1}])
    assert together.apart == ["lanes do not share a stack: Wordy.loss reads 'word', which differs"]


def test_near_a4_auto_is_told_why_lanes_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Reading(Own):
        def build_model(self, config: Mapping[str, Any]) -> nn.Module:
            model = super().build_model(config)
            model.function = lambda x: x * config["lr"]  # type: ignore[assignment]
            return model

    monkeypatch.setattr("raytune_hpo.training.speed.SMALLEST_GAIN", 1e9)
    experiment = Experiment(name="x", task=Reading(), space={"lr": Float(1e-4, 1e-1, "log")}).resolved
    found = measured(experiment.recipe(), experiment.recipe().load(), LRS, "cpu", None)
    assert "; lanes of Made do not share a stack: its variable 'function: config['lr']' differs" in str(found.refusal)


def test_a12_what_a_model_draws_where_it_is_measured_is_the_same_in_a_lane_and_alone() -> None:
    task, found = Own("noisy"), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        together = lanes(task, LRS)
        torch.manual_seed(seed + 7)
        found.append(together.train_epoch())
    assert found[0] == found[1]
    for i, config in enumerate(LRS):
        alone = SupervisedTrainer(task, task.splits(0).for_trials(), max_epochs=3, device="cpu")
        alone.setup(config, i)
        assert alone.train_epoch() == pytest.approx(found[0][str(i)], rel=1e-5)


class Sequence(nn.Module):
    """Tied weights, a recurrent layer, and noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 9)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        found, _ = self.cell(x + 0.1 * torch.randn_like(x))
        return self.head(found).transpose(1, 2)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sequences(Task):
    def load(self, seed: int) -> Splits:
        ids = np.random.default_rng(0).integers(0, 9, (60, 6))
        return Splits((ids[:40, :-1], ids[:40, 1:]), (ids[40:, :-1], ids[40:, 1:]))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Sequence()


def test_a20_tied_weights_recurrent_layers_and_noise_are_lanes() -> None:
    together = lanes(Sequences(), LRS)
    reports = together.train_epoch()
    assert together.unfusable is None
    for i, config in enumerate(LRS):
        alone = SupervisedTrainer(Sequences(), Sequences().splits(0).for_trials(), max_epochs=3, device="cpu")
        alone.setup(config, i)
        assert alone.train_epoch() == pytest.approx(reports[str(i)], rel=1e-4)


def test_b21_tokens_stay_integers_in_a_whole_run(tmp_path: Path) -> None:
    experiment = Experiment(
        name="tokens", task=Sequences(), space={"lr": Float(1e-3, 1e-1, "log")}, num_samples=4, max_epochs=2
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    assert [trial.status for trial in results.ledger.trials.values()].count("failed") == 0
    assert results.best is not None
