"""A GAN that learns eight Gaussians on a ring."""

import argparse
import math

import numpy as np
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--niter", type=int, default=40, help="number of epochs to train for")
    parser.add_argument("--batchSize", type=int, default=128)
    parser.add_argument("--lrG", type=float, default=1e-3)
    parser.add_argument("--lrD", type=float, default=3e-3)
    parser.add_argument("--beta1", type=float, default=0.5)
    opt = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataloader = DataLoader(TensorDataset(make_ring(10_000)), batch_size=opt.batchSize, shuffle=True)
    netG = Generator().to(device)
    netD = Discriminator().to(device)
    criterion = nn.BCEWithLogitsLoss()
    optimizerD = optim.Adam(netD.parameters(), lr=opt.lrD, betas=(opt.beta1, 0.999))
    optimizerG = optim.Adam(netG.parameters(), lr=opt.lrG, betas=(opt.beta1, 0.999))
    fixed_noise = torch.randn(2000, netG.nz, device=device)

    for epoch in range(opt.niter):
        lossD_sum, lossG_sum = 0.0, 0.0
        for (real,) in dataloader:
            real = real.to(device)
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

            lossD_sum += lossD.item()
            lossG_sum += lossG.item()
        with torch.no_grad():
            modes, good = quality(netG(fixed_noise))
        print(
            f"[{epoch + 1}/{opt.niter}] Loss_D: {lossD_sum / len(dataloader):.4f} "
            f"Loss_G: {lossG_sum / len(dataloader):.4f} modes: {modes} good: {good:.3f}"
        )


if __name__ == "__main__":
    main()
