from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from raytune_hpo.training.lr_schedules import LRSchedule


def schedule(max_epochs: int = 10, steps: int = 4, **config: Any) -> LRSchedule:
    return LRSchedule({"lr": 0.8, **config}, max_epochs=max_epochs, steps_per_epoch=steps)


def per_epoch(s: LRSchedule, epochs: int) -> list[float]:
    return [s.lr_at(epoch) for epoch in range(epochs)]


def torch_lrs(make: Any, epochs: int) -> list[float]:
    """What torch's own scheduler does, per epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    scheduler = make(optimizer)
    lrs = []
    for _ in range(epochs):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def test_constant() -> None:
    assert per_epoch(schedule(), 3) == [0.8] * 3


def test_step_is_torchs() -> None:
    found = per_epoch(schedule(lr_schedule="step", lr_decay=0.5, lr_step_epochs=3), 10)
    assert found == pytest.approx(torch_lrs(lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.5), 10))


def test_exponential_is_torchs() -> None:
    found = per_epoch(schedule(lr_schedule="exponential", lr_decay=0.5, lr_step_epochs=1), 6)
    assert found == pytest.approx(torch_lrs(lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5), 6))
    slow = schedule(lr_schedule="exponential", lr_decay=0.25, lr_step_epochs=2)
    assert per_epoch(slow, 3) == pytest.approx([0.8, 0.4, 0.2])


def test_cosine_is_torchs_and_stays_at_zero_after_its_end() -> None:
    s = schedule(lr_schedule="cosine")
    assert per_epoch(s, 10) == pytest.approx(torch_lrs(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10), 10))
    assert s.lr_at(15) == pytest.approx(0.0)


def test_warm_up_is_linear_per_step_and_then_the_decay_starts() -> None:
    s = schedule(lr_schedule="step", lr_decay=0.5, lr_step_epochs=1, warmup_epochs=2)
    first = [s.lr_at(epoch, step) for epoch in range(2) for step in range(4)]
    assert first == pytest.approx([0.8 * k / 8 for k in range(1, 9)])
    assert [s.lr_at(2), s.lr_at(3)] == pytest.approx([0.8, 0.4])
    cosine = schedule(lr_schedule="cosine", warmup_epochs=2)
    assert cosine.lr_at(2) == pytest.approx(0.8)
    assert cosine.lr_at(6) == pytest.approx(0.4)


def test_plateau_decays_when_no_better_than_before() -> None:
    s = schedule(lr_schedule="plateau", lr_decay=0.5)
    lrs = []
    for loss in (1.0, 0.9, 0.9, 0.8, math.nan):
        s.end_epoch(loss)
        lrs.append(s.lr_at(0))
    assert lrs == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2])


def test_plateau_is_torchs_with_its_threshold_off() -> None:
    losses = [1.0, 1.1, 1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.95, 0.8, 0.9]
    s = schedule(lr_schedule="plateau", lr_decay=0.5, lr_patience=1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.0)
    for loss in losses:
        s.end_epoch(loss)
        reference.step(loss)
        assert s.lr_at(0) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_state_round_trip() -> None:
    losses = [1.0, 1.1, 1.0, 0.9, 1.0, 1.0]
    whole, first = (schedule(lr_schedule="plateau", lr_patience=1) for _ in range(2))
    for loss in losses[:2]:
        first.end_epoch(loss)
    second = schedule(lr_schedule="plateau", lr_patience=1)
    second.load_state_dict(first.state_dict())
    for loss in losses[2:]:
        second.end_epoch(loss)
    for loss in losses:
        whole.end_epoch(loss)
    assert whole.lr_at(0) < 0.8
    assert second.state_dict() == whole.state_dict()
