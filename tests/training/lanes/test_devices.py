"""A GPU trains what a CPU does: data orders and masks come from counters, which are the same on both."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lane_tasks import TASKS, part
from test_equality import compared, difference

from raytune_hpo.training.hyperparameters import OPTIMIZERS
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.mixed.template import Template
from raytune_hpo.training.trainer import SupervisedTrainer

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("float64"),
]

BASE: dict[str, Any] = {"optimizer": "adam", "lr": 1e-3, "eps": 1e-3, "batch_size": 29}
CONFIGS: dict[str, dict[str, Any]] = {
    "digits": {**BASE, "hidden_units": 20, "hidden_layers": 2, "dropout": 0.3, "batch_norm": True},
    "images": {**BASE, "filters": 4, "dropout": 0.3},
    "residuals": {**BASE, "dropout": 0.3},
}


def solo(task: str, device: str) -> SupervisedTrainer:
    trainer = SupervisedTrainer(TASKS[task], part(TASKS[task]), max_epochs=3, device=device)
    trainer.setup(CONFIGS[task], 5)
    return trainer


@pytest.mark.parametrize("task", list(CONFIGS))
def test_lanes_and_trainer_on_a_gpu_are_the_trainer_on_a_cpu(task: str) -> None:
    there, here = solo(task, "cuda"), solo(task, "cpu")
    lanes = FusedTrainer(TASKS[task], part(TASKS[task]), max_epochs=3, device="cuda")
    lanes.enter("x", CONFIGS[task], 5)
    for _ in range(2):
        expected = here.train_epoch()
        assert difference(there.train_epoch(), expected) < 1e-8
        assert difference(lanes.train_epoch()["x"], expected) < 1e-8


@pytest.mark.parametrize("task", ["digits", "images"])
def test_a_captured_tick_is_the_tick(task: str) -> None:
    plain, graphs = (
        FusedTrainer(TASKS[task], part(TASKS[task]), max_epochs=9, device="cuda", template=template)
        for template in (Template.of("cuda"), replace(Template.of("cuda"), captures=True))
    )
    for i, optimizer in enumerate(OPTIMIZERS):
        for trainer in (plain, graphs):
            trainer.enter(optimizer, {**CONFIGS[task], "optimizer": optimizer, "batch_size": 8 + i}, i)
    for _ in range(3):
        assert difference(graphs.train_epoch(), plain.train_epoch()) < 1e-10
    costs = [stack._costs for stack in graphs._mixed.values()]
    assert all(own.refused is None and own.replayed for own in costs), [own.refused for own in costs]


@pytest.mark.parametrize("task", ["digits", "residuals"])
def test_a_state_goes_from_a_gpu_to_a_cpu_and_back(task: str) -> None:
    there = FusedTrainer(TASKS[task], part(TASKS[task]), max_epochs=3, device="cuda")
    there.enter("x", CONFIGS[task], 5)
    there.train_epoch()
    state = there.state_dict("x")
    here = solo(task, "cpu")
    here.load_state_dict(state)
    again = FusedTrainer(TASKS[task], part(TASKS[task]), max_epochs=3, device="cuda")
    again.enter("x", CONFIGS[task], 5, here.state_dict())
    expected = there.train_epoch()["x"]
    assert difference(here.train_epoch(), expected) < 1e-8
    assert difference(again.train_epoch()["x"], expected) < 1e-10
    weights = compared(again.state_dict("x"))["model"]
    assert difference(weights, compared(there.state_dict("x"))["model"]) < 1e-10
