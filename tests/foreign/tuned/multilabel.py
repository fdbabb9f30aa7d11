"""Which digits are in the picture? Multi-label classification with BCEWithLogitsLoss and macro F1."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import Experiment, Float, Splits, Task


def make_scenes(n, rng, digits, targets):
    """Scenes [n, 1, 16, 16] of one to four digits, and which of the ten are there [n, 10]."""
    scenes = np.zeros((n, 1, 16, 16), dtype=np.float32)
    labels = np.zeros((n, 10), dtype=np.float32)
    corners = [(0, 0), (0, 8), (8, 0), (8, 8)]
    for i in range(n):
        for corner in rng.permutation(4)[: rng.integers(1, 5)]:
            j = rng.integers(len(digits))
            r, c = corners[corner]
            scenes[i, 0, r : r + 8, c : c + 8] = digits[j]
            labels[i, targets[j]] = 1
    scenes += rng.normal(0, 0.05, scenes.shape).astype(np.float32)
    return torch.from_numpy(scenes), torch.from_numpy(labels)


def load_data(n_train=3000, n_test=750, seed=0):
    rng = np.random.default_rng(seed)
    digits, targets = load_digits(return_X_y=True)
    digits = (digits / 16).reshape(-1, 8, 8).astype(np.float32)
    train = make_scenes(n_train, rng, digits[:1300], targets[:1300])
    test = make_scenes(n_test, rng, digits[1300:], targets[1300:])
    return train, test


class Net(nn.Module):
    def __init__(self, channels=16, dropout=0.2):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * 16, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, x):
        return self.classifier(self.features(x))


class Scenes(Task):
    kind = "multilabel"
    model_hyperparameters = {"dropout": 0.2}

    def load(self, seed):
        return Splits(*load_data())

    def build_model(self, config):
        return Net(dropout=config["dropout"])


experiment = Experiment("scenes", Scenes(), {"lr": Float(1e-4, 0.1, "log"), "dropout": Float(0.0, 0.5)}, max_epochs=12)
