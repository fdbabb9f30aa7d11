"""What benchmarks/gpu.py trains: the models, the solo trainer in a loop, lanes, and windows of time over either."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gpu_device import Device
from mixed_lanes import EPOCHS, Live, sampled
from torch import nn

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(path) for path in (REPOSITORY, REPOSITORY / "tests") if str(path) not in sys.path]

from lane_models import Recurring, Tied  # noqa: E402
from lane_tasks import BigImages, Images  # noqa: E402

from raytune_hpo.experiment.file import load_experiment  # noqa: E402
from raytune_hpo.tasks.digits import Digits  # noqa: E402
from raytune_hpo.training.data import Split, Splits, TrialData  # noqa: E402
from raytune_hpo.training.hyperparameters import Hyperparameter  # noqa: E402
from raytune_hpo.training.lanes.fused_trainer import FusedTrainer  # noqa: E402
from raytune_hpo.training.lanes.mixed.template import Template  # noqa: E402
from raytune_hpo.training.task import Task  # noqa: E402
from raytune_hpo.training.trainer import SupervisedTrainer  # noqa: E402

Config = dict[str, Any]
WARM_EPOCHS = 4  # a stack tries out the sizes of its passes in these
WARM_TICKS = 255  # of lanes that come and go: until they are out of step
SPACE_CONFIGS = 32
SPACE, IMAGE_SPACE = "digits' space", "cnn's space"
CHAINS = ("mlp 64-64-10", SPACE, IMAGE_SPACE, "cnn 8x8")  # whose lanes are mixed ones
SPACES = {SPACE: "digits", IMAGE_SPACE: "mnist_cnn"}  # of experiments/
PRECISION = "RAYTUNE_HPO_GPU_PRECISION"  # in the environment: the hyperparameter of this name, of every config


@dataclass(frozen=True)
class Causal(Digits):
    """A causal transformer of two blocks over the rows of a digit, its head tied to its embedding."""

    width: int = 64

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Tied(config, self.width)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        names = {"scale": 1.0, "dropout": 0.1}
        return {name: Hyperparameter(name, "float", value, "of the model", low=0) for name, value in names.items()}


@dataclass(frozen=True)
class Recurrent(Digits):
    """An LSTM of two layers, with dropout between them, over the rows of a digit."""

    width: int = 64

    def build_model(self, config: Mapping[str, Any]) -> nn.Module:
        return Recurring(nn.LSTM, width=self.width, num_layers=2, batch_first=True, dropout=0.2)

    def model_hyperparameters(self) -> Mapping[str, Hyperparameter]:
        return {}


@dataclass(frozen=True)
class FewImages(BigImages):
    """As `BigImages`, as few as a processor can take."""

    def load(self, seed: int) -> Splits:
        splits = super().load(seed)
        few = [Split(split.x[:2], split.y[:2]) for split in (splits.train, splits.validation, splits.test)]
        return Splits(few[0], few[1], few[2])


@dataclass(frozen=True)
class Trained:
    """A model with what it is trained on. configs: that are trained in turn, EPOCHS each; None: `base` for good."""

    task: Task
    data: TrialData
    base: Config
    configs: tuple[Config, ...] | None = None

    def config(self, lane: int, lanes: int) -> Config:
        return {**self.base, "lr": 1e-4 * (1 + lane / lanes)}

    @property
    def round(self) -> int:
        """Epochs of all configs once."""
        return 0 if self.configs is None else len(self.configs) * EPOCHS


MODELS: dict[str, tuple[Callable[[], Task], Callable[[], Task], Config]] = {
    # in full, small, config
    "mlp 64-64-10": (Digits, Digits, {"optimizer": "adam", "hidden_units": 64}),
    SPACE: (Digits, Digits, {}),
    IMAGE_SPACE: (Images, Images, {}),
    "cnn 8x8": (Images, Images, {"filters": 8, "conv_layers": 2}),
    "transformer": (Causal, functools.partial(Causal, width=16), {"optimizer": "adam"}),
    "lstm": (Recurrent, functools.partial(Recurrent, width=16), {"optimizer": "adam"}),
    "resnet-18": (BigImages, FewImages, {}),
}


@functools.cache
def trained(name: str, small: bool) -> Trained:
    full, few, base = MODELS[name]
    task = (few if small else full)()
    precision = os.environ.get(PRECISION, "float32")
    base, configs = {**base, "precision": precision}, None
    if name in SPACES:
        space = load_experiment(str(REPOSITORY / "experiments" / f"{SPACES[name]}.py")).resolved.space
        found = sampled(space, 0)[: 4 if small else SPACE_CONFIGS]
        configs = tuple({**config, "precision": precision} for config in found)
    return Trained(task, task.load(0).for_trials(), base, configs)


# Ways to train it -----------------------------------------------------------------------------------


class Training(Protocol):
    def advance(self) -> None:
        """As little as there is to do at a time."""

    def progress(self) -> float:
        """Model-epochs so far."""


class Solo:
    """The solo trainer in a loop, from the `first` config on, of each from its model's making on."""

    def __init__(self, what: Trained, device: Device, first: int = 0) -> None:
        epochs = EPOCHS if what.configs else 1_000_000
        self._trainer = SupervisedTrainer(what.task, what.data, max_epochs=epochs, device=device.kind)
        self._what, self._next, self._epochs = what, first, 0
        self._set_up()

    def _set_up(self) -> None:
        configs = self._what.configs or (self._what.config(0, 1),)
        self._trainer.setup(configs[self._next % len(configs)], self._next)
        self._next += 1

    def advance(self) -> None:
        if self._trainer.epoch == self._trainer.max_epochs:
            self._set_up()
        self._trainer.train_epoch()
        self._epochs += 1

    def progress(self) -> float:
        return self._epochs


class Alike:
    """L lanes of one structure. check: asked between two lanes' making, raises where time is out. graphs: whether ticks
    may be captured."""

    def __init__(
        self, what: Trained, device: Device, lanes: int, check: Callable[[], None], *, graphs: bool = False
    ) -> None:
        template = replace(Template.of(device.kind), captures=graphs)
        self.trainer = FusedTrainer(what.task, what.data, max_epochs=1_000_000, device=device.kind, template=template)
        for lane in range(lanes):
            check()
            self.trainer.enter(str(lane), what.config(lane, lanes), lane)

    def advance(self) -> None:
        self.trainer.train_epoch()

    def progress(self) -> float:
        return self.trainer.progress()


def coming_and_going(
    what: Trained, device: Device, lanes: int, check: Callable[[], None], *, graphs: bool = False
) -> Live:
    """L lanes, in place of each of which the next config comes when it has done its epochs. check: as of `Alike`."""
    assert what.configs is not None
    template = replace(Template.of(device.kind), captures=graphs)
    trainer = FusedTrainer(what.task, what.data, max_epochs=EPOCHS, device=device.kind, template=template)

    def configs(every: Sequence[Config]) -> Iterator[Config]:
        for number in itertools.count():
            if number < lanes:
                check()
            yield every[number % len(every)]

    return Live(trainer, configs(what.configs), lanes)


def warm_up(training: Training, device: Device, check: Callable[[], None], seconds: float) -> None:
    """Until it goes on as it will; of lanes that come and go for so many seconds at most."""
    began = time.monotonic()
    if isinstance(training, Live):
        while training.trainer.ticks() < WARM_TICKS and time.monotonic() - began < seconds:
            check()
            training.advance()
    elif isinstance(training, Alike):
        for _ in range(WARM_EPOCHS):
            check()
            training.advance()
    else:
        training.advance()
    device.wait()


def window(training: Training, device: Device, seconds: float, epochs: float, until: float) -> tuple[float, float]:
    """(model-epochs, seconds) of so many seconds and epochs at least, unless it is `until`, of the monotonic clock."""
    began, before = time.monotonic(), training.progress()
    while True:
        training.advance()
        device.wait()
        now = time.monotonic()
        done = training.progress() - before
        if done and ((now - began >= seconds and done >= epochs) or now >= until):
            return done, now - began


def rates_of(windows: list[tuple[float, float]]) -> list[float]:
    return [float(np.divide(epochs, seconds)) for epochs, seconds in windows]
