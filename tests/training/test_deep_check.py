"""Wrong tasks: `validate --deep` finds each, in one line that names the method and the user's line, exit code 2.

A case is the body of a class; `# !` marks the line that must be named. They run in this process for speed, through the
command's own `main`; a few as real commands.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from written_data import write_california, write_cifar10, write_mnist

from raytune_hpo import Task, load_experiment
from raytune_hpo.cli.main import main
from raytune_hpo.tasks.cifar10 import FOLDER

HEADER = """
from dataclasses import dataclass
from typing import Any
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from raytune_hpo import *
from raytune_hpo.training.data import Batch, Stream
from raytune_hpo.training.hyperparameters import Hyperparameter

def arrays(seed, n=100, kind=np.float32):
    x = np.random.default_rng(seed).normal(size=(n, 4)).astype(kind)
    return x, (x[:, 0] > 0).astype(np.int64)

def parts(x, y):
    return Splits(*(Split(x[part], y[part]) for part in (slice(0, 60), slice(60, 80), slice(80, None))))

class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(4, width)

    def forward(self, x):
        return self.layer(x)

@dataclass(frozen=True)
class Rings(Task):
    def load(self, seed):
        return parts(*arrays(seed))

    def build_model(self, config):
        return Net()

class Samples:
    def __init__(self, n, sample):
        self.n, self.sample = n, sample

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return self.sample(i)
"""

EXPERIMENT = """
experiment = Experiment(
    name="wrong", task=Wrong(), space={space}, searcher="random", scheduler="fifo", num_samples=2,
    max_epochs=1, storage="runs"
)
"""
SPACE = '{"lr": Float(1e-3, 1e-1, "log")}'
NO_LOSS = "def loss(self, model, batch, config):\n    "
OTHER = 'kind = "other"\n' + NO_LOSS + "return model(batch.x).mean()\n"
METRIC = """
class Mine(Metric):
    name, direction = "mine", "min"
    def sums(self, outputs, targets):
        return torch.stack([outputs.double().sum((-1, -2)), torch.tensor(float(len(targets))).double()])
    def finish(self, sums):
        return sums[0] / sums[1]
def metrics(self):
    return [self.Mine()]
"""

#: name: (the class's body, the method that is named, what is said of it)
WRONG: dict[str, tuple[str, str, str]] = {
    # loss
    "loss is a vector": (
        NO_LOSS + 'return functional.cross_entropy(model(batch.x), batch.y, reduction="none")  # !',
        "loss",
        "answers shape [60]: it must answer one number, as .mean() of these is",
    ),
    "loss is a float": (NO_LOSS + "return 0.5  # !", "loss", "answers a float: it must answer a tensor of shape []"),
    "loss is an integer": (NO_LOSS + "return model(batch.x).argmax(1).sum()  # !", "loss", "answers int64"),
    "loss is None": (NO_LOSS.rstrip() + "  # !\n    model(batch.x).mean()", "loss", "answers a NoneType"),
    "loss is a tuple": (NO_LOSS + "return model(batch.x).mean(), 1  # !", "loss", "answers a tuple"),
    "loss is cut off": (
        NO_LOSS + "return torch.tensor(model(batch.x).mean().item())  # !",
        "loss",
        "does not depend on any parameter: .item(), .detach() or no_grad has cut it off",
    ),
    "loss without gradients": (
        NO_LOSS + "with torch.no_grad():\n        return model(batch.x).mean()  # !",
        "loss",
        "does not depend on any parameter",
    ),
    "loss is NaN": (NO_LOSS + "return model(batch.x).mean() / 0 * 0  # !", "loss", "is nan for the first batch"),
    "loss is infinite": (NO_LOSS + "return model(batch.x).mean().abs() / 0  # !", "loss", "is inf for the first"),
    "loss raises": (NO_LOSS + 'return batch["y"]  # !', "loss", "TypeError: tuple indices must be integers"),
    "loss asks for what is not in config": (NO_LOSS + 'return config["alpha"]  # !', "loss", "KeyError: 'alpha'"),
    "loss takes too few": (
        "def loss(self, model, batch):  # !\n    pass\n",
        "loss",
        "takes (model, batch) besides self",
    ),
    "loss in another dtype's way": (
        NO_LOSS + "return functional.binary_cross_entropy(model(batch.x), batch.y)  # !",
        "loss",
        "ValueError: Using a target size",
    ),
    "loss of a parameter that is not the model's": (
        NO_LOSS + "return (torch.ones(1, requires_grad=True) * 2).sum()  # !",
        "loss",
        "gives no parameter of the model a gradient: layer.weight, ...",
    ),
    # build_model
    "no model": ("def build_model(self, config):  # !\n    Net()", "build_model", "answers None: a return is missing"),
    "a class of models": (
        "def build_model(self, config):\n    return Net  # !",
        "build_model",
        "answers the class Net: it must answer a model, as Net(...) makes one",
    ),
    "a function for a model": (
        "def build_model(self, config):\n    return lambda x: x  # !",
        "build_model",
        "answers a function: it must answer a torch.nn.Module",
    ),
    "a model without parameters": (
        "def build_model(self, config):\n    return nn.Flatten()  # !",
        "build_model",
        "a model that cannot learn: it has no parameters",
    ),
    "a frozen model": (
        "def build_model(self, config):\n    return Net().requires_grad_(False)  # !",
        "build_model",
        "a model that cannot learn: all of its parameters are frozen",
    ),
    "build_model raises": (
        "def build_model(self, config):\n    width = config['width']  # !\n    return Net(width)",
        "build_model",
        "KeyError: 'width'",
    ),
    "a layer of another width": (
        "def build_model(self, config):\n    return nn.Sequential(nn.Linear(4, 8), nn.Linear(9, 2))  # !",
        "build_model",
        "mat1 and mat2 shapes cannot be multiplied (60x8 and 9x2)",
    ),
    "too few classes": (
        "def build_model(self, config):\n    return nn.Linear(4, 1)  # !",
        "build_model",
        "1 logits a sample, for targets with classes 0 to 1: it must answer 2 or more",
    ),
    "no axis of classes": (
        "def build_model(self, config):\n    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))  # !",
        "build_model",
        "the model answers [60] for targets of shape [60]",
    ),
    "a tuple of outputs": (
        "def build_model(self, config):\n    return nn.Sequential(nn.Unflatten(1, (4, 1)), nn.LSTM(1, 2))  # !",
        "build_model",
        "the model answers a tuple",
    ),
    "batch norm of one sample": (
        "def build_model(self, config):\n    return nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))  # !\n"
        "def load(self, seed):\n    x, y = arrays(seed)\n"
        "    return Splits(Split(x[:1], y[:1]), Split(x, y), Split(x, y))",
        "build_model",
        "1 training samples in batches of 64: batch norm needs 2 in a batch",
    ),
    "axes in another order": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return parts(np.repeat(x[:, None], 5, 1), "
        "np.repeat(y[:, None], 5, 1))\ndef build_model(self, config):\n    return nn.Linear(4, 2)  # !",
        "build_model",
        "the model answers [60, 5, 2] for targets of shape [60, 5]: it must answer [N, C, 5], a logit for each class",
    ),
    # types
    "bytes into a linear layer": (
        "def load(self, seed):\n    return parts(*arrays(seed, kind=np.uint8))\n"
        "def build_model(self, config):\n    return nn.Linear(4, 2)  # !",
        "build_model",
        "x is uint8: convert it in preprocess(self, x, statistics), as x.float() does",
    ),
    "integers into a convolution": (
        "def load(self, seed):\n    x, y = arrays(seed, kind=np.int64)\n    return parts(x.reshape(-1, 1, 2, 2), y)\n"
        "def build_model(self, config):\n    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Flatten())  # !",
        "build_model",
        "x is int64: convert it in preprocess",
    ),
    "reals into an embedding": (
        "def build_model(self, config):\n    return nn.Sequential(nn.Embedding(9, 2), nn.Flatten())  # !",
        "build_model",
        "x is float32: an embedding takes integers, so keep them integers in load",
    ),
    # load
    "no data": ("def load(self, seed):\n    return open('nowhere.csv')  # !", "load", "FileNotFoundError"),
    "no splits": ("def load(self, seed):\n    return arrays(seed)  # !", "load", "must return Splits(train=Split"),
    "negative classes": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, y - 1)  # !",
        "load",
        "train.y = -1: classes must count from 0",
    ),
    "no targets": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return Splits(Split(x), Split(x), Split(x))  # !",
        "load",
        "train.y = None: must be targets of kind = 'classification'",
    ),
    "labels beyond one": (
        'kind = "multilabel"\ndef load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, y[:, None] * 2)  # !',
        "load",
        "train.y = 2: labels must be 0 or 1",
    ),
    "an empty split": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return Splits(Split(x, y), Split(x[:0], y[:0]), "
        "Split(x, y))  # !",
        "load",
        "validation = 'no samples': must hold some samples",
    ),
    "keys that differ between splits": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    a = {'x': x, 'y': y, 'mask': y}\n"
        "    return Splits(a, {'x': x, 'y': y}, a)  # !\n" + OTHER,
        "load",
        "['mask'] is missing here",
    ),
    "types that differ between splits": (
        "def load(self, seed):\n    x, y = arrays(seed)\n"
        "    return Splits(Split(x, y), Split(x.astype(int), y), Split(x, y))  # !",
        "load",
        "must be of the training split's type, float32",
    ),
    "data sets whose samples differ in shape": (
        "def load(self, seed):  # !\n    s = Samples(9, lambda i: (torch.zeros(i + 1), 0))\n    return Splits(s, s, s)",
        "collate",
        "is what torch's default_collate cannot make a batch of; write collate(self, samples)",
    ),
    "a data set that is shorter than it says": (
        "def load(self, seed):\n    s = Samples(9, lambda i: (torch.zeros(4), [0, 1, 0][i]))  # !\n"
        "    return Splits(s, s, s)",
        "load",
        "IndexError: list index out of range",
    ),
    "a data set that changes its length": (
        "decode_bytes = 0\ndef load(self, seed):\n"
        "    s = Samples(9999, lambda i: setattr(s, 'n', s.n - 1) or (torch.zeros(4), 0))\n"
        "    return Splits(s, s, s)  # !",
        "load",
        " once it was read",
    ),
    "a class that the model has not, in a data set": (
        "decode_bytes = 0\ndef load(self, seed):\n    s = Samples(9, lambda i: (torch.zeros(4), i))\n"
        "    return Splits(s, s, s)  # !",
        "load",
        "y has class 2, and the model answers 2 logits a sample: classes are 0 to 1",
    ),
    "a stream that cannot begin anew": (
        "def load(self, seed):\n    it = iter([Batch(torch.zeros(4, 4), torch.zeros(4).long())])\n"
        "    s = Stream(lambda seed: it, 5)\n    return Splits(s, s, s)  # !",
        "load",
        "train: the stream's make(seed) answers one iterator again and again",
    ),
    "streams whose batches differ": (
        "def load(self, seed):\n    a, b = ({'x': torch.zeros(4, 4), k: torch.zeros(4)} for k in 'yz')\n"
        "    return Splits(Stream(lambda s: [a], 5), Stream(lambda s: [b], 5), Stream(lambda s: [b], 5))  # !\n"
        + OTHER.replace("batch.x", "batch['x']"),
        "load",
        "['y'] is in training batches and not in validation batches",
    ),
    # preprocess and augment
    "preprocess drops samples": (
        "def preprocess(self, x, statistics):\n    return x[::2]  # !",
        "preprocess",
        "answers shape [30, 4] for a batch of 60 samples: it must answer one of each",
    ),
    "preprocess answers None": (
        "def preprocess(self, x, statistics):  # !\n    x / 255",
        "preprocess",
        "answers None: a return is missing",
    ),
    "preprocess answers an array": (
        "def preprocess(self, x, statistics):\n    return x.numpy() / 2  # !",
        "preprocess",
        "answers an array of NumPy: it must answer a tensor",
    ),
    "preprocess writes to the data": (
        "def preprocess(self, x, statistics):\n    return x.sub_(1)  # !",
        "preprocess",
        "writes to its argument",
    ),
    "preprocess asks for statistics that are not there": (
        "def preprocess(self, x, statistics):\n    return x - statistics['mean']  # !",
        "preprocess",
        "KeyError: 'mean'",
    ),
    "augment answers None": ("def augment(self, x):  # !\n    x.flip(1)", "augment", "answers None"),
    "augment answers an array": ("def augment(self, x):\n    return x.numpy()  # !", "augment", "answers an array"),
    "augment answers samples of several shapes": (
        "def augment(self, x):\n    return [row[: 1 + i % 4] for i, row in enumerate(x)]  # !",
        "augment",
        "answers a list of 60: it must answer what it is given, a Tensor, in one shape",
    ),
    "augment adds samples": ("def augment(self, x):\n    return x.repeat(2, 1)  # !", "augment", "answers shape [120"),
    # predict and targets
    "predict answers too few": (
        OTHER + METRIC + "def predict(self, model, batch):\n    return model(batch.x)[:7]  # !",
        "predict",
        "answers shape [7, 2] for a batch of 20 samples: it must answer one of each",
    ),
    "predict answers classes": (
        "def predict(self, model, batch):\n    return model(batch.x).argmax(1)  # !",
        "predict",
        "the model answers int64 [60]: outputs must be floating-point",
    ),
    "targets of a batch that has no y": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    a = {'x': x, 'label': y}\n    return Splits(a, a, a)\n"
        "def predict(self, model, batch):\n    return model(batch['x'])",
        "targets",
        "a batch is a dict with 'x', 'label'; write targets(self, batch)",
    ),
    "targets that raise": (
        "def targets(self, batch):\n    return batch.label  # !",
        "targets",
        "AttributeError: 'Batch' object has no attribute 'label'",
    ),
    # metrics
    "sums that are one a sample": (
        METRIC.replace(".sum((-1, -2)), torch.tensor(float(len(targets))).double()])", ".sum(-1)])[0]  # !"),
        "metrics",
        "metric mine: its sums have shape [7] and [13]: they must be [S]",
    ),
    "sums that are a number": (METRIC.replace("torch.stack([", "0.0  # !\n        ([", 1), "metrics", "a float"),
    "sums that raise": (METRIC.replace("torch.stack", "torch.stck"), "metrics", "metric mine: AttributeError"),
    "finish raises": (
        METRIC.replace("sums[0] / sums[1]", "1 / 0  # !"),
        "metrics",
        "metric mine: ZeroDivisionError: division by zero",
    ),
    "finish answers None": (
        METRIC.replace("def finish(self, sums):\n        return", "def finish(self, sums):  # !\n        "),
        "metrics",
        "metric mine: it finishes to a NoneType: it must answer a number",
    ),
    # groups and steps
    "a parameter in two groups": (
        'groups = ("a", "b")\ndef parameter_groups(self, model, config):\n'
        '    return {"a": model.parameters(), "b": [model.layer.bias]}  # !',
        "parameter_groups",
        "layer.bias is in two groups, 'a' and 'b'",
    ),
    "a foreign parameter in a group": (
        'groups = ("a",)\ndef parameter_groups(self, model, config):\n    return {"a": Net().parameters()}  # !',
        "parameter_groups",
        "group 'a' holds a Parameter that is no parameter of the model",
    ),
    "a group that is not named": (
        'groups = ("a",)\ndef parameter_groups(self, model, config):\n    return {"b": model.parameters()}  # !',
        "parameter_groups",
        "'b' is not in groups = ('a',)",
    ),
    "a group that is no submodule": (
        'groups = ("head",)',
        "parameter_groups",
        "'head' is no submodule of the model (layer); write parameter_groups(self, model, config)",
    ),
    "groups that are None": (
        'groups = ("a",)\ndef parameter_groups(self, model, config):  # !\n    pass',
        "parameter_groups",
        "answers None: it must answer a dict of parameters by group",
    ),
    "a step that answers None": (
        "def train_step(self, model, batch, optimizer, config):  # !\n    model(batch.x).mean().backward()",
        "train_step",
        "answers a NoneType for loss: it must answer the loss, a tensor of shape [], or a dict of such",
    ),
    "a step that answers a vector": (
        "def train_step(self, model, batch, optimizer, config):\n    return model(batch.x)  # !",
        "train_step",
        "answers loss of shape [60, 2]: a loss must be one number",
    ),
    "a config that has no such name": (
        "def build_model(self, config):\n    return Net(config['width'])  # !",
        "build_model",
        "KeyError: 'width'; the config has none: give model_hyperparameters its default, {'width': ...}",
    ),
    "a config of attributes": (
        "def build_model(self, config):\n    return Net(config.width)  # !",
        "build_model",
        "the config is a dict: write config['width']",
    ),
    "a model of a batch": (
        "def predict(self, model, x):\n    return model(x)",
        "predict",
        "a batch is a Batch(x, y): give the model batch.x",
    ),
    "a loader of torch's": (
        "def load(self, seed):\n    s = torch.utils.data.DataLoader([1, 2])\n    return Splits(s, s, s)  # !",
        "load",
        "a map-style data set or a Stream; give its data set: batch_size is a hyperparameter, collate a method",
    ),
    "an iterable data set": (
        "def load(self, seed):\n    class S(torch.utils.data.IterableDataset):\n        def __iter__(self):\n"
        "            yield from ()\n    return Splits(S(), S(), S())  # !",
        "load",
        "of samples in a stream make batches: Stream(make, steps)",
    ),
    "classes by name": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, np.array(['a', 'b'])[y])  # !",
        "load",
        "np.unique(y, return_inverse=True)[1] makes classes",
    ),
    "a regression without its axis": (
        'kind = "regression"\ndef load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, x[:, 0])\n'
        "def predict(self, model, batch):\n    return model(batch.x)[:, 0]  # !",
        "predict",
        "would be compared with every target; outputs.unsqueeze(-1) makes it",
    ),
    "a stream of samples": (
        "def load(self, seed):\n    x, y = map(torch.tensor, arrays(seed))\n"
        "    return Splits(*(Stream(lambda s: zip(x, y), 9) for _ in range(3)))  # !",
        "load",
        "train: the stream yields samples: it must yield batches, with the samples on axis 0",
    ),
    "a stream that is spent": (
        "def load(self, seed):\n    x, y = map(torch.tensor, arrays(seed))\n    once = iter([(x, y)] * 99)\n"
        "    return Splits(*(Stream(lambda s: once, 9) for _ in range(3)))  # !",
        "load",
        "train: the stream's make(seed) answers one iterator again and again: it must begin anew each time",
    ),
    "classes last": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, np.stack([y, y, y], 1))\n"
        "def predict(self, model, batch):\n    return model(batch.x)[:, None].expand(-1, 3, 2)  # !",
        "predict",
        "it must answer [N, C, 3], a logit for each class; outputs.movedim(-1, 1) makes it",
    ),
    "several outputs": (
        "def predict(self, model, batch):\n    return model(batch.x), batch.x  # !",
        "predict",
        "its outputs; of several predict(self, model, batch) answers one",
    ),
    "classes for numbers": (
        NO_LOSS + "return functional.binary_cross_entropy_with_logits(model(batch.x)[:, 0], batch.y)  # !",
        "loss",
        "y is of integers: compare with y.float()",
    ),
    "channels last": (
        "def load(self, seed):\n    _, y = arrays(seed)\n    return parts(np.zeros((100, 8, 8, 3), np.float32), y)\n"
        "def build_model(self, config):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))  # !",
        "build_model",
        "x has its channels last: x.permute(0, 3, 1, 2) in preprocess puts them first",
    ),
    "statistics that are none": (
        "def preprocess(self, x, statistics):\n    return x - statistics['mean']  # !",
        "preprocess",
        "KeyError: 'mean'; load is to answer it: Splits(..., statistics={'mean': ...})",
    ),
    "optimizers that are None": (
        "def optimizers(self, model, config):  # !\n    pass\n"
        "def train_step(self, model, batch, optimizer, config):\n    return model(batch.x).mean()",
        "optimizers",
        "answers a NoneType: it must be an optimizer of torch's",
    ),
    "no optimizer at all": (
        "def optimizers(self, model, config):\n    return {}  # !\n"
        "def train_step(self, model, batch, optimizer, config):\n    return model(batch.x).mean()",
        "optimizers",
        "answers none",
    ),
}

#: What is found before any data are loaded: (the body, what the line says).
SAID: dict[str, tuple[str, str, str]] = {
    "kind": ('kind = "clasification"', SPACE, "Wrong.kind = 'clasification': must be one of"),
    "other": ('kind = "other"', SPACE, "Wrong.kind = 'other': has no loss"),
    "validate_every": ("validate_every = 0", SPACE, "Wrong.validate_every = 0: must be an integer of at least 1"),
    "loader_workers": ("loader_workers = -1", SPACE, "Wrong.loader_workers = -1"),
    "group collides": (
        'groups = ("decay",)\ndef parameter_groups(self, model, config):\n    return {}',
        SPACE,
        "Wrong.groups = 'decay': is no name for a group: lr_decay is another hyperparameter's name",
    ),
    "group is no word": ('groups = ("a head",)', SPACE, "Wrong.groups = 'a head': must be a word, as in lr_WORD"),
    "groups is a word": ('groups = "head"', SPACE, "must be a tuple of names: write ('head',)"),
    "optimizers alone": ("def optimizers(self, model, config):\n    pass", SPACE, "is called with train_step alone"),
    "hyperparameters": ("def model_hyperparameters(self):\n    return ['width']", SPACE, "must be a dict of"),
    "no list of metrics": ("def metrics(self):\n    return Accuracy", SPACE, "must be a sequence of Metric objects"),
    "a metric without a name": (
        METRIC.replace('name, direction = "mine", "min"', 'direction = "min"'),
        SPACE,
        "Mine.name = None: must be a word",
    ),
    "a metric without a direction": (
        METRIC.replace('name, direction = "mine", "min"', 'name = "mine"'),
        SPACE,
        "Mine.direction = None: must be 'min' or 'max'",
    ),
    "two metrics of one name": (
        "def metrics(self):\n    return [Accuracy(), Accuracy()]",
        SPACE,
        "is another metric's",
    ),
    "an option named like a method": ("targets: int = 3", SPACE, "is what a task's targets() is"),
    "a hyperparameter that is searched in the task": (
        "model_hyperparameters = {'width': Int(1, 2)}",
        SPACE,
        "Wrong.model_hyperparameters['width'] = Int(conditions=(), low=1, high=2, scale='linear', step=1): must be the "
        "default, a value",
    ),
    "floats of an integer": (
        "model_hyperparameters = {'p': 0}",
        '{"p": Float(0.0, 0.5)}',
        "space.p = 0.0: must be an int, as its default 0 is; for floats make that 0.0",
    ),
    "a hyperparameter that is not named": (
        "pass",
        '{"width": Int(1, 2)}',
        "weight_decay_on; one of build_model's is named by model_hyperparameters",
    ),
    "all hyperparameters": (
        "hyperparameters = {'width': 1}",
        SPACE,
        "): is the house's own, and is not to be written anew; write model_hyperparameters",
    ),
    "an attribute that is misspelt": ("group = ('layer',)", SPACE, "nothing in its file uses it; did you mean groups?"),
    "metrics of outputs": (
        "def metrics(self, outputs, targets):\n    return []",
        SPACE,
        "Wrong.metrics (exp.py, line 47): takes (outputs, targets) besides self: it must be metrics(self)",
    ),
    "targets of a model": ("@staticmethod\ndef targets(a, b):\n    pass", SPACE, "it must be targets(self, batch)"),
    "a method that is none": ("loss = 'mse'", SPACE, "is a str: it must be loss(self, model, batch, config)"),
    "preprocess without statistics": (
        "def preprocess(self, x):\n    return x",
        SPACE,
        "takes (x) besides self: it must be preprocess(self, x, statistics)",
    ),
    "load without a seed": ("def load(self):\n    pass", SPACE, "it must be load(self, seed)"),
    "classes weighed twice": (
        NO_LOSS + "return model(batch.x).mean()",
        '{"class_weight": Choice(["none", "balanced"])}',
        "is of the default loss of classes and labels alone; a loss of the task's own weighs by itself",
    ),
}


def written(folder: Path, body: str, space: str = SPACE) -> Path:
    file = folder / "exp.py"
    of_class = "\n@dataclass(frozen=True)\nclass Wrong(Rings):\n" + textwrap.indent(body, "    ") + "\n"
    file.write_text(HEADER + of_class + EXPERIMENT.format(space=space))
    return file


def deep(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(["validate", str(file), "--deep"])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_task(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body, method, text = WRONG[name]
    file = written(tmp_path, body)
    code, out, err = deep(file, capsys)
    assert (code, out, len(err.splitlines())) == (2, "", 1), (out, err)
    lines = file.read_text().splitlines()
    marked = [n for n, line in enumerate(lines, start=1) if line.endswith("# !")]
    if marked and method != "collate":
        assert err.startswith(f"raytune-hpo: Wrong.{method} (exp.py, line {marked[0]}"), err
    else:
        assert err.startswith(f"raytune-hpo: Wrong.{method} (exp.py, line "), err
    assert text in err


@pytest.mark.parametrize("name", SAID)
def test_what_a_task_says_of_itself_is_checked_without_its_data(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body, space, text = SAID[name]
    assert main(["validate", str(written(tmp_path, body, space))]) == 2
    err = capsys.readouterr().err
    assert text in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["loss is a vector", "keys that differ between splits"])
def test_as_a_command(name: str, tmp_path: Path) -> None:
    body, method, text = WRONG[name]
    command = [sys.executable, "-m", "raytune_hpo", "validate", str(written(tmp_path, body)), "--deep"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert f"Wrong.{method} (exp.py, line " in done.stderr
    assert text in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["exp.py"]


# What is right ----------------------------------------------------------------------------------------------

RIGHT = {
    "as it is": "",
    "regression": (
        'kind = "regression"\ndef load(self, seed):\n    x, y = arrays(seed)\n    return parts(x, x.sum(1))\n'
        "def build_model(self, config):\n    return nn.Linear(4, 1)"
    ),
    "labels": (
        'kind = "multilabel"\ndef load(self, seed):\n    x, y = arrays(seed)\n'
        "    return parts(x, np.stack([y, 1 - y], 1))"
    ),
    "no y": (
        'kind = "other"\ndef load(self, seed):\n    return Splits(*(Split(arrays(seed)[0]) for _ in range(3)))\n'
        + NO_LOSS
        + "return (model(batch.x)[:, :2] - batch.x[:, :2]).square().mean()"
    ),
    "trees": (
        "def load(self, seed):\n    x, y = arrays(seed)\n    a = {'x': x, 'label': y}\n    return Splits(a, a, a)\n"
        "def predict(self, model, batch):\n    return model(batch['x'])\n"
        "def targets(self, batch):\n    return batch['label']"
    ),
    "a data set": (
        "def load(self, seed):\n    s = Samples(9, lambda i: (torch.zeros(i + 1), i % 2))\n    return Splits(s, s, s)\n"
        "def collate(self, samples):\n"
        "    x = [functional.pad(x, (0, 9 - len(x))) for x, _ in samples]\n"
        "    return torch.stack(x)[:, :4], torch.tensor([y for _, y in samples])"
    ),
    "a stream": (
        "def load(self, seed):\n    def make(seed):\n        for _ in range(5):\n"
        "            yield torch.zeros(4, 4), torch.ones(4).long()\n"
        "    return Splits(*(Stream(make, 5) for _ in range(3)))"
    ),
    "bytes": (
        "def load(self, seed):\n    return parts(*arrays(seed, kind=np.uint8))\n"
        "def preprocess(self, x, statistics):\n    return x / 255\n"
        "def augment(self, x):\n    return x.flip(1)"
    ),
    "tokens": (
        'groups = ("head",)\ndef load(self, seed):\n    x, y = arrays(seed)\n'
        "    return parts((x > 0).astype(np.int64), y)\n"
        "def build_model(self, config):\n"
        "    return nn.Sequential(nn.Embedding(2, 3), nn.Flatten(), nn.Linear(12, 2))\n"
        "def parameter_groups(self, model, config):\n    return {'head': model[2]}"
    ),
    "steps of its own": (
        "def optimizers(self, model, config):\n    return {'all': torch.optim.SGD(model.parameters(), config['lr'])}\n"
        "def train_step(self, model, batch, optimizer, config):\n"
        "    loss = functional.cross_entropy(model(batch.x), batch.y)\n    loss.backward()\n"
        "    optimizer['all'].step()\n    return {'loss': loss, 'twice': 2 * loss}\nvalidate_every = 3"
    ),
    "a loss that is measured without what is searched": (
        'kind = "other"\nmodel_hyperparameters = {"width": 1}\n'
        + NO_LOSS
        + "return model(batch.x).square().mean() * (config['width'] if model.training else 1)"
    ),
    "names of its own": (
        "def losses(self, outputs, y):\n    return functional.cross_entropy(outputs, y)\n"
        "def _metric(self):\n    pass\n"
        "def loss(self, model, batch, *rest, **more):\n    return self.losses(model(batch.x), batch.y)\n"
        "def summary(self):\n    pass\n"
        "predictions: int = 3"
    ),
    "metrics": METRIC + "def loss(self, model, batch, config):\n    return super().loss(model, batch, config) * 2",
}

ODD = {
    "a parameter that nothing reaches": (
        "def build_model(self, config):\n    model = Net()\n    model.spare = nn.Linear(1, 1)\n    return model",
        "no gradient reaches spare.weight, spare.bias: the loss does not depend on it",
    ),
    "data that are drawn without the seed": (
        "def load(self, seed):\n    return parts(*arrays(None))",
        "Wrong.load answers other data for the same seed",
    ),
    "a model of NumPy's draws": (
        "def build_model(self, config):\n    return Net(2 + int(np.random.rand() / 2))",
        "Wrong.build_model draws from NumPy's global generator",
    ),
    "another model each time": (
        "def build_model(self, config):\n    model = Net()\n"
        "    drawn = np.random.default_rng().normal(size=(2, 4)).astype(np.float32)\n"
        "    model.layer.weight.data = torch.from_numpy(drawn)\n    return model",
        "Wrong.build_model answers another model for the same seed",
    ),
    "samples that are not preprocessed by themselves": (
        "def preprocess(self, x, statistics):\n    return x - x.mean(0)",
        "Wrong.preprocess makes another sample of the same one in another batch",
    ),
    "a group of nothing": (
        "groups = ('head',)\ndef parameter_groups(self, model, config):\n    return {'head': []}",
        "groups: 'head' holds no parameter",
    ),
    "a hyperparameter that is not read": (
        "def model_hyperparameters(self):\n    return {'width': Hyperparameter('width', 'int', 4, 'units')}",
        "width is read by none of its methods",
    ),
    "probabilities": (
        "def build_model(self, config):\n    return nn.Sequential(Net(), nn.Softmax(-1))",
        "the model answers probabilities, and the loss takes logits",
    ),
    "probabilities of labels": (
        'kind = "multilabel"\ndef load(self, seed):\n    x, y = arrays(seed)\n'
        "    return parts(x, np.stack([y, 1 - y], 1))\n"
        "def build_model(self, config):\n    return nn.Sequential(Net(), nn.Sigmoid())",
        "the model answers probabilities, and the loss takes logits",
    ),
    "a loss that is another one in each trial": (
        'kind = "other"\nmodel_hyperparameters = {"width": 1}\n'
        + NO_LOSS
        + "return model(batch.x).square().mean() * config['width']",
        "Wrong.loss reads width where it is measured, too",
    ),
    "a config that cannot be trained": (
        "def model_hyperparameters(self):\n    return {'width': Hyperparameter('width', 'int', 2, 'units')}\n"
        "def build_model(self, config):\n    return Net(config['width'])",
        "not every config can be trained: Wrong.build_model (exp.py, line",
    ),
}


@pytest.mark.parametrize("name", [*RIGHT, *ODD])
def test_what_can_be_trained_passes(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body, remark = (RIGHT[name] or "pass", None) if name in RIGHT else ODD[name]
    space = '{"lr": Float(1e-3, 1e-1, "log"), "width": Int(1, 2)}' if "width" in body else SPACE
    before = torch.random.get_rng_state(), np.random.get_state()[2]
    code, out, err = deep(written(tmp_path, body, space), capsys)
    assert (code, err) == (0, "")
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[2] == before[1]
    told = out.splitlines()[2 : out.splitlines().index("space:")]
    assert [line for line in told if remark is None or remark not in line] == []
    assert len(told) == (remark is not None)


@pytest.mark.parametrize(
    ("written_as", "meant"),
    [
        ("losses(self, model, batch, config)", "loss(self, model, batch, config)"),
        ("loss_fn(self, outputs, y)", "loss(self, model, batch, config)"),
        ("prediction(self, model, batch)", "predict(self, model, batch)"),
        ("forward(self, x)", "predict(self, model, batch)"),
        ("metric(self)", "metrics(self)"),
        ("target(self, batch)", "targets(self, batch)"),
        ("preprocessing(self, x, statistics)", "preprocess(self, x, statistics)"),
        ("augmentation(self, x)", "augment(self, x)"),
        ("collate_fn(self, samples)", "collate(self, samples)"),
        ("model_hyperparams(self)", "model_hyperparameters(self)"),
        ("training_step(self, batch, i)", "train_step(self, model, batch, optimizer, config)"),
        ("configure_optimizers(self)", "optimizers(self, model, config)"),
    ],
)
def test_a_method_that_is_misspelt(
    written_as: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(written(tmp_path, f"def {written_as}:\n    pass"))]) == 2
    name = written_as.partition("(")[0]
    text = f"is no part of a Task, and nothing in its file uses it; did you mean {meant}?"
    assert capsys.readouterr().err == f"raytune-hpo: Wrong.{name} (exp.py, line 47): {text}\n"


REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "experiments").glob("*.py"))
#: Programs of other people's as tasks; the one's data a program of its own writes.
TUNED = [f for f in sorted((REPOSITORY / "tests/foreign/tuned").glob("*.py")) if f.stem not in ("__init__", "memmap")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_mnist(folder / "MNIST" / "raw", train=100, test=40)
    write_cifar10(folder / FOLDER)
    write_california(folder)
    return folder


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_experiment_passes(file: Path, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = load_experiment(file).resolved.task
    options = task.options() if isinstance(task, Task) else {}
    where = [f"--set={name}={data_dir}" for name in ("data_dir", "data_home") if name in options]
    small = [f"--set={name}=12" for name in options if name.endswith("_samples")]
    assert main(["validate", str(file), "--deep", "--address", "auto", *where, *small]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "not every config" not in out
    assert "no gradient" not in out


@pytest.mark.parametrize(
    "file",
    [pytest.param(f, marks=pytest.mark.large) if f.stem == "finetune" else f for f in TUNED],  # of a ResNet
    ids=lambda file: file.stem,
)
def test_every_program_that_became_a_task_passes(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["validate", str(file), "--deep", "--address", "auto", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "not every config" not in out
