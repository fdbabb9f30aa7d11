"""The contract of a rule: torch's class, the rows of lanes and the differentiable update are one optimizer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from one_optimizer import build_optimizer

from raytune_hpo.training.hyperparameters import OPTIMIZERS, TRAINER_HYPERPARAMETERS, resolve
from raytune_hpo.training.lanes.optimizers import Updates
from raytune_hpo.training.optimizers import restore_optimizer
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.rules.rule import Columns, Lists, Rows, Rule

L, P, STEPS = 37, 11, 12  # more lanes than an update takes at a time; a rule may need some steps to show its ways
READ = {name for rule in RULES.values() for name in (*rule.movable, *rule.others)}
rules = pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def resolved(rule: Rule, **config: Any) -> dict[str, Any]:
    return resolve({"optimizer": rule.name, **config}, TRAINER_HYPERPARAMETERS)


def drawn_configs(rule: Rule) -> list[dict[str, Any]]:
    """[L], each with hyperparameters of its own."""
    rng = np.random.default_rng(0)
    return [
        resolved(
            rule,
            lr=float(10 ** rng.uniform(-3, 0)),
            momentum=float(rng.choice([0.0, 0.5, 0.9])),
            nesterov=bool(rng.integers(2)),
            weight_decay=float(rng.choice([0.0, 0.1])),
            beta1=float(rng.uniform(0.5, 0.99)),
            beta2=float(rng.uniform(0.5, 0.999)),
            eps=float(10 ** rng.uniform(-10, -2)),
        )
        for _ in range(L)
    ]


def stepped(optimizer: torch.optim.Optimizer, gradients: torch.Tensor) -> torch.Tensor:
    """The one parameter, [P], after a step for each of the gradients [steps, P]."""
    parameter: torch.Tensor = optimizer.param_groups[0]["params"][0]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach().clone()


def built(config: dict[str, Any], weights: torch.Tensor) -> torch.optim.Optimizer:
    return build_optimizer([torch.nn.Parameter(weights.clone())], config)


def check_that_all_three_agree(rule: Rule) -> None:
    configs = drawn_configs(rule)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(L, P, dtype=torch.float64, generator=generator)
    gradients = torch.randn(STEPS, L, P, dtype=torch.float64, generator=generator)
    lrs = np.array([[c["lr"] * (1 - 0.05 * step) for c in configs] for step in range(STEPS)])
    rows = Rows(weights.clone(), torch.empty(0), torch.zeros(L, P).double(), torch.zeros(L, P).double())
    updates = Updates(rule.name, configs, lrs, [0] * L, weights)
    for step in range(STEPS):
        updates.apply(step, Rows(rows.weights, gradients[step].clone(), rows.first, rows.second))
    for i, config in enumerate(configs):
        torchs = built(config, weights[i])
        weight, slots = weights[i], {}
        for step in range(STEPS):
            torchs.param_groups[0]["lr"] = lrs[step, i]
            own = stepped(torchs, gradients[step : step + 1, i])
            weight, slots = rule.differentiable(weight, gradients[step, i], slots, {**config, "lr": lrs[step, i]})
        close(rows.weights[i], own)
        close(weight, own)
        state = {name: value for name, value in torchs.state_dict()["state"].get(0, {}).items() if value is not None}
        kept = rule.kept_rows(momentum=config["momentum"] > 0)
        assert {*kept.values(), *(["step"] if rule.counts_steps else [])} == {*state}
        for row, name in kept.items():
            close(getattr(rows, row)[i], state[name])
            close(slots[name], state[name])


@rules
def test_all_three_agree(rule: Rule) -> None:
    check_that_all_three_agree(rule)


@rules
@pytest.mark.parametrize("row", ["weights", "first", "second"])
def test_rows_that_are_off_are_seen(rule: Rule, row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if row == "second" and len(rule.state_names) == 1:
        pytest.skip("it has one row")
    own = type(rule).update_rows

    def off(self: Rule, c: Columns, r: Rows) -> None:
        own(self, c, r)
        getattr(r, row).mul_(1 + 1e-9)

    monkeypatch.setattr(type(rule), "update_rows", off)
    with pytest.raises(AssertionError):
        check_that_all_three_agree(rule)


@rules
@pytest.mark.parametrize("result", [0, 1], ids=["weight", "slots"])
def test_a_differentiable_update_that_is_off_is_seen(rule: Rule, result: int, monkeypatch: pytest.MonkeyPatch) -> None:
    own = type(rule).differentiable

    def off(self: Rule, *arguments: Any) -> tuple[torch.Tensor, dict[str, Any]]:
        weight, slots = own(self, *arguments)
        if result == 0:
            return weight * (1 + 1e-9), slots
        return weight, {name: value * (1 + 1e-9) for name, value in slots.items()}

    monkeypatch.setattr(type(rule), "differentiable", off)
    with pytest.raises(AssertionError):
        check_that_all_three_agree(rule)


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.is_fused], ids=lambda rule: rule.name)
def test_the_kernel_of_many_weights_agrees(rule: Rule) -> None:
    """torch's own of fused=True, which has no public name: this fails where torch changes it."""
    generator = torch.Generator().manual_seed(0)
    for config in drawn_configs(rule):
        weights = torch.randn(P, dtype=torch.float64, generator=generator)
        gradients = torch.randn(STEPS, 1, P, dtype=torch.float64, generator=generator)
        torchs = built(config, weights)
        rows = [weights.clone(), torch.zeros(P).double(), torch.zeros(P).double()]
        for step in range(STEPS):
            lr = torchs.param_groups[0]["lr"] = config["lr"] * (1 - 0.05 * step)
            own = stepped(torchs, gradients[step])
            every = (rows[0], gradients[step, 0].clone(), *rows[1:])
            rule.fused_step(config, lr, step + 1, Lists(*(list(row.split(P // 2)) for row in every)))
        close(rows[0], own)
        state = torchs.state_dict()["state"].get(0, {})
        for row, name in rule.kept_rows(momentum=config["momentum"] > 0).items():
            close(rows[1 if row == "first" else 2], state[name])


@rules
def test_padding_stays_zero(rule: Rule) -> None:
    zero = [torch.zeros(L, P) for _ in range(4)]
    updates = Updates(rule.name, drawn_configs(rule), np.ones((STEPS, L)), [0] * L, zero[0])
    for step in range(STEPS):
        updates.apply(step, Rows(*zero))
    assert not any(t.any() for t in zero)


@rules
@pytest.mark.parametrize("name", sorted(READ))
def test_it_reads_what_it_says(rule: Rule, name: str) -> None:
    config = resolved(rule, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.1, beta1=0.8, beta2=0.9, eps=1e-3)
    changed = {**config, name: True if name == "nesterov" else config[name] / 2}
    gradients = torch.randn(STEPS, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one, other = (stepped(built(c, torch.ones(P).double()), gradients) for c in (config, changed))
    assert torch.equal(one, other) == (name not in (*rule.movable, *rule.others))


@rules
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_what_is_set_in_use_holds_as_if_built_and_restored_with_it(rule: Rule, momentum: float) -> None:
    """From the next step on, and for a weight that has had no step yet as well."""
    values = {"momentum": 0.7, "weight_decay": 0.2, "beta1": 0.6, "beta2": 0.8}
    assert {*values} >= {*rule.movable} - {"lr"}
    gradients = torch.randn(STEPS, P, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for taken in (0, 2):
        for name in {*rule.movable} - {"lr"}:
            config = resolved(rule, momentum=momentum, lr=0.1)
            used = built(config, torch.ones(P).double())
            weights = stepped(used, gradients[:taken])
            state = used.state_dict()
            fresh = built({**config, name: values[name]}, weights)
            restore_optimizer(rule, fresh, state)
            rule.set_hyperparameter(used, name, values[name])
            options = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in (used, fresh)]
            assert options[0] == options[1]
            assert torch.equal(stepped(used, gradients[taken:]), stepped(fresh, gradients[taken:]))


@rules
def test_what_it_says_is_known_to_the_house(rule: Rule) -> None:
    assert RULES[rule.name] is rule
    assert {*rule.movable, *rule.others, *rule.defaults} <= {*TRAINER_HYPERPARAMETERS}
    assert {*rule.defaults} <= {*rule.movable, *rule.others}
    assert len(rule.state_names) <= 2
    config = resolve({"optimizer": rule.name}, TRAINER_HYPERPARAMETERS)
    assert {name: config[name] for name in rule.defaults} == rule.defaults


def test_the_optimizers_are_the_rules() -> None:
    assert TRAINER_HYPERPARAMETERS["optimizer"].choices == OPTIMIZERS == tuple(RULES)


def test_rules_need_no_torch() -> None:
    code = "import sys, raytune_hpo.training.rules, raytune_hpo.training.rules.eager; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
