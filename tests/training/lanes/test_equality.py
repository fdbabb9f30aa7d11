"""The contract of lanes: each trains as the solo trainer would train it, whoever its neighbours are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from lane_device import DEVICE
from lane_models import TASKS as MODELLED
from lane_tasks import TASKS as OF_LANES
from lane_tasks import part

from raytune_hpo import TrialError
from raytune_hpo.training.hyperparameters import ACTIVATIONS, INITS, LR_SCHEDULES, OPTIMIZERS
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.mixed.placement import Placement
from raytune_hpo.training.lanes.mixed.template import Template
from raytune_hpo.training.trainer import SupervisedTrainer

EPOCHS = 3
TASKS: dict[str, Any] = {**OF_LANES, **MODELLED}
Config = dict[str, Any]


def fused(task: str, chunk: int | None = None, template: Template | None = None) -> FusedTrainer:
    data = part(TASKS[task])
    return FusedTrainer(TASKS[task], data, max_epochs=EPOCHS + 1, device=DEVICE, chunk=chunk, template=template)


def solo(task: str, config: Config, seed: int) -> SupervisedTrainer:
    trainer = SupervisedTrainer(TASKS[task], part(TASKS[task]), max_epochs=EPOCHS + 1, device=DEVICE)
    trainer.setup(config, seed)
    return trainer


def difference(one: Any, other: Any) -> float:
    """The largest difference of two states, relative to the largest value of its kind."""
    if isinstance(other, torch.Tensor):
        assert isinstance(one, torch.Tensor)
        assert one.shape == other.shape
        if not other.is_floating_point():
            return 0.0 if torch.equal(one, other) else math.inf
        one, other = torch.nan_to_num(one.double()), torch.nan_to_num(other.double())
        return float((one - other).abs().max() / max(1e-3, float(other.abs().max()))) if other.numel() else 0.0
    if isinstance(other, Mapping):
        assert one.keys() == other.keys()
        return max((difference(one[key], other[key]) for key in other), default=0.0)
    if isinstance(other, list | tuple):
        return max((difference(a, b) for a, b in zip(one, other, strict=True)), default=0.0)
    if isinstance(other, float) and not math.isnan(other):
        return abs(one - other) / max(1.0, abs(other)) if math.isfinite(other) else 0.0 if one == other else math.inf
    return 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else math.inf


def compared(state: Mapping[str, Any]) -> dict[str, Any]:
    """What has to agree of a state: torch keeps its optimizers' settings beside their state, lanes do not."""
    return {**{k: v for k, v in state.items() if k != "scaler"}, "optimizer": state["optimizer"]["state"]}


def check(task: str, configs: list[Config], tolerance: float, chunk: int | None = None, epochs: int = EPOCHS) -> None:
    together = fused(task, chunk)
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    curves = [together.train_epoch() for _ in range(epochs)]
    for i, config in enumerate(configs):
        alone = solo(task, config, seed=i)
        for curve in curves:
            assert difference(curve[str(i)], alone.train_epoch()) < tolerance, config
        assert difference(compared(together.state_dict(str(i))), compared(alone.state_dict())) < tolerance, config


def variants(base: Config, **options: list[Any]) -> list[Config]:
    """base with each value of each option in turn."""
    return [{**base, name: value} for name, values in options.items() for value in values]


BASE: Config = {"optimizer": "sgd", "lr": 0.05, "hidden_units": 20}
#: What may differ between lanes of one stack, one or several at a time.
OF_A_STACK = [
    *variants(BASE, momentum=[0.0, 0.5], weight_decay=[0.01], label_smoothing=[0.1], clip_norm=[0.1, 10.0], seed=[]),
    {**BASE, "nesterov": True, "momentum": 0.9},
    {**BASE, "nesterov": True, "momentum": 0.0},
    *variants(BASE, dropout=[0.0, 0.3, 0.9], activation=list(ACTIVATIONS), init=list(INITS), hidden_units=[17, 31, 32]),
    *({"optimizer": name, "lr": 0.01, "hidden_units": 20} for name in OPTIMIZERS),
    *({"optimizer": name, "lr": 0.01, "hidden_units": 20, "weight_decay": 0.02} for name in OPTIMIZERS),
    {"optimizer": "rmsprop", "momentum": 0.7, "hidden_units": 19, "lr": 1e-3},
    {"optimizer": "adam", "beta1": 0.5, "beta2": 0.9, "eps": 1e-3, "hidden_units": 20, "lr": 1e-3},
    *variants({**BASE, "lr_step_epochs": 1, "lr_decay": 0.3}, lr_schedule=list(LR_SCHEDULES), warmup_epochs=[0.5, 1.7]),
    {**BASE, "activation": "sigmoid", "dropout": 0.4, "label_smoothing": 0.2, "optimizer": "adamw", "lr": 3e-3},
]


def test_every_option_of_a_stack(float64: None) -> None:
    check("digits", OF_A_STACK, 1e-10)


def test_they_are_one_stack() -> None:
    together = fused("digits")
    for i, config in enumerate(OF_A_STACK):
        together.enter(str(i), config, seed=i)
    assert len({together.group(str(i)) for i in range(len(OF_A_STACK))}) == 1


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_however_many_lanes_a_pass_takes(float64: None, chunk: int) -> None:
    check("digits", OF_A_STACK[::5], 1e-10, chunk)


def test_structures_side_by_side(float64: None) -> None:
    structures = [
        *variants(BASE, hidden_layers=[0, 1, 2, 3], batch_size=[16, 29, 101, 500]),
        {**BASE, "hidden_layers": 3, "hidden_units": 60, "shape": "funnel"},
        {**BASE, "hidden_layers": 2, "units_2": 40},
        *variants({**BASE, "batch_norm": True}, batch_size=[29, 101, 202], hidden_layers=[1, 2], dropout=[0.3]),
        {"optimizer": "adam", "lr": 1e-3, "eps": 1e-3, "batch_norm": True, "hidden_units": 20},
    ]
    check("digits", [config for config in structures for _ in range(2)], 1e-10)


@pytest.mark.parametrize("task", ["diabetes", "residuals", "sequences"])
def test_other_tasks(float64: None, task: str) -> None:
    configs = [{"optimizer": name, "lr": 1e-3, "eps": 1e-3} for name in ("sgd", "adam", "adamw")]
    if task == "residuals":
        configs = [{**config, "dropout": p} for config, p in itertools.product(configs, (0.0, 0.4))]
    check(task, configs, 1e-10)


@pytest.mark.parametrize("task", ["images", "augmented"])
def test_convolutions(float64: None, task: str) -> None:
    base = {"optimizer": "sgd", "lr": 0.02, "filters": 4}
    configs = variants(base, dropout=[0.0, 0.3], activation=["tanh", "sigmoid"], batch_norm=[True], kernel_size=[2, 2])
    check(task, configs, 1e-10, chunk=1000, epochs=2)


def test_float32_curves() -> None:
    check("digits", OF_A_STACK[::2], 2e-3)


# Neighbours -----------------------------------------------------------------------------------------


DIVERGES: Config = {"optimizer": "sgd", "lr": 1e300, "hidden_units": 20}
STEADY: Config = {"optimizer": "adam", "lr": 1e-3, "hidden_units": 20, "dropout": 0.2}


def test_nan_stays_in_its_lane(float64: None) -> None:
    configs = [STEADY, DIVERGES, {**STEADY, "activation": "tanh"}, DIVERGES]
    together = fused("digits")
    for i, config in enumerate(configs):
        together.enter(str(i), config, seed=i)
    for _ in range(EPOCHS):
        last = together.train_epoch()
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        assert [math.isnan(last[str(i)][name]) for i in range(4)] == [False, True, False, True]
    for i in (0, 2):
        alone = solo("digits", configs[i], seed=i)
        for _ in range(EPOCHS):
            alone.train_epoch()
        assert difference(compared(together.state_dict(str(i))), compared(alone.state_dict())) < 1e-10


def test_lanes_come_and_go(float64: None) -> None:
    """Each lane against a solo trainer of its own, through entering, resting, leaving and coming back."""
    together = fused("digits")
    alone: dict[str, SupervisedTrainer] = {}

    def enter(name: str, config: Config, seed: int) -> None:
        together.enter(name, config, seed)
        alone[name] = solo("digits", config, seed)

    def train(*names: str) -> None:
        curves = together.train_epoch(names)
        assert set(curves) == set(names)
        for name in names:
            assert difference(curves[name], alone[name].train_epoch()) < 1e-10

    enter("a", STEADY, 1)
    train("a")
    enter("b", {**STEADY, "activation": "tanh", "optimizer": "sgd"}, 2)
    enter("c", {**STEADY, "hidden_units": 27}, 3)
    train("a", "b", "c")
    train("b")  # the others rest
    train("a", "c")
    kept = together.state_dict("a")
    together.leave("a")
    assert "a" not in together
    enter("d", DIVERGES, 4)
    train("b", "c", "d")
    together.leave("d")
    together.enter("a", STEADY, 1, kept)
    train("c", "a")
    train("a", "b", "c")
    for name in ("a", "b", "c"):
        assert difference(compared(together.state_dict(name)), compared(alone[name].state_dict())) < 1e-10


@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_copy_goes_on_as_a_solo_trainer_from_the_donors_state(float64: None, optimizer: str, momentum: float) -> None:
    donor = {"optimizer": optimizer, "lr": 1e-3, "momentum": momentum, "hidden_units": 20, "dropout": 0.1}
    changed = {**donor, "lr": 2e-3, "momentum": 0.9, "dropout": 0.3, "batch_size": 32, "weight_decay": 0.01}
    together = fused("digits")
    together.enter("donor", donor, seed=1)
    together.enter("other", {**donor, "lr": 3e-3}, seed=2)
    together.train_epoch()
    state = together.state_dict("donor")
    together.copy("donor", "other", changed)
    alone = solo("digits", changed, seed=2)
    alone.load_state_dict(state)
    for _ in range(2):
        assert difference(together.train_epoch()["other"], alone.train_epoch()) < 1e-10
    assert difference(compared(together.state_dict("other")), compared(alone.state_dict())) < 1e-10


def test_a_copy_needs_the_donors_structure() -> None:
    together = fused("digits")
    together.enter("donor", STEADY, seed=1)
    for change in ({"hidden_units": 21}, {"optimizer": "sgd"}, {"activation": "tanh", "batch_norm": True}):
        with pytest.raises(TrialError, match="another structure"):
            together.copy("donor", "other", {**STEADY, **change})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_states_are_exchanged_with_the_solo_trainer(float64: None, optimizer: str) -> None:
    config = {"optimizer": optimizer, "lr": 1e-3, "hidden_units": 20, "dropout": 0.2, "momentum": 0.5}
    alone = solo("digits", config, seed=1)
    alone.train_epoch()
    together = fused("digits")
    together.enter("x", config, 1, alone.state_dict())
    assert together.epoch("x") == 1
    assert difference(together.train_epoch()["x"], alone.train_epoch()) < 1e-10
    back = solo("digits", config, seed=1)
    back.load_state_dict(together.state_dict("x"))
    assert difference(back.train_epoch(), alone.train_epoch()) < 1e-10


def test_another_optimizer_starts_with_fresh_moments(float64: None) -> None:
    before = solo("digits", STEADY, seed=1)
    before.train_epoch()
    config = {**STEADY, "optimizer": "adamw"}
    alone = solo("digits", config, seed=1)
    alone.load_state_dict(before.state_dict())
    together = fused("digits")
    together.enter("x", config, 1, before.state_dict())
    assert difference(together.train_epoch()["x"], alone.train_epoch()) < 1e-10


def test_a_state_of_another_model_is_refused() -> None:
    together = fused("digits")
    with pytest.raises(TrialError, match="does not fit"):
        together.enter("x", {**STEADY, "hidden_units": 21}, 1, solo("digits", STEADY, 1).state_dict())
    assert "x" not in together


def test_the_outer_random_state_is_left_alone() -> None:
    torch.manual_seed(7)
    together = fused("residuals")
    for i in range(3):
        together.enter(str(i), {"dropout": 0.5}, seed=i)
    together.train_epoch()
    drawn = torch.rand(())
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(()))


# What cannot be fused -------------------------------------------------------------------------------


def test_what_vmap_refuses_is_trained_lane_by_lane_and_says_so() -> None:
    together = fused("routing")
    together.enter("x", {}, 0)
    together.train_epoch()
    assert together.unfusable == "Routing is not vmappable"


# Memory ---------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_pass_and_loses_nothing(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_hpo.training.lanes.program import ChainProgram

    run = ChainProgram._run
    refused: list[int] = []

    def fitting(self: Any, x: torch.Tensor, weights: Any, lanes: Any, *, training: bool) -> torch.Tensor:
        out = run(self, x, weights, lanes, training=training)
        if training and len(lanes) > 2:
            refused.append(len(lanes))
            raise torch.OutOfMemoryError("simulated, after dropout has drawn")
        return out

    monkeypatch.setattr(ChainProgram, "_run", fitting)
    check("digits", [{**STEADY, "lr": 1e-3 * (i + 1), "accumulate": 2} for i in range(7)], 1e-10, chunk=1000)
    assert refused == [7, 3]


def test_out_of_memory_of_one_lane_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_hpo.training.lanes.program import ChainProgram

    def never(*_: Any, **__: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(ChainProgram, "_run", never)
    together = fused("digits")
    together.enter("x", {**STEADY, "accumulate": 2}, 0)
    with pytest.raises(torch.OutOfMemoryError):
        together.train_epoch()


@pytest.mark.parametrize("fits", [0, 2])
def test_a_placement_that_does_not_fit_takes_fewer(float64: None, fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    init = Placement.__init__

    def fitting(self: Placement, task: Any, lanes: Any, *rest: Any) -> None:
        if len(lanes) > fits:
            raise torch.OutOfMemoryError("simulated")
        init(self, task, lanes, *rest)

    monkeypatch.setattr(Placement, "__init__", fitting)
    configs = [{**STEADY, "batch_size": size} for size in (16, 101, 29, 64, 64)]
    if fits:
        check("digits", configs, 1e-10)
    else:
        with pytest.raises(torch.OutOfMemoryError):
            check("digits", configs, 1e-10)
