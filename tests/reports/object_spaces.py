"""An experiment file's like whose space holds classes, functions, arrays and objects by name: for test_objects.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raytune_hpo import Choice, Float, Int, Split, Splits, Task, report


def steep(x: float) -> float:
    return 3 * x


def flat(x: float) -> float:
    return x


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = factor


def train(config: dict[str, Any]) -> None:
    assert isinstance(config["data"], np.ndarray)
    assert isinstance(config["loss"], nn.MSELoss)
    assert config["part"]["kept"] is flat
    assert config["act"] in (nn.ReLU, nn.GELU, None)
    loss = config["curve"](config["x"]) + config["part"]["scale"].factor + float(config["data"].sum())
    for _ in range(2):
        report({"loss": loss})


def space(data: Any = (1.0, 2.0)) -> dict[str, Any]:
    return {
        "x": Float(0, 1, step=0.1),
        "act": Choice([nn.ReLU, nn.GELU, None]),
        "curve": Choice([steep, flat]).when("act", "in", [nn.ReLU, nn.GELU, None]),
        "part": {"scale": Choice({"small": Scale(10.0), "large": Scale(20.0)}), "kept": flat},
        "data": np.array(data),
        "loss": nn.MSELoss(),
    }


@dataclass(frozen=True)
class Rings(Task):
    """Two classes, by the distance from the origin; its model is made of what stands in the config."""

    def load(self, seed: int) -> Splits:
        x = np.random.default_rng(seed).normal(size=(120, 2)).astype(np.float32)
        y = (np.square(x).sum(axis=1) > 1.4).astype(np.int64)
        return Splits(Split(x[:80], y[:80]), Split(x[80:100], y[80:100]), Split(x[100:], y[100:]))

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {"act": nn.ReLU, "first": nn.Linear, "units": 8, "scale": None, "centre": np.zeros(2, np.float32)}

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        layers = [Shifted(config["centre"]), config["first"](2, config["units"])]
        layers += [] if config["act"] is None else [config["act"]()]
        return nn.Sequential(*layers, nn.Linear(config["units"], 2))


class Shifted(nn.Module):
    def __init__(self, centre: Any) -> None:
        super().__init__()
        self.register_buffer("centre", torch.as_tensor(centre))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.centre


class Wide(nn.Linear):
    """Linear under another name."""


CENTRES = {"origin": np.zeros(2, np.float32), "aside": np.ones(2, np.float32)}


def rings_space() -> dict[str, Any]:
    return {
        "lr": Float(0.01, 0.1, "log", step=0.01),
        "act": Choice([nn.ReLU, nn.Tanh]),
        "first": Choice([nn.Linear, Wide]),
        "units": Int(4, 6, step=2),
        "centre": Choice(CENTRES),
        "batch_size": 20,
    }
