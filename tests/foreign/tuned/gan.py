"""A GAN that learns eight Gaussians on a ring."""

import math

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import Experiment, Float, Splits, Task

N_MODES = 8
STD = 0.05


def make_ring(n, seed=0):
    """Points [n, 2] of eight Gaussians around a circle of radius 1."""
    rng = np.random.default_rng(seed)
    angles = 2 * math.pi * rng.integers(N_MODES, size=n) / N_MODES
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) + STD * rng.normal(size=(n, 2))
    return torch.tensor(points, dtype=torch.float32)


class Generator(nn.Module):
    def __init__(self, nz=8, hidden=128):
        super().__init__()
        self.nz = nz
        self.main = nn.Sequential(
            nn.Linear(nz, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self, hidden=128):
        super().__init__()
        self.main = nn.Sequential(
            nn.Linear(2, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.main(x).squeeze(1)


def quality(points):
    """How many modes have points, and which share of the points lies within four deviations of a mode."""
    angles = 2 * math.pi * torch.arange(N_MODES) / N_MODES
    centers = torch.stack([angles.cos(), angles.sin()], dim=1)
    distance, nearest = torch.cdist(points.cpu(), centers).min(dim=1)
    good = distance < 4 * STD
    counts = torch.bincount(nearest[good], minlength=N_MODES)
    return int((counts > 0.01 * len(points)).sum()), good.float().mean().item()


class Ring(Task):
    groups = ("G", "D")

    def load(self, seed):
        return Splits(make_ring(10_000), make_ring(1000, seed=1))

    def build_model(self, config):
        return nn.ModuleDict({"G": Generator(), "D": Discriminator()})

    def loss(self, model, real, config):
        return 1 - quality(model["G"](torch.randn(len(real), 8, device=real.device)))[1]

    def train_step(self, model, real, optimizer, config):
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        netG, netD, optimizerG, optimizerD = *model.values(), *optimizer.values()
        criterion = nn.BCEWithLogitsLoss()
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)

        # Update D: maximize log(D(x)) + log(1 - D(G(z)))
        optimizerD.zero_grad()
        fake = netG(torch.randn(len(real), netG.nz, device=device))
        lossD = criterion(netD(real), ones) + criterion(netD(fake.detach()), zeros)
        lossD.backward()
        optimizerD.step()

        # Update G: maximize log(D(G(z)))
        optimizerG.zero_grad()
        lossG = criterion(netD(fake), ones)
        lossG.backward()
        optimizerG.step()

        return {"loss_D": lossD, "loss_G": lossG}


experiment = Experiment(
    "ring", Ring(), {"lr_G": Float(1e-4, 1e-2, "log"), "lr_D": Float(1e-4, 1e-2, "log"), "beta1": 0.5}
)
