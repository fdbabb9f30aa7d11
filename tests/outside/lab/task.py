"""A task with a trainer of its own: signSGD (Bernstein et al. 2018, arXiv:1802.04434), which no rule of ours is."""

from dataclasses import dataclass

import numpy as np

from lab.metric import BalancedAccuracy
from raytune_hpo import Hyperparameter, Split, Splits, Task


@dataclass(frozen=True)
class Blobs(Task):
    samples: int = 300

    def load(self, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(3, size=self.samples)
        x = (rng.normal(size=(self.samples, 4)) + 1.2 * np.eye(4)[y]).astype(np.float32)
        a, b = self.samples // 2, 3 * self.samples // 4
        return Splits(Split(x[:a], y[:a]), Split(x[a:b], y[a:b]), Split(x[b:], y[b:]))

    def model_hyperparameters(self):
        return {"hidden_units": Hyperparameter("hidden_units", "int", 8, "of the one hidden layer", low=1)}

    def build_model(self, config):
        from torch import nn

        width = config["hidden_units"]
        return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def metrics(self):
        return [BalancedAccuracy()]

    def trainer(self, data, *, max_epochs, device):
        from lab.trainer import SignTrainer

        return SignTrainer(self, data)
