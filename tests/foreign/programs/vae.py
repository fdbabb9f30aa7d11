"""A variational autoencoder on the 8x8 digits of scikit-learn."""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader


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


def train(model, loader, optimizer, beta, device):
    model.train()
    total = 0.0
    for x in loader:
        x = x.to(device)
        optimizer.zero_grad()
        recon, mu, logvar = model(x)
        loss = vae_loss(recon, x, mu, logvar, beta)
        loss.backward()
        optimizer.step()
        total += loss.item() * x.size(0)
    return total / len(loader.dataset)


def test(model, loader, beta, device):
    model.eval()
    total, error = 0.0, 0.0
    with torch.no_grad():
        for x in loader:
            x = x.to(device)
            recon, mu, logvar = model(x)
            total += vae_loss(recon, x, mu, logvar, beta).item() * x.size(0)
            error += (recon - x).pow(2).mean(dim=1).sum().item()
    n = len(loader.dataset)
    return total / n, (error / n) ** 0.5


def main():
    parser = argparse.ArgumentParser(description="VAE on digits")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--latent", type=int, default=8)
    args = parser.parse_args()

    torch.manual_seed(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_x, test_x = load_data()
    train_loader = DataLoader(train_x, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_x, batch_size=256)
    model = VAE(latent=args.latent).to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, optimizer, args.beta, device)
        test_loss, rmse = test(model, test_loader, args.beta, device)
        print(f"Epoch {epoch:2d}  train loss {train_loss:.3f}  test loss {test_loss:.3f}  pixel RMSE {rmse:.4f}")


if __name__ == "__main__":
    main()
