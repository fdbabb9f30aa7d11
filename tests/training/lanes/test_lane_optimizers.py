"""The stacked update rules against torch.optim's, step by step, each lane with hyperparameters of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from raytune_hpo.training.hyperparameters import OPTIMIZERS, TRAINER_HYPERPARAMETERS, resolve
from raytune_hpo.training.lanes.optimizers import STATE_NAMES, Rows, Updates, clip
from raytune_hpo.training.optimizers import build_optimizer

L, P, STEPS = 37, 11, 5  # more lanes than an update takes at a time


def configs(optimizer: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [
        resolve(
            {
                "optimizer": optimizer,
                "lr": float(10 ** rng.uniform(-3, 0)),
                "momentum": float(rng.choice([0.0, 0.5, 0.9])),
                "nesterov": bool(rng.integers(2)),
                "weight_decay": float(rng.choice([0.0, 0.1])),
                "beta1": float(rng.uniform(0.5, 0.99)),
                "beta2": float(rng.uniform(0.5, 0.999)),
                "eps": float(10 ** rng.uniform(-10, -2)),
            },
            TRAINER_HYPERPARAMETERS,
        )
        for _ in range(L)
    ]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_torchs(optimizer: str) -> None:
    torch.manual_seed(0)
    lanes = configs(optimizer)
    weights = torch.randn(L, P, dtype=torch.float64)
    gradients = torch.randn(STEPS, L, P, dtype=torch.float64)
    lrs = np.array([[c["lr"] * (1 - 0.1 * step) for c in lanes] for step in range(STEPS)])
    rows = Rows(weights.clone(), torch.empty(0), torch.zeros(L, P).double(), torch.zeros(L, P).double())
    updates = Updates(optimizer, lanes, lrs, [0] * L, weights)
    for step in range(STEPS):
        updates.apply(step, Rows(rows.weights, gradients[step].clone(), rows.first, rows.second))
    for i, config in enumerate(lanes):
        own = torch.nn.Parameter(weights[i].clone())
        torchs = build_optimizer([own], config)
        for step in range(STEPS):
            torchs.param_groups[0]["lr"] = lrs[step, i]
            own.grad = gradients[step, i].clone()
            torchs.step()
        torch.testing.assert_close(rows.weights[i], own.data, rtol=1e-12, atol=1e-14)
        for row, name in zip((rows.first, rows.second), STATE_NAMES[optimizer], strict=False):
            kept = torchs.state[own].get(name)
            if kept is not None:
                torch.testing.assert_close(row[i], kept, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_padding_stays_zero(optimizer: str) -> None:
    lanes = configs(optimizer)
    zero = [torch.zeros(L, P) for _ in range(4)]
    updates = Updates(optimizer, lanes, np.ones((STEPS, L)), [0] * L, zero[0])
    for step in range(STEPS):
        updates.apply(step, Rows(*zero))
    assert not any(t.any() for t in zero)


def test_clipping_is_torchs() -> None:
    gradient = torch.randn(L, P, dtype=torch.float64)
    largest = torch.linspace(0, 5, L, dtype=torch.float64)[:, None]
    clipped = gradient.clone()
    clip(clipped, largest)
    assert torch.equal(clipped[0], gradient[0])  # 0 is no clipping
    for i in range(1, L):
        own = torch.nn.Parameter(torch.zeros(P, dtype=torch.float64))
        own.grad = gradient[i].clone()
        torch.nn.utils.clip_grad_norm_([own], float(largest[i]))
        torch.testing.assert_close(clipped[i], own.grad, rtol=1e-12, atol=0)
