"""Models as people write them, for the tests of what lanes may share a stack: on the digits, 8 rows of 8 numbers."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from raytune_hpo.tasks.digits import Digits
from raytune_hpo.training.hyperparameters import Hyperparameter

Config = Mapping[str, Any]


def number(name: str, default: float) -> Hyperparameter:
    return Hyperparameter(name, "float", default, "of the model", low=0, high=10)


@dataclass(frozen=True)
class Modelled(Digits):
    """The digits for one of MODELS. scale: what a model multiplies by; spare: what no forward reads."""

    model: str = ""

    def build_model(self, config: Config) -> nn.Module:
        return MODELS[self.model](config)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return {name: number(name, default) for name, default in (("scale", 1.0), ("spare", 1.0), ("dropout", 0.0))}


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 12), nn.Linear(12, 10)

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.scaled(torch.tanh(self.first(x))))


class OfDict(Plain):
    """Keeps the whole config, nested; reads one item of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = {"model": dict(config), "optimizer": {"lr": config["lr"]}}

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.config["model"].get("scale", 1.0)


class InEvaluation(OfDict):
    """Reads the scale in evaluation alone."""

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x if self.training else super().scaled(x)


class OfNamespace(Plain):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.args = types.SimpleNamespace(**config)

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.args.scale


@dataclass
class Settings:
    scale: float
    lr: float


class OfDataclass(Plain):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.settings = Settings(config["scale"], config["lr"])

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.settings.scale


def times(x: torch.Tensor, scale: float) -> torch.Tensor:
    return x * scale


class OfFunction(Plain):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor], lr: float) -> None:
        super().__init__()
        self.function, self.lr = function, lr

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def of_lambda(config: Config) -> nn.Module:
    return OfFunction(lambda x: x * config["scale"], config["lr"])


def of_partial(config: Config) -> nn.Module:
    return OfFunction(functools.partial(times, scale=config["scale"]), config["lr"])


def of_local_class(config: Config) -> nn.Module:
    class Local(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.lr = config["lr"]

        def scaled(self, x: torch.Tensor) -> torch.Tensor:
            return x * config["scale"]

    return Local()


def of_local_value(config: Config) -> nn.Module:
    scale = config["scale"]

    class Local(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.lr = config["lr"]

        def scaled(self, x: torch.Tensor) -> torch.Tensor:
            return x * scale

    return nn.Sequential(nn.Identity(), Local())


class OfTensor(Plain):
    """A tensor that is a plain attribute, and a mask that is in no state."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.lr = config["lr"]
        self.factors = torch.full((12,), config["scale"])
        self.register_buffer("mask", torch.arange(12) % 3 > 0, persistent=False)

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.factors.to(x.device)).masked_fill(self.mask, 0.0)


class OfBuffer(Plain):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.register_buffer("factors", torch.full((12,), config["scale"]), persistent=False)

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factors


class SmallTypes(Plain):
    """Buffers of small types that are saved, one of which counts."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.register_buffer("mask", torch.arange(12) % 3 > 0)
        self.register_buffer("table", torch.arange(12, dtype=torch.uint8).flip(0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int32))
        self.register_buffer("quarters", torch.full((12,), 0.25, dtype=torch.bfloat16))

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.steps += 1
        return x.masked_fill(self.mask, 0.0)[:, self.table.long()] * self.quarters.to(x.dtype)


class Partial(Plain):
    """Weights that the outputs do not depend on, and frozen ones."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)
        self.frozen = nn.Parameter(torch.rand(12), requires_grad=False)
        self.also_spare = nn.Parameter(torch.rand(5))

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.frozen


class Centred(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight - weight.mean()


class Parametrized(Plain):
    """torch's parametrizations, which make a class for every module; a cache; a table of functions."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.lr = config, config["lr"]
        nn.utils.parametrize.register_parametrization(self.first, "weight", Centred())
        self.cache: dict[str, torch.Tensor] = {}
        self.functions = {"used": lambda x: x * 0.5, "spare": lambda x: x * config["spare"]}

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        if "ramp" not in self.cache:
            self.cache["ramp"] = torch.linspace(0, 1, 12)
        self.seen = self.functions["used"](x)
        return self.seen * self.cache["ramp"].to(x.device)


class Attention(nn.Module):
    """A block of a small GPT: causal attention by a mask, written out."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.config = config
        self.norm, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(config["dropout"])
        self.register_buffer("causal", torch.ones(8, 8).tril().bool(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        scores = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~self.causal, -torch.inf)
        x = x + self.drop(self.out(scores.softmax(-1) @ v))
        return x + self.drop(self.mlp(self.norm_2(x))) * self.config["scale"]


class Tied(nn.Module):
    """Tokens through blocks to the embedding that they came from, as in GPT-2."""

    def __init__(self, config: Config, width: int = 16) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(17, width)
        self.places = nn.Parameter(torch.randn(8, width) * 0.02)
        self.blocks = nn.ModuleList(Attention(width, config) for _ in range(2))
        self.head = nn.Linear(width, 17, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.reshape(len(x), 8, 8).mean(-1).mul(16).clamp(0, 16).long()
        x = self.embedding(tokens) + self.places
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, -1])


class Encoder(nn.Module):
    """torch's own transformer layers."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.encoder(x.view(-1, 8, 8)).mean(1))


class Recurring(nn.Module):
    """A recurrent layer over the rows of a digit."""

    def __init__(self, kind: type[nn.RNNBase], *, given: bool = False, width: int = 6, **options: Any) -> None:
        super().__init__()
        self.layer = kind(8, width, **options)
        self.given = given
        ways = 2 if self.layer.bidirectional else 1
        self.start = nn.Parameter(torch.randn(self.layer.num_layers * ways, 1, width)) if given else None
        self.last = nn.Linear((self.layer.proj_size or width) * ways, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.view(-1, 8, 8)
        x = x if self.layer.batch_first else x.transpose(0, 1)
        if self.start is None:
            out, last = self.layer(x)
        else:
            start = self.start.expand(-1, x.shape[0 if self.layer.batch_first else 1], -1).contiguous()
            out, last = self.layer(x, (start, start) if isinstance(self.layer, nn.LSTM) else start)
        h = last[0] if isinstance(last, tuple) else last
        return self.last(out.mean(1 if self.layer.batch_first else 0)) + h.sum((0, 2))[:, None]


RECURRENT: dict[str, Callable[[Config], nn.Module]] = {
    "lstm": lambda _: Recurring(nn.LSTM, batch_first=True),
    "lstm 2 ways": lambda _: Recurring(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm dropout": lambda _: Recurring(nn.LSTM, num_layers=2, batch_first=True, dropout=0.4),
    "lstm projected": lambda _: Recurring(nn.LSTM, num_layers=2, proj_size=4),
    "lstm from a state": lambda _: Recurring(nn.LSTM, batch_first=True, given=True),
    "gru": lambda _: Recurring(nn.GRU, batch_first=True, num_layers=2),
    "gru 2 ways": lambda _: Recurring(nn.GRU, bidirectional=True, given=True),
    "gru without a bias": lambda _: Recurring(nn.GRU, bias=False),
    "rnn": lambda _: Recurring(nn.RNN, num_layers=2),
    "rnn relu": lambda _: Recurring(nn.RNN, nonlinearity="relu", batch_first=True),
}

#: Models that read the scale, each from where people keep such a number.
SCALED: dict[str, Callable[[Config], nn.Module]] = {
    "dict": OfDict,
    "in evaluation": InEvaluation,
    "namespace": OfNamespace,
    "dataclass": OfDataclass,
    "lambda": of_lambda,
    "partial": of_partial,
    "local class": of_local_class,
    "local value": of_local_value,
    "tensor": OfTensor,
    "buffer": OfBuffer,
    "tied": Tied,
}


# What lanes refuse -----------------------------------------------------------------------------------


class Counting(Plain):
    calls = 0

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class WritingToConstants(OfTensor):
    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.factors.mul_(0.99)
        return super().scaled(x)


class WritingToBuffers(OfBuffer):
    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.factors.mul_(0.99)
        return super().scaled(x)


class Half(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12, dtype=torch.float16))


class Listing(Plain):
    """Keeps a weight in a list, where nothing can put a lane's in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))
        self.scales = [self.scale]

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scales[0]


def holding(config: Config) -> nn.Module:
    model = OfFunction(lambda x: x * model.scale, 0.1)
    model.scale = nn.Parameter(torch.ones(12))
    return model


class Drawing(Plain):
    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        import random

        return x * random.random()


REFUSED: dict[str, tuple[Callable[[Config], nn.Module], str]] = {
    "counting": (lambda _: Counting(), "changes its attribute 'calls'"),
    "constants": (WritingToConstants, "changes its attribute 'factors'"),
    "buffers": (WritingToBuffers, "changes its buffer 'factors'"),
    "half": (lambda _: Half(), "parameter scale is torch.float16"),
    "listing": (lambda _: Listing(), "reads scale from a list"),
    "holding": (holding, "holds on to scale, which lanes replace"),
    "holding frozen": (lambda c: holding(c).requires_grad_(False), "holds on to scale, which lanes replace"),
    "drawing": (lambda _: Drawing(), "Python's or NumPy's"),
    "lazy": (lambda _: nn.Sequential(nn.LazyLinear(10)), "no shape before the first forward"),
}


class Routing(Plain):
    """Goes by the data, which vmap refuses; spare is read by no forward, but here one could."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    def scaled(self, x: torch.Tensor) -> torch.Tensor:
        return x if (x[-1] == x[1]).all() else x * self.config["spare"]


MODELS: dict[str, Callable[[Config], nn.Module]] = {
    **SCALED,
    **RECURRENT,
    **{name: build for name, (build, _) in REFUSED.items()},
    "small types": SmallTypes,
    "partial weights": Partial,
    "encoder": Encoder,
    "parametrized": Parametrized,
    "routing": Routing,
}

TASKS = {name: Modelled(model=name) for name in MODELS}
