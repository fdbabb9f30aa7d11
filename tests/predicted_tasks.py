"""A task of every kind of data and prediction, small, on scikit-learn's digits and diabetes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raytune_hpo import Accuracy, Hyperparameter, RootMeanSquaredError, Split, Splits, Task
from raytune_hpo.tasks.cached_arrays import cached, sklearn_version
from raytune_hpo.tasks.diabetes import _made
from raytune_hpo.tasks.digits import Digits

PIXELS, STEPS = 64, 8


@functools.cache
def digits() -> tuple[Any, Any]:
    """images: [480, 64] float32, 0 to 16; classes: [480]."""
    parts = Digits().load(0)
    return 16 * parts.train.x[:480], parts.train.y[:480]


def thirds(make: Any, statistics: Any = None) -> Splits:
    """make(rows) -> a split; of 320 samples to train on, 80 and 80."""
    parts = (np.arange(320), np.arange(320, 400), np.arange(400, 480))
    return Splits(*(make(rows) for rows in parts), statistics or {})


class Small(Task):
    def model_hyperparameters(self):
        return {"width": Hyperparameter("width", "int", 8, "units", low=1)}


@dataclass(frozen=True)
class Classes(Small):
    """uint8 images, divided in `preprocess`; an MLP."""

    def load(self, seed: int) -> Splits:
        x, y = digits()
        x = x.astype(np.uint8)
        return thirds(lambda rows: Split(x[rows], y[rows]))

    def preprocess(self, x, statistics):
        return x.to(torch.get_default_dtype()) / 16

    def build_model(self, config):
        return nn.Sequential(nn.Linear(PIXELS, config["width"]), nn.BatchNorm1d(config["width"]), nn.ReLU(),
                             nn.Dropout(0.2), nn.Linear(config["width"], 10))  # fmt: skip


@dataclass(frozen=True)
class Standardised(Small):
    """Raw diabetes, standardised by the training's statistics in `preprocess`; a prediction by the model's parts."""

    kind: ClassVar = "regression"

    def load(self, seed: int) -> Splits:
        x, y = cached("diabetes", sklearn_version(), _made)
        train, validation, test = np.split(np.arange(442), [300, 370])
        x, y = 1000 * x + 50, y / 100
        parts = (Split(x[rows], y[rows]) for rows in (train, validation, test))
        return Splits(*parts, {"mean": x[train].mean(0), "deviation": x[train].std(0)})

    def preprocess(self, x, statistics):
        return (x - statistics["mean"]) / statistics["deviation"]

    def predict(self, model, batch):
        return model[1:](model[0](batch.x))

    def build_model(self, config):
        return nn.Sequential(nn.Linear(10, config["width"]), nn.Tanh(), nn.Linear(config["width"], 1))


class Tied(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(17, width)
        self.mixed = nn.Linear(width, width)
        self.out = nn.Linear(width, 17, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        hidden = torch.tanh(self.mixed(self.embedding(ids).cumsum(1)))
        return self.out(hidden).transpose(1, 2)


@dataclass(frozen=True)
class Tokens(Small):
    """The next of 17 grey values of a row; the last has none. An embedding that is the output, too."""

    def load(self, seed: int) -> Splits:
        ids = digits()[0].astype(np.int64)[:, :12]
        y = np.concatenate([ids[:, 1:], np.full((len(ids), 1), -100)], 1)
        return thirds(lambda rows: Split(ids[rows], y[rows]))

    def build_model(self, config):
        return Tied(config["width"])


class Pair(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.left, self.right, self.out = nn.Linear(32, width), nn.Embedding(17, width), nn.Linear(width, 1)

    def forward(self, left, more):
        return self.out(torch.tanh(self.left(left) + self.right(more[0])))


@dataclass(frozen=True)
class TwoInputs(Small):
    """A dict with half of an image and, in a tuple, a pixel as a token."""

    kind: ClassVar = "regression"

    def load(self, seed: int) -> Splits:
        x, y = digits()
        token = x[:, 42].astype(np.int32)
        return thirds(lambda r: Split({"left": x[r, :32] / 16, "more": (token[r],)}, y[r].astype(float) / 10))

    def build_model(self, config):
        return Pair(config["width"])


@dataclass(frozen=True)
class Segmentation(Small):
    """Which pixels are lit, of a blurred image."""

    def load(self, seed: int) -> Splits:
        x = (digits()[0] / 16).reshape(-1, 1, 8, 8)
        y = (x[:, 0] > 0.4).astype(np.int64)
        blurred = x + np.roll(x, 1, 3)
        return thirds(lambda rows: Split(blurred[rows], y[rows]))

    def build_model(self, config):
        return nn.Sequential(nn.Conv2d(1, config["width"], 3, padding=1), nn.ReLU(), nn.Conv2d(config["width"], 2, 1))


@dataclass(frozen=True)
class Labels(Small):
    """Even, above 4, divisible by 3."""

    kind: ClassVar = "multilabel"

    def load(self, seed: int) -> Splits:
        x, y = digits()
        labels = np.stack([y % 2 == 0, y > 4, y % 3 == 0], 1).astype(np.int64)
        return thirds(lambda rows: Split(x[rows] / 16, labels[rows]))

    def build_model(self, config):
        return nn.Linear(PIXELS, 3)


class Autoencoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(PIXELS, 2 * width), nn.Linear(width, PIXELS)

    def forward(self, x):
        mean, spread = self.encoder(x).chunk(2, -1)
        drawn = mean + spread.exp() * torch.randn_like(mean) if self.training else mean
        return self.decoder(drawn), mean, spread


@dataclass(frozen=True)
class Variational(Small):
    """A variational autoencoder: the targets are the inputs, its predictions draw nothing."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        x = digits()[0] / 16
        return thirds(lambda rows: Split(x[rows]))

    def build_model(self, config):
        return Autoencoder(config["width"])

    def loss(self, model, batch, config):
        made, mean, spread = model(batch.x)
        return functional.mse_loss(made, batch.x) + 1e-3 * (mean**2 + (2 * spread).exp() - 2 * spread).mean()

    def predict(self, model, batch):
        return model(batch.x)[0]

    def targets(self, batch):
        return batch.x

    def metrics(self):
        return (RootMeanSquaredError(),)


class Recurrent(nn.Module):
    def __init__(self, width, packed):
        super().__init__()
        self.gru, self.out, self.packed = nn.GRU(8, width, batch_first=True), nn.Linear(width, 10), packed

    def forward(self, steps, mask):
        lengths = mask.sum(1)
        if self.packed:
            given = nn.utils.rnn.pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
            return self.out(self.gru(given)[1][0])
        hidden = self.gru(steps)[0]
        return self.out((hidden * mask[..., None]).sum(1) / lengths[:, None])


@dataclass(frozen=True)
class Sequences(Small):
    """The rows of an image down to its last lit one, padded; a batch is a dict of the task's own, with its classes.

    packed: as packed sequences, which torch.export cannot follow."""

    packed: bool = False

    def load(self, seed: int) -> Splits:
        x, y = digits()
        steps = x.reshape(-1, STEPS, 8) / 16
        mask = np.arange(STEPS) < 4 + y[:, None] % 5
        steps = steps * mask[..., None]
        return thirds(lambda rows: {"steps": steps[rows], "mask": mask[rows], "class": y[rows]})

    def build_model(self, config):
        return Recurrent(config["width"], self.packed)

    def predict(self, model, batch):
        return model(batch["steps"], batch["mask"])

    def targets(self, batch):
        return batch["class"]

    def metrics(self):
        return (Accuracy(),)


@dataclass(frozen=True)
class Triples(Sequences):
    """The same as a tuple, packed."""

    packed: bool = True

    def load(self, seed: int) -> Splits:
        made = super().load(seed)
        return Splits(*(tuple(part.tree.values()) for part in (made.train, made.validation, made.test)))

    def predict(self, model, batch):
        steps, mask, _ = batch
        return model(steps, mask)

    def targets(self, batch):
        return batch[2]


@dataclass(frozen=True)
class Unpredicted(Small):
    """Training alone: there is nothing that a model is called with."""

    kind: ClassVar = "other"

    def load(self, seed: int) -> Splits:
        return thirds(lambda rows: {"x": digits()[0][rows]})

    def build_model(self, config):
        return nn.Linear(PIXELS, PIXELS)

    def loss(self, model, batch, config):
        return functional.mse_loss(model(batch["x"]), batch["x"])


class Images:
    """A data set whose samples are made one by one: (image, class)."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        x, y = digits()
        row = self.rows[index]
        return torch.tensor(x[row] / 16), int(y[row])


@dataclass(frozen=True)
class OneByOne(Small):
    loader_workers: ClassVar = 0
    decode_bytes: ClassVar = 0

    def load(self, seed: int) -> Splits:
        return thirds(Images)

    def build_model(self, config):
        return nn.Linear(PIXELS, 10)
