from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from one_optimizer import build_optimizer

from raytune_hpo.training.hyperparameters import OPTIMIZERS
from raytune_hpo.training.optimizers import restore_optimizer
from raytune_hpo.training.rules import RULES


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor([1.0, -2.0]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_lowers_a_parabola(name: str) -> None:
    p = parameter()
    optimizer = build_optimizer([p], {"optimizer": name})
    assert type(optimizer).__name__.lower() == name
    before = p.detach().square().sum().item()
    for _ in range(5):
        optimizer.zero_grad()
        (p**2).sum().backward()
        optimizer.step()
    assert p.detach().square().sum().item() < before


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"optimizer": "sgd", "lr": 0.5}, {"lr": 0.5, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
        ({"optimizer": "sgd", "nesterov": True}, {"nesterov": True}),
        ({"optimizer": "sgd", "nesterov": True, "momentum": 0.0}, {"nesterov": False, "momentum": 0.0}),
        ({"optimizer": "rmsprop", "beta2": 0.95}, {"alpha": 0.95, "momentum": 0.0}),
        ({"optimizer": "adadelta", "beta2": 0.8}, {"rho": 0.8, "lr": 1.0, "eps": 1e-6}),
        ({"optimizer": "adagrad", "weight_decay": 0.1}, {"weight_decay": 0.1, "eps": 1e-10}),
        ({"optimizer": "adam", "beta1": 0.5, "eps": 1e-5}, {"betas": (0.5, 0.999), "eps": 1e-5, "lr": 1e-3}),
        ({"optimizer": "adamw"}, {"weight_decay": 0.01}),
    ],
)
def test_config_reaches_torch(config: dict[str, Any], expected: dict[str, Any]) -> None:
    group = build_optimizer([parameter()], config).param_groups[0]
    assert {key: group[key] for key in expected} == expected


def test_defaults_are_torchs_own() -> None:
    for name in OPTIMIZERS:
        ours = build_optimizer([parameter()], {"optimizer": name})
        reference = type(ours)([parameter()], lr=ours.defaults["lr"]).defaults  # type: ignore[call-arg]
        different = {k for k in reference if ours.defaults[k] != reference[k]}
        assert different == ({"momentum"} if name == "sgd" else set())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torchs_own(name: str) -> None:
    ours = build_optimizer([one := parameter()], {"optimizer": name, "weight_decay": 0.1})
    own = type(ours).__mro__[1]
    assert own.__module__.startswith("torch.optim")
    options = {k: v for k, v in ours.defaults.items() if k != "decoupled_weight_decay"}
    torchs = own([other := parameter()], **options)
    for optimizer, p in ((ours, one), (torchs, other)):
        for _ in range(5):
            optimizer.zero_grad()
            (p**4).sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
    assert torch.equal(one, other)
    states = [o.state_dict()["state"][0] for o in (ours, torchs)]
    assert states[0].keys() == states[1].keys()
    assert all(states[0][k] is states[1][k] is None or torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_training_imports_no_compiler() -> None:
    program = """
import sys
from raytune_hpo.tasks.linear import LinearExtrapolation
from raytune_hpo.training.hyperparameters import OPTIMIZERS
from raytune_hpo.training.trainer import SupervisedTrainer
task = LinearExtrapolation()
trainer = SupervisedTrainer(task, task.load(0).for_trials(), max_epochs=2, device="cpu")
for name in OPTIMIZERS:
    trainer.setup({"optimizer": name, "clip_norm": 1.0}, 0)
    trainer.train_epoch()
    trainer.load_state_dict(trainer.state_dict())
print([module for module in ("torch._dynamo", "sympy") if module in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_restore_takes_the_moments_and_keeps_the_hyperparameters() -> None:
    p = parameter()
    source = build_optimizer([p], {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.1})
    (p**2).sum().backward()
    source.step()
    target = build_optimizer([parameter()], {"optimizer": "sgd", "momentum": 0.9})
    restore_optimizer(RULES["sgd"], target, source.state_dict())
    assert target.param_groups[0]["momentum"] == 0.9
    assert target.param_groups[0]["weight_decay"] == 0.0
    assert len(target.state_dict()["state"]) == 1


def test_a_state_without_momentum_goes_on_with_some() -> None:
    one, other = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    source = build_optimizer([one], {"optimizer": "rmsprop", "momentum": 0.0})
    target = build_optimizer([other], {"optimizer": "rmsprop", "momentum": 0.9})
    for parameter, optimizer in ((one, source), (other, target)):
        parameter.grad = torch.ones(3)
        optimizer.step() if optimizer is source else restore_optimizer(RULES["rmsprop"], target, source.state_dict())
    target.step()
    assert torch.isfinite(other).all()
