"""Hypergradients: their values against finite differences, what they do to a trial, and what is refused."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_optimizer import build_optimizer

from raytune_hpo import Float
from raytune_hpo.cli.main import main
from raytune_hpo.settings import Hypergradient
from raytune_hpo.space.parameters import Parameter
from raytune_hpo.tasks import Digits
from raytune_hpo.training.criterion import Criterion
from raytune_hpo.training.hypergradient import HypergradientTrainer
from raytune_hpo.training.hyperparameters import OPTIMIZERS, TRAINER_HYPERPARAMETERS, resolve
from raytune_hpo.training.losses import loss_of
from raytune_hpo.training.models import mlp
from raytune_hpo.training.parameter_groups import groups_of
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.trainer import SupervisedTrainer, fit
from raytune_hpo.training.unit_steps import UnitAdam, shifted, slope
from raytune_hpo.training.unrolled import optimizer_slots, smoothed_loss, validation_loss_after

K = 4
KIND = "classification"
CRITERION = Criterion(Digits())
VALUES = {"lr": 0.02, "momentum": 0.8, "weight_decay": 0.01, "beta1": 0.85, "beta2": 0.97, "label_smoothing": 0.1}
SCALES: dict[str, Parameter] = {
    "lr": Float(1e-4, 10.0, "log"),
    "momentum": Float(0.0, 0.99, "reverse_log"),
    "weight_decay": Float(0.0, 0.1),
    "beta1": Float(0.5, 0.99, "reverse_log"),
    "beta2": Float(0.9, 0.9999, "reverse_log"),
    "label_smoothing": Float(0.0, 0.3),
}
DATA = Digits(split_seed=0).load(0).for_trials()

# (changes to the config, changes to the model's)
VARIANTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(({"optimizer": name}, {}) for name in OPTIMIZERS),
    ({"optimizer": "sgd", "nesterov": True}, {}),
    ({"optimizer": "sgd", "clip_norm": 0.3}, {}),
    ({"optimizer": "adam", "clip_norm": 0.3}, {"batch_norm": True}),
    ({"optimizer": "rmsprop", "momentum": 0.0}, {}),
]


def name_of(variant: tuple[dict[str, Any], dict[str, Any]]) -> str:
    return "-".join(str(v) for part in variant for v in part.values())


class Case:
    """A small classifier in float64, some steps into its training, and what a lookahead needs."""

    def __init__(self, config: dict[str, Any], model: dict[str, Any], warm: int = 2) -> None:
        generator = torch.Generator().manual_seed(7)
        draw = lambda n: torch.randn(n, 5, generator=generator, dtype=torch.float64)  # noqa: E731
        self.batches = [(draw(8), torch.randint(0, 3, (8,), generator=generator)) for _ in range(warm + K)]
        for x, _ in self.batches:
            x[:, 0] = 0.0  # an input that is always 0: its weights' running squares are, too
        self.validation = draw(20), torch.randint(0, 3, (20,), generator=generator)
        self.config = resolve({**VALUES, **config}, TRAINER_HYPERPARAMETERS)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = mlp(5, 3, {"hidden_units": 6, "activation": "tanh", **model}).double()
        self.optimizer = build_optimizer(self.model.parameters(), self.config)
        self.groups = groups_of(Digits(), self.model, self.config)
        self.train(self.batches[:warm])
        self.batches = self.batches[warm:]

    def train(self, batches: list[Any], factors: list[float] | None = None) -> None:
        self.model.train()
        for (x, y), factor in zip(batches, factors or [1.0] * len(batches), strict=True):
            self.optimizer.param_groups[0]["lr"] = self.config["lr"] * factor
            self.optimizer.zero_grad()
            loss_of(self.model(x), y, KIND, self.config["label_smoothing"]).backward()
            if self.config["clip_norm"] > 0:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_norm"])
            self.optimizer.step()

    def loss(self) -> float:
        # In training mode: batch norm goes by the batch, and there is no dropout.
        return loss_of(self.model(self.validation[0]), self.validation[1], KIND).item()

    def after(self, hyper: dict[str, Any]) -> torch.Tensor:
        slots = optimizer_slots(self.model, self.optimizer)
        factors = [1.0, 0.9, 0.8, 0.7]
        return validation_loss_after(
            self.model, slots, self.config, hyper, self.batches, factors, self.validation, CRITERION, self.groups
        )


# The gradient --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
@pytest.mark.parametrize("warm", [0, 2])
def test_unrolled_steps_are_those_of_torch(variant: Any, warm: int) -> None:
    case = Case(*variant, warm=warm)
    found = [case.after({}).item(), case.after({"lr": torch.tensor(VALUES["lr"], requires_grad=True)}).item()]
    case.train(case.batches, [1.0, 0.9, 0.8, 0.7])
    expected = case.loss()
    assert found == pytest.approx([expected, expected], rel=1e-6)  # the lr of the second is a float32


@pytest.mark.parametrize("variant", VARIANTS, ids=name_of)
def test_hypergradient_agrees_with_central_differences(variant: Any) -> None:
    case = Case(*variant)
    for name in (*RULES[case.config["optimizer"]].movable, "label_smoothing"):
        value = case.config[name]
        hyper = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(case.after({name: hyper}), [hyper])
        width = 1e-5 * max(value, 0.1)
        high, low = (case.after({name: value + sign * width}).item() for sign in (1, -1))
        assert abs(gradient.item()) > 1e-7, name
        assert gradient.item() == pytest.approx((high - low) / (2 * width), rel=1e-4), name


def test_all_at_once_are_the_same_as_one_by_one() -> None:
    case = Case({"optimizer": "adamw"}, {})
    names = (*RULES["adamw"].movable, "label_smoothing")
    tensors = [torch.tensor(VALUES[n], dtype=torch.float64, requires_grad=True) for n in names]
    together = torch.autograd.grad(case.after(dict(zip(names, tensors, strict=True))), tensors)
    for name, tensor, gradient in zip(names, tensors, together, strict=True):
        (alone,) = torch.autograd.grad(case.after({name: tensor}), [tensor])
        assert gradient.item() == pytest.approx(alone.item(), rel=1e-9)


def test_looking_ahead_changes_nothing() -> None:
    case = Case({"optimizer": "adam"}, {"batch_norm": True})
    case.model.train()

    def everything() -> Iterator[torch.Tensor]:
        yield from case.model.state_dict().values()
        for slots in case.optimizer.state.values():
            yield from slots.values()

    before = [tensor.clone() for tensor in everything()]
    case.after({"lr": torch.tensor(0.1, requires_grad=True)}).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, everything(), strict=True))
    assert all(p.grad is None or not p.grad.isnan().any() for p in case.model.parameters())
    assert case.model.training


def test_label_smoothing_is_torch_s_own() -> None:
    outputs, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1])
    found = smoothed_loss(outputs, y, None, torch.tensor(0.2))
    assert found.item() == pytest.approx(loss_of(outputs, y, KIND, 0.2).item(), rel=1e-6)


def test_rmsprop_takes_up_momentum_in_mid_training() -> None:
    case = Case({"optimizer": "rmsprop", "momentum": 0.0}, {})
    RULES["rmsprop"].set_hyperparameter(case.optimizer, "momentum", 0.5)
    case.config["momentum"] = 0.5
    expected = case.after({}).item()
    case.train(case.batches, [1.0, 0.9, 0.8, 0.7])
    assert case.loss() == pytest.approx(expected)


# The scale -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCALES)
def test_slope_is_that_of_the_parameter(name: str) -> None:
    parameter, value = SCALES[name], VALUES[name]
    assert isinstance(parameter, Float)
    u = parameter.to_unit(value)
    difference = (parameter.from_unit(u + 1e-6) - parameter.from_unit(u - 1e-6)) / 2e-6
    assert slope(parameter, value) == pytest.approx(difference, rel=1e-5)
    for change, bound in ((2.0, parameter.high), (-2.0, parameter.low)):
        assert shifted(parameter, value, change) == pytest.approx(bound)
        assert parameter.accepts(shifted(parameter, value, change))


def test_direction_is_bounded_and_blind_to_size() -> None:
    tiny, huge = UnitAdam(["lr"]), UnitAdam(["lr"])
    for gradient in (1.0, 2.0, -1.0, 3.0):
        one, other = tiny.direction("lr", gradient * 1e-9), huge.direction("lr", gradient * 1e9)
        assert one == pytest.approx(other)
        assert -1 <= one <= 1
    assert tiny.direction("lr", 1.0) < 0
    assert UnitAdam(["lr"]).direction("lr", 0.0) == 0.0


# The trainer ---------------------------------------------------------------------------------------------


def trainer(epochs: int, space: dict[str, Parameter] | None = None, **settings: Any) -> HypergradientTrainer:
    return HypergradientTrainer(
        Digits(), DATA, max_epochs=epochs, device="cpu", hypergradient=Hypergradient(**settings),
        space_parameters=SCALES if space is None else space,
    )  # fmt: skip


def test_trajectory_is_in_the_metrics_and_within_the_space() -> None:
    narrow: dict[str, Parameter] = {"lr": Float(0.01, 0.05, "log"), "momentum": Float(0.85, 0.95, "reverse_log")}
    trial = trainer(5, narrow, every=3, step=0.2)
    trial.setup({"optimizer": "sgd", "lr": 0.015, "momentum": 0.9, "hidden_units": 16}, 0)
    history = list(fit(trial, 5))
    for name, parameter in narrow.items():
        values = [metrics[name] for metrics in history]
        assert len(set(values)) > 1, values
        assert all(parameter.accepts(value) for value in values), name
    group = trial.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"]) == (history[-1]["lr"], history[-1]["momentum"])
    assert max(metrics["lr"] for metrics in history) > 0.04


def test_moves_only_what_the_config_sets_and_the_optimizer_uses() -> None:
    trial = trainer(1)
    trial.setup({"optimizer": "adam", "lr": 0.01, "momentum": 0.5, "label_smoothing": 0.1}, 0)
    assert set(trial.values) == {"lr", "label_smoothing"}
    trial.setup({"optimizer": "sgd", "lr": 0.01, "momentum": 0.5}, 0)
    assert set(trial.values) == {"lr", "momentum"}


def test_without_hypergradients_to_follow_it_trains_as_any_other() -> None:
    config = {"optimizer": "sgd", "hidden_units": 16}
    moved, plain = trainer(2), SupervisedTrainer(Digits(), DATA, max_epochs=2, device="cpu")
    moved.setup(config, 3)
    plain.setup(config, 3)
    assert list(fit(moved, 2)) == list(fit(plain, 2))


def test_the_schedule_stays_on_top_of_the_moved_rate() -> None:
    trial = trainer(2, {"lr": SCALES["lr"]}, every=1000, rehearsal=0)
    trial.setup({"lr": 0.01, "lr_schedule": "step", "lr_step_epochs": 1, "lr_decay": 0.1, "hidden_units": 16}, 0)
    first, second = fit(trial, 2)
    assert first["lr"] == trial.values["lr"] != 0.01
    assert second["lr"] == pytest.approx(0.1 * first["lr"])


def test_every_step_takes_the_rate_of_its_update_and_of_its_place_in_the_warm_up() -> None:
    trial = trainer(2, {"lr": SCALES["lr"]}, every=1, unroll=1, rehearsal=0)
    trial.setup({"lr": 0.01, "warmup_epochs": 1.0, "hidden_units": 8, "batch_size": 256}, 0)
    first, second = fit(trial, 2)
    assert first["lr"] != second["lr"]
    assert second["lr"] == trial.values["lr"]
    trial.setup({"lr": 0.01, "warmup_epochs": 2.0, "hidden_units": 8, "batch_size": 256}, 0)
    assert next(fit(trial, 1))["lr"] == pytest.approx(0.5 * trial.values["lr"])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_lookahead_takes_the_steps_that_the_trainer_would(momentum: float) -> None:
    trial = trainer(1)
    config = {"optimizer": "sgd", "lr": 0.1, "momentum": momentum, "nesterov": True, "hidden_units": 8}
    trial.setup(config, 0)
    trial._put("momentum", 0.5)  # an optimizer that was built without a momentum has no Nesterov's either
    ahead = trial._lookahead(trial._train.at(torch.arange(64)), 4)
    found = trial._loss(ahead, {}).item()
    for batch in ahead.batches:
        SupervisedTrainer._train_step(trial, [batch], [64])
    assert found == pytest.approx(trial._loss(replace(ahead, batches=[], lr_factors=[]), {}).item(), rel=1e-5)


@pytest.mark.parametrize(("gradient", "worse", "sign"), [(-1, False, 1), (-1, True, 0), (1, False, -1), (1, True, -1)])
def test_the_rate_does_not_rise_while_a_lookahead_makes_the_loss_worse(gradient: int, worse: bool, sign: int) -> None:
    trial = trainer(1, {"lr": SCALES["lr"]})
    trial.setup({"optimizer": "sgd", "lr": 0.01, "hidden_units": 8}, 0)
    hyper = torch.tensor(1.0, requires_grad=True)
    trial._follow({"lr": hyper}, hyper * gradient, worse=worse)
    assert np.sign(round(trial.values["lr"] - 0.01, 9)) == sign


def test_an_unstable_rate_is_left_before_the_first_step() -> None:
    started = {}
    for rehearsal in (0, 40):
        trial = trainer(1, {"lr": SCALES["lr"]}, rehearsal=rehearsal, every=1000)
        trial.setup({"optimizer": "sgd", "lr": 9.0, "hidden_units": 32}, 0)
        started[rehearsal] = next(fit(trial, 1))
    assert started[40]["lr"] < 1.0 < started[0]["lr"]
    assert started[40]["validation_accuracy"] > 0.6 > started[0]["validation_accuracy"]


def test_values_that_a_population_changed_start_from_the_config() -> None:
    config = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "hidden_units": 16}
    source = trainer(4)
    source.setup(config, 0)
    list(fit(source, 2))
    state = source.state_dict()
    same, other = trainer(4), trainer(4)
    same.setup(config, 0)
    same.load_state_dict(state)
    assert same.values == source.values != {"lr": 0.01, "momentum": 0.9}
    other.setup({**config, "lr": 0.3}, 0)
    other.load_state_dict(state)
    assert other.values == {"lr": 0.3, "momentum": source.values["momentum"]}
    assert other.optimizer.param_groups[0]["momentum"] == source.values["momentum"]


def test_a_snapshot_without_hypergradients_leaves_the_config_in_force() -> None:
    plain = SupervisedTrainer(Digits(), DATA, max_epochs=2, device="cpu")
    plain.setup({"optimizer": "sgd", "hidden_units": 16}, 0)
    trial = trainer(2)
    trial.setup({"optimizer": "sgd", "lr": 0.05, "hidden_units": 16}, 0)
    trial.load_state_dict(plain.state_dict())
    assert trial.values == {"lr": 0.05}


# benchmarks/hypergradient.py has more seeds and optimizers, and finds the best rate by a sweep.
@pytest.mark.parametrize(("optimizer", "best", "factor"), [("sgd", 0.3, 10), ("adam", 0.03, 0.01)])
def test_bad_rates_end_near_the_best_fixed_one(optimizer: str, best: float, factor: float) -> None:
    def median(lr: float, settings: Hypergradient | None) -> float:
        scores = []
        for seed in range(3):
            trial = SupervisedTrainer(Digits(), DATA, max_epochs=20, device="cpu") if settings is None else trainer(20)
            trial.setup({"optimizer": optimizer, "lr": lr, "hidden_units": 64}, seed)
            scores.append(list(fit(trial, 20))[-1]["validation_accuracy"])
        return statistics.median(scores)

    fixed = median(best, None)
    assert fixed > 0.95
    assert median(best * factor, None) < fixed - 0.05
    assert median(best * factor, Hypergradient()) >= fixed - 0.01


# Wrong input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("hypergradient={'every': 0}", "hypergradient.every = 0: must be an integer of at least 1"),
        ("hypergradient={'unroll': 0}", "hypergradient.unroll = 0: must be an integer of at least 1"),
        ("hypergradient={'step': 2}", "hypergradient.step = 2: must be a number above 0 and at most 1"),
        ("hypergradient={'rehearsal': -1}", "hypergradient.rehearsal = -1: must be an integer of at least 0"),
        ("hypergradient={'validation_samples': 0}", "hypergradient.validation_samples = 0: must be an integer"),
        ("hypergradient={'parameters': 'lr'}", "hypergradient.parameters = 'lr': must be a list of names"),
        ("hypergradient={'parameters': []}", "hypergradient.parameters = []: must be a list of names"),
        ("hypergradient={'parameters': ['lrr']}", "hypergradient.parameters = 'lrr'"),
        ("hypergradient={'parameters': ['dropout']}", "must be one of lr, momentum"),
        ("hypergradient={'parameters': ['momentum']}", "must be a Float of the space"),
        ("hypergradient={'evry': 3}", "did you mean 'every'"),
        ("hypergradient=True", "must be Hypergradient(parameters, every"),
        ("hypergradient={}, space={'hidden_units': Int(8, 16)}", "the space has no Float among lr"),
        ("hypergradient={}, task=train, metric='loss', mode='min'", "needs a task"),
    ],
)
def test_wrong_settings(fields: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wrong.py"
    defaults = "'name': 'w', 'task': 'digits', 'space': {'lr': Float(1e-4, 1, 'log'), 'dropout': Float(0, 0.5)}"
    path.write_text(
        "from raytune_hpo import *\ndef train(config): ...\n"
        f"experiment = Experiment(**{{{defaults}, **dict({fields})}})\n"
    )
    assert main(["validate", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_non_finite_gradients_are_not_followed() -> None:
    trial = trainer(1, {"lr": SCALES["lr"]})
    trial.setup({"optimizer": "sgd", "lr": 0.01, "hidden_units": 8}, 0)
    hyper = torch.tensor(1.0, requires_grad=True)
    trial._follow({"lr": hyper}, hyper * math.inf, worse=False)
    assert trial.values == {"lr": 0.01}
    assert np.isfinite(next(fit(trial, 1))["validation_loss"])
