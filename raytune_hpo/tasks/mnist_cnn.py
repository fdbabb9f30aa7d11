"""MNIST with a small convolutional network: kernel size, filters, layers, initialisation, activation, dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_hpo.tasks.mnist import CLASSES, Mnist
from raytune_hpo.training.hyperparameters import CNN_HYPERPARAMETERS, Hyperparameter

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MnistCnn(Mnist):
    """A CNN on MNIST. Data, options and splits are those of `Mnist`."""

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return CNN_HYPERPARAMETERS

    def build_model(self, config: Mapping[str, Any]) -> torch.nn.Module:
        from raytune_hpo.training.models import cnn

        return cnn((1, 28, 28), CLASSES, config)
