"""A siamese network: are these two images the same digit? Contrastive loss (Hadsell, Chopra, LeCun 2006)."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from raytune_hpo import Experiment, Float, Splits, Task

MARGIN = 1.0


class PairDataset(Dataset):
    """Every image with a partner: half of them of the same class. Training draws new partners in every epoch."""

    def __init__(self, images, labels, train):
        self.images = images
        self.labels = labels
        self.same = [torch.nonzero(labels == label).flatten() for label in range(10)]
        self.other = [torch.nonzero(labels != label).flatten() for label in range(10)]
        self.train = train
        generator = torch.Generator().manual_seed(0)
        self.partners = [self.draw(i, generator) for i in range(len(labels))]

    def draw(self, i, generator=None):
        same = int(torch.randint(2, (), generator=generator))
        candidates = (self.same if same else self.other)[int(self.labels[i])]
        return candidates[torch.randint(len(candidates), (), generator=generator)], same

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        j, same = self.draw(i) if self.train else self.partners[i]
        return self.images[i], self.images[j], torch.tensor(same, dtype=torch.float32)


def load_data():
    digits = load_digits()
    images = torch.tensor(digits.images / 16.0, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    train, test = train_test_split(range(len(labels)), test_size=0.25, random_state=0, stratify=labels)
    return PairDataset(images[train], labels[train], train=True), PairDataset(images[test], labels[test], train=False)


class SiameseNet(nn.Module):
    def __init__(self, embedding=16, dropout=0.1):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, embedding))

    def forward_once(self, x):
        return self.fc(self.conv(x))

    def forward(self, a, b):
        return self.forward_once(a), self.forward_once(b)


class ContrastiveLoss(nn.Module):
    def __init__(self, margin=MARGIN):
        super().__init__()
        self.margin = margin

    def forward(self, za, zb, same):
        distance = F.pairwise_distance(za, zb)
        near = same * distance.pow(2)
        far = (1 - same) * F.relu(self.margin - distance).pow(2)
        return 0.5 * (near + far).mean()


class Pairs(Task):
    kind = "other"

    def load(self, seed):
        return Splits(*load_data())

    def build_model(self, config):
        return SiameseNet()

    def loss(self, model, batch, config):
        return ContrastiveLoss()(*model(*batch[:2]), batch[2])


experiment = Experiment("siamese", Pairs(), {"lr": Float(1e-4, 1e-1, "log"), "batch_size": 64}, max_epochs=10)
