"""A GRU that tells waveforms apart. The recordings have different lengths: batches are padded and packed."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

from raytune_hpo import Experiment, Float, Splits, Task

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


class Waves(Task):
    collate = staticmethod(collate_fn)

    def load(self, seed):
        return Splits(WaveDataset(1500, seed=0), WaveDataset(400, seed=1), WaveDataset(400, seed=2))

    def build_model(self, config):
        return WaveGRU()


experiment = Experiment("waves", Waves(), {"lr": Float(1e-4, 0.1, "log"), "clip_norm": 1.0, "batch_size": 32})
