"""A GRU that tells waveforms apart. The recordings have different lengths: batches are padded and packed."""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

SHAPES = ["sine", "square", "sawtooth", "triangle"]


class WaveDataset(Dataset):
    """Noisy waves of 20 to 60 samples, with random periods and phases."""

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.waves, self.labels = [], []
        for _ in range(n):
            label = int(rng.integers(len(SHAPES)))
            length = int(rng.integers(20, 61))
            phase = (np.arange(length) / rng.uniform(8, 20) + rng.uniform()) % 1.0
            wave = [
                np.sin(2 * np.pi * phase),
                np.sign(phase - 0.5),
                2 * phase - 1,
                4 * np.abs(phase - 0.5) - 1,
            ][label]
            self.waves.append(torch.tensor(wave + rng.normal(0, 0.1, length), dtype=torch.float32))
            self.labels.append(label)

    def __len__(self):
        return len(self.waves)

    def __getitem__(self, i):
        return self.waves[i], self.labels[i]


def collate_fn(batch):
    waves, labels = zip(*batch, strict=True)
    lengths = torch.tensor([len(wave) for wave in waves])
    return pad_sequence(list(waves), batch_first=True).unsqueeze(-1), lengths, torch.tensor(labels)


class WaveGRU(nn.Module):
    def __init__(self, hidden=32, layers=1, dropout=0.1):
        super().__init__()
        self.gru = nn.GRU(1, hidden, num_layers=layers, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden, len(SHAPES))

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, h = self.gru(packed)
        return self.fc(self.dropout(torch.cat([h[-2], h[-1]], dim=1)))


def train(model, loader, optimizer, device, clip):
    model.train()
    total, n = 0.0, 0
    for x, lengths, y in loader:
        x, y = x.to(device), y.to(device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, lengths), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        total += loss.item() * len(y)
        n += len(y)
    return total / n


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    total, correct, n = 0.0, 0, 0
    for x, lengths, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x, lengths)
        total += F.cross_entropy(logits, y).item() * len(y)
        correct += (logits.argmax(dim=1) == y).sum().item()
        n += len(y)
    return total / n, correct / n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--clip", type=float, default=1.0)
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(WaveDataset(1500, seed=0), args.batch_size, shuffle=True, collate_fn=collate_fn)
    valid_loader = DataLoader(WaveDataset(400, seed=1), 100, collate_fn=collate_fn)
    model = WaveGRU(hidden=args.hidden, dropout=args.dropout).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(args.epochs):
        train_loss = train(model, train_loader, optimizer, device, args.clip)
        valid_loss, accuracy = evaluate(model, valid_loader, device)
        print(f"epoch {epoch}: train {train_loss:.4f} | valid {valid_loss:.4f} | accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
