"""Lanes in half precision train where the solo trainer does, on a GPU; and the rule that vmap lacks, on any device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lane_tasks import part
from torch import nn
from torch.nn import functional

from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
from raytune_hpo.training.lanes.vmap_rules import let_vmap_normalise_halves
from raytune_hpo.training.lanes.vmappable import refusal
from raytune_hpo.training.trainer import SupervisedTrainer

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
    "no statistics": lambda: nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "group norm": lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.PReLU(4), nn.Conv2d(4, 4, 3, padding=1, groups=2)),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.Dropout(0.2)),
    "rms norm": lambda: nn.Sequential(nn.RMSNorm(8), nn.SiLU()),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3, padding=1), nn.AvgPool2d(3, 1, 1), nn.Softplus()),
    "up": lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(8), nn.Softmax(-1)),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
}


class RefusesHalves(nn.Module):
    """In autocast: on a CPU, vmap's rules leave its inputs whole."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if torch.is_autocast_enabled(x.device.type):
            raise RuntimeError("no rule for halves")
        return x


class Branched(nn.Module):
    """No chain of known layers, so that vmap runs it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first, self.layer, self.head = nn.Conv2d(1, 4, 3, padding=1), layer, nn.Linear(256, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x.view(len(x), 1, 8, 8))
        return self.head((x + self.layer(x)).flatten(1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Layered(Digits):
    layer: str = "batch norm"

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Branched(RefusesHalves() if self.layer == "refuses halves" else LAYERS[self.layer]())

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="on a CPU all is in whole precision")
@pytest.mark.parametrize("layer", list(LAYERS))
def test_lanes_are_the_trainer_up_to_rounding(layer: str) -> None:
    task = Layered(layer=layer)
    data = part(task)
    config = {"optimizer": "adam", "lr": 1e-3, "batch_size": 16, "precision": "bfloat16"}
    lanes = FusedTrainer(task, data, max_epochs=4, device="cuda")
    alone = [SupervisedTrainer(task, data, max_epochs=4, device="cuda") for _ in range(3)]
    for i, trainer in enumerate(alone):
        lanes.enter(str(i), config, i)
        trainer.setup(config, i)
    for _ in range(3):
        found, expected = lanes.train_epoch(), [trainer.train_epoch() for trainer in alone]
        for i, metrics in enumerate(expected):
            for name, most in (("train_loss", 0.01), ("validation_loss", 0.01)):
                assert found[str(i)][name] == pytest.approx(metrics[name], rel=0.02, abs=most), (name, i)
    assert lanes.unfusable is None


def test_what_vmap_refuses_in_half_precision_alone_is_tried_in_it() -> None:
    """On a CPU, too, by the function that a stack of a GPU asks."""
    task = Layered(layer="refuses halves")
    trainer = FusedTrainer(task, part(task), max_epochs=2)
    for i in range(2):
        trainer.enter(str(i), {"lr": 1e-3, "batch_size": 16}, i)
    trainer.train_epoch()
    (stack,) = trainer._stacks.values()
    lane, two = stack.lanes[0], stack.data.train.at(torch.arange(2))
    given = (stack._program, lane.described, lane.config, lane.own, two)
    assert refusal(*given) is None
    assert refusal(*given, torch.bfloat16) == "RefusesHalves is not vmappable"


@pytest.mark.parametrize("normalise", [functional.batch_norm, functional.instance_norm])
@pytest.mark.parametrize("training", [True, False])
def test_vmap_normalises_halves(normalise: Callable[..., torch.Tensor], training: bool) -> None:
    let_vmap_normalise_halves()
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, 4, 6, 6, generator=draw, dtype=torch.float64)
    scale, shift, mean = torch.randn(3, 3, 4, generator=draw)
    for dtype in (torch.bfloat16, torch.float32):
        own, alone = (x.to(dtype).requires_grad_() for _ in range(2))
        statistics = [(mean.clone(), torch.ones(3, 4)) for _ in range(2)]

        def one(x: Any, mean: Any, var: Any, scale: Any, shift: Any) -> torch.Tensor:
            return normalise(x, mean, var, scale, shift, training)

        fused = torch.func.vmap(one)(own, *statistics[0], scale, shift)
        each = [one(alone[i], statistics[1][0][i], statistics[1][1][i], scale[i], shift[i]) for i in range(3)]
        assert fused.dtype == dtype
        torch.testing.assert_close(fused, torch.stack(each))
        torch.testing.assert_close(statistics[0], statistics[1])
        (fused.float() ** 3).sum().backward()
        (torch.stack(each).float() ** 3).sum().backward()
        torch.testing.assert_close(own.grad, alone.grad, rtol=0.05 if dtype == torch.bfloat16 else 1e-4, atol=0.05)
