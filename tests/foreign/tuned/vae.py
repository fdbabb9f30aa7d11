"""A variational autoencoder on the 8x8 digits of scikit-learn."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from raytune_hpo import Experiment, Float, Splits, Task


class VAE(nn.Module):
    def __init__(self, hidden=128, latent=8):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc_mu = nn.Linear(hidden, latent)
        self.fc_logvar = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, 64)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def vae_loss(recon, x, mu, logvar, beta):
    """Reconstruction and KL divergence, summed over pixels and averaged over images."""
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + beta * kl) / x.size(0)


def load_data():
    x = torch.tensor(load_digits().data / 16.0, dtype=torch.float32)
    train, test = train_test_split(x, test_size=0.25, random_state=0)
    return train, test


class Digits(Task):
    kind = "other"

    def load(self, seed):
        return Splits(*load_data())

    def build_model(self, config):
        return VAE()

    def loss(self, model, x, config):
        recon, mu, logvar = model(x)
        return vae_loss(recon, x, mu, logvar, beta=1.0)


experiment = Experiment("vae", Digits(), {"lr": Float(1e-4, 1e-1, "log"), "batch_size": 32}, max_epochs=30)
