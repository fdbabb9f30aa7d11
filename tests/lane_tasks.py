"""Tasks for the tests of lanes: small parts of real data, models of every kind that lanes meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from raytune_hpo.tasks.cifar10 import Cifar10
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.data import Split, Splits, TrialData
from raytune_hpo.training.hyperparameters import CNN_HYPERPARAMETERS, Hyperparameter
from raytune_hpo.training.models import ACTIVATION_MODULES, cnn

SAMPLES = 203  # not a multiple of any batch size used


def part(task: Any, samples: int = SAMPLES) -> TrialData:
    """The first samples of a task's training data, and 61 to validate on."""
    data = task.load(0)
    return TrialData(
        Split(data.train.x[:samples], data.train.y[:samples]), Split(data.validation.x[:61], data.validation.y[:61])
    )


DROPOUT = {"dropout": Hyperparameter("dropout", "float", 0.0, "of the model", low=0, high=1)}


@dataclass(frozen=True)
class Images(Digits):
    """The digits as images of one channel, for a CNN."""

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)

        def images(split: Split) -> Split:
            return Split(split.x.reshape(-1, 1, 8, 8), split.y)

        return Splits(images(splits.train), images(splits.validation), images(splits.test))

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return cnn((1, 8, 8), 10, config)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return CNN_HYPERPARAMETERS


OF_KERNELS: dict[str, Any] = {"stride": 1, "groups": 1, "pool": "2", "hidden": 0}
POOLS = {"2": (2, 2, 0), "3 by 1": (3, 1, 1)}  # kernel, stride, padding


@dataclass(frozen=True)
class Kernels(Images):
    """Convolutions of every kind, with linear layers behind them or not."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        activation, channels, layers = ACTIVATION_MODULES[config["activation"]], 1, []
        for i in range(config["conv_layers"]):
            kernel, filters = config["kernel_size"], config["filters"] * (2 if i else 1)
            groups = config["groups"] if i and channels % config["groups"] == filters % config["groups"] == 0 else 1
            layers.append(
                nn.Conv2d(channels, filters, kernel, config["stride"] if i else 1, kernel // 2, groups=groups)
            )
            layers += [nn.BatchNorm2d(filters)] if config["batch_norm"] else []
            layers.append(activation())
            layers += [nn.MaxPool2d(*POOLS[config["pool"]])] if config["pool"] in POOLS and i < 2 else []
            layers.append(nn.Dropout(config["dropout"]))
            channels = filters
        features = int(nn.Sequential(*layers, nn.Flatten()).eval()(torch.zeros(1, 1, 8, 8)).shape[1])
        hidden = config["hidden"]
        if hidden:
            layers += [nn.Flatten(), nn.Linear(features, hidden), nn.BatchNorm1d(hidden), activation()]
            layers += [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(config["dropout"])]
        else:
            layers += [nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(hidden or features, 10))

    def model_hyperparameters(self) -> Mapping[str, Any]:
        return {**CNN_HYPERPARAMETERS, **OF_KERNELS}


@dataclass(frozen=True)
class Augmented(Images):
    """Images that are shifted and noisy in training."""

    def augment(self, x: torch.Tensor) -> torch.Tensor:
        shift = int(torch.randint(-1, 2, ()))
        return x.roll(shift, -1) + 0.1 * torch.randn(x.shape, device=x.device)


class Residual(nn.Module):
    """No chain of layers: a sum of two ways, with layer norm, batch norm, dropout, a constant and a frozen weight."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(64, 24)
        self.way = nn.Sequential(
            nn.LayerNorm(24), nn.Linear(24, 24), nn.BatchNorm1d(24), nn.GELU(), nn.Dropout(dropout)
        )
        self.again = nn.Dropout(dropout)
        self.last = nn.Linear(24, 10)
        self.scale = nn.Parameter(torch.full((24,), 0.5), requires_grad=False)
        self.register_buffer("shift", torch.linspace(-0.1, 0.1, 24))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        return self.last(self.again(x + self.way(x)) * self.scale + self.shift)


@dataclass(frozen=True)
class Residuals(Digits):
    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Residual(config["dropout"])

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return DROPOUT


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 12, batch_first=True)
        self.last = nn.Linear(12, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(x.view(-1, 8, 8))[0][:, -1])


@dataclass(frozen=True)
class Sequences(Digits):
    """The rows of the digits one after the other, for an LSTM."""

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Recurrent()

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return {}


class Branch(nn.Module):
    """Goes by its data, which vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x) if x.mean() > 0 else self.last(-x)


@dataclass(frozen=True)
class Branching(Sequences):
    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Branch()


@dataclass(frozen=True)
class BigImages(Cifar10):
    """Noise of CIFAR's shape for its ResNet-18: what a step costs does not depend on the pixels."""

    def load(self, seed: int) -> Splits:
        rng = np.random.default_rng(seed)

        def images(n: int) -> Split:
            return Split(rng.normal(size=(n, 3, 32, 32)).astype(np.float32), rng.integers(0, 10, n))

        return Splits(images(64), images(32), images(1))


TASKS = {
    "digits": Digits(),
    "diabetes": Diabetes(),
    "images": Images(),
    "kernels": Kernels(),
    "augmented": Augmented(),
    "residuals": Residuals(),
    "sequences": Sequences(),
    "branching": Branching(),
}
