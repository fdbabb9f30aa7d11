"""A CNN on images that do not fit into memory: they are read from a memory-mapped file of uint8.

`--megabytes 2000` makes the file 2 GB long.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

from raytune_hpo import Experiment, Float, Splits, Task

SIZE = 48
N_CLASSES = 8


def make_data(folder, megabytes=10, seed=0):
    """Writes images.npy [n, 1, SIZE, SIZE] (uint8) and labels.npy [n]: stripes in eight directions under noise."""
    folder = Path(folder)
    n = int(megabytes * 1_000_000 / (SIZE * SIZE))
    rng = np.random.default_rng(seed)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", dtype=np.uint8, shape=(n, 1, SIZE, SIZE))
    labels = rng.integers(N_CLASSES, size=n)
    yy, xx = (grid.astype(np.float32) for grid in np.mgrid[:SIZE, :SIZE])
    for start in range(0, n, 4096):
        chunk = labels[start : start + 4096]
        k = (len(chunk), 1, 1)
        angle = (np.pi / N_CLASSES * chunk).astype(np.float32).reshape(k)
        freq = rng.uniform(0.5, 1.2, k).astype(np.float32)
        phase = rng.uniform(0, 2 * np.pi, k).astype(np.float32)
        wave = np.sin(freq * (np.cos(angle) * xx + np.sin(angle) * yy) + phase)
        noise = rng.standard_normal(wave.shape, dtype=np.float32)
        images[start : start + len(chunk), 0] = np.clip(128 + 35 * wave + 60 * noise, 0, 255)
    images.flush()
    np.save(folder / "labels.npy", labels)
    return folder


class MemmapDataset(Dataset):
    def __init__(self, folder, train=True, test_fraction=0.1):
        self.images = np.load(Path(folder) / "images.npy", mmap_mode="r")
        self.labels = np.load(Path(folder) / "labels.npy")
        n_test = int(test_fraction * len(self.labels))
        self.start = n_test if train else 0
        self.length = len(self.labels) - n_test if train else n_test

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        image = torch.from_numpy(np.array(self.images[self.start + i])).float() / 255
        return image, int(self.labels[self.start + i])


class CNN(nn.Module):
    def __init__(self, channels=16):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 7, stride=4, padding=3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * channels, N_CLASSES),
        )

    def forward(self, x):
        return self.net(x)


@dataclass(frozen=True)
class Stripes(Task):
    folder: str

    def load(self, seed):
        return Splits(MemmapDataset(self.folder), MemmapDataset(self.folder, train=False))

    def build_model(self, config):
        return CNN()


experiment = Experiment("stripes", Stripes("stripes"), {"lr": Float(1e-4, 1e-1, "log")}, max_epochs=6)
