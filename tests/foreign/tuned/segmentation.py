"""Segmentation of coloured shapes with a small U-Net: every pixel is background, circle, square or cross."""

import numpy as np
import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from raytune_hpo import Experiment, Float, IoU, Splits, Task

DICE_WEIGHT = 0.5
N_CLASSES = 4


def make_shapes(n, size=32, seed=0):
    """Images [n, 3, size, size] and masks [n, size, size] with classes."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    images = rng.normal(0.3, 0.15, (n, 3, size, size))
    masks = np.zeros((n, size, size), dtype=np.int64)
    for i in range(n):
        for _ in range(rng.integers(1, 4)):
            kind = int(rng.integers(1, N_CLASSES))
            cy, cx = rng.integers(5, size - 5, 2)
            r = rng.integers(3, 7)
            dy, dx = np.abs(yy - cy), np.abs(xx - cx)
            if kind == 1:
                inside = dy**2 + dx**2 <= r**2
            elif kind == 2:
                inside = np.maximum(dy, dx) <= r
            else:
                inside = (np.minimum(dy, dx) <= 1) & (np.maximum(dy, dx) <= r)
            masks[i][inside] = kind
            color = rng.uniform(0.4, 1.0, (3, 1))
            images[i][:, inside] = color + rng.normal(0, 0.1, (3, int(inside.sum())))
    return torch.tensor(images, dtype=torch.float32), torch.tensor(masks)


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, n_classes=N_CLASSES, width=12):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.conv2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv1 = double_conv(2 * width, width)
        self.out = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.down1(x)
        x2 = self.down2(self.pool(x1))
        x3 = self.bottom(self.pool(x2))
        x = self.conv2(torch.cat([self.up2(x3), x2], dim=1))
        x = self.conv1(torch.cat([self.up1(x), x1], dim=1))
        return self.out(x)


def dice_loss(logits, masks, eps=1.0):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(masks, logits.size(1)).permute(0, 3, 1, 2).float()
    inter = (probs * onehot).sum(dim=(2, 3))
    total = probs.sum(dim=(2, 3)) + onehot.sum(dim=(2, 3))
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


def criterion(logits, masks, dice_weight=DICE_WEIGHT):
    return F.cross_entropy(logits, masks) + dice_weight * dice_loss(logits, masks)


class Shapes(Task):
    metrics = (IoU(),)

    def load(self, seed):
        return Splits(make_shapes(600, seed=0), make_shapes(150, seed=1), make_shapes(150, seed=2))

    def build_model(self, config):
        return UNet()

    def loss(self, model, batch, config):
        return criterion(model(batch[0]), batch[1])


experiment = Experiment("shapes", Shapes(), {"lr": Float(1e-4, 1e-2, "log"), "batch_size": 16}, max_epochs=8)
