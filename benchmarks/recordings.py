"""What benchmarks/search_quality.py and benchmarks/held_out.py replay: tasks, spaces, and the grids over them.

Those of `SOLO` were recorded with the plain trainer (record_curves.py), all others with lanes (record_lanes.py), from
two seeds: a search sees the curves of one seed, and what it found is judged by the mean of both.

`digits_mlp` and `mnist_mlp` are two tasks over one space: what is good on one should nearly be good on the other.
Those of `HELD_OUT` are for benchmarks/held_out.py alone: nothing is chosen by what they say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int, Parameter
from raytune_hpo.tasks.diabetes import Diabetes
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.tasks.mnist import Mnist
from raytune_hpo.tasks.mnist_cnn import MnistCnn
from raytune_hpo.training.task import Task

FOLDER = Path(__file__).resolve().parent / "curves"


@dataclass(frozen=True)
class Recording:
    """A task and the grid over its space.

    levels: values per Float, evenly spaced in its scale, ends included; of an Int and a Choice every value. fixed: what
    else the configs say. epochs, seeds: so many trainings of so many epochs a config.
    """

    task: Task
    space: dict[str, Parameter]
    levels: dict[str, int]
    fixed: dict[str, Any]
    metric: str
    mode: str
    epochs: int = 30
    seeds: int = 1

    def axes(self) -> dict[str, list[Any]]:
        return {name: axis(parameter, self.levels.get(name)) for name, parameter in self.space.items()}

    def configs(self) -> list[dict[str, Any]]:
        """All points of the grid, the last hyperparameter moving fastest. Inactive ones are left out of a config, and
        not branched on."""
        space, axes = SearchSpace(self.space), self.axes()

        def extend(chosen: dict[str, Any], left: list[str]) -> Iterator[dict[str, Any]]:
            if not left:
                yield chosen
            elif space.is_active(left[0], chosen):
                for value in axes[left[0]]:
                    yield from extend({**chosen, left[0]: value}, left[1:])
            else:
                yield from extend(chosen, left[1:])

        return list(extend({}, list(self.space)))


def axis(parameter: Parameter, levels: int | None) -> list[Any]:
    """The grid's values of one parameter, rounded to 6 digits so that they read well and compare exactly."""
    if isinstance(parameter, Float):
        assert levels is not None
        values = [parameter.from_unit(i / (levels - 1)) for i in range(levels)]
        return [parameter.low, *(float(f"{v:.6g}") for v in values[1:-1]), parameter.high]
    assert isinstance(parameter, Int | Choice)
    assert parameter.n is not None
    return [parameter.value_at(i) for i in range(parameter.n)]


def mlp_space() -> dict[str, Parameter]:
    return {
        "optimizer": Choice(["sgd", "adam"]),
        "lr": Float(1e-4, 1.0, scale="log"),
        "momentum": Float(0.0, 0.99, scale="reverse_log").when("optimizer", "==", "sgd"),
        "hidden_units": Int(8, 128, scale="power_of_two"),
        "activation": Choice(["relu", "tanh"]),
        "weight_decay": Float(1e-6, 1e-1, scale="log"),
    }


MLP = {
    "levels": {"lr": 9, "momentum": 3, "weight_decay": 3},
    "fixed": {"batch_size": 64},
    "metric": "validation_loss",
    "mode": "min",
    "epochs": 81,
    "seeds": 2,
}

# The first two differ in data, optimizer, and the fourth hyperparameter, so that what is good on one need not be
# on the other. The learning rates go far enough for a share of the trials to learn nothing, as in a first search.
RECORDINGS: dict[str, Recording] = {
    "digits": Recording(
        task=Digits(validation_fraction=0.3),
        space={
            "lr": Float(1e-4, 1.0, scale="log"),
            "hidden_units": Int(16, 256, scale="power_of_two"),
            "batch_size": Int(32, 512, scale="power_of_two"),
            "dropout": Float(0.0, 0.6),
        },
        levels={"lr": 10, "dropout": 4},
        fixed={"optimizer": "adam"},
        metric="validation_loss",
        mode="min",
    ),
    "mnist": Recording(
        task=Mnist(train_samples=1000, validation_samples=2000, test_samples=1),
        space={
            "lr": Float(1e-3, 10.0, scale="log"),
            "hidden_units": Int(8, 128, scale="power_of_two"),
            "batch_size": Int(32, 512, scale="power_of_two"),
            "momentum": Float(0.0, 0.99, scale="reverse_log"),
        },
        levels={"lr": 10, "momentum": 4},
        fixed={"optimizer": "sgd"},
        metric="validation_accuracy",
        mode="max",
    ),
    "digits_mlp": Recording(task=Digits(validation_fraction=0.3), space=mlp_space(), **MLP),  # type: ignore[arg-type]
    "mnist_mlp": Recording(
        task=Mnist(train_samples=1000, validation_samples=1000, test_samples=1),
        space=mlp_space(),
        **MLP,  # type: ignore[arg-type]
    ),
    "diabetes": Recording(
        task=Diabetes(),
        space={
            "lr": Float(1e-4, 0.1, scale="log"),
            "hidden_layers": Int(1, 3),
            "hidden_units": Choice([8, 32, 128], ordered=True),
            "dropout": Float(0.0, 0.5),
            "activation": Choice(["relu", "tanh", "silu"]),
            "batch_size": Choice([16, 64], ordered=True),
        },
        levels={"lr": 8, "dropout": 3},
        fixed={"optimizer": "adam"},
        metric="validation_loss",
        mode="min",
        epochs=81,
        seeds=2,
    ),
    "mnist_cnn": Recording(
        task=MnistCnn(train_samples=500, validation_samples=500, test_samples=1),
        space={
            "lr": Float(1e-4, 0.1, scale="log"),
            "filters": Choice([2, 4, 8], ordered=True),
            "conv_layers": Choice([1, 2], ordered=True),
            "kernel_size": Choice([3, 5], ordered=True),
            "activation": Choice(["relu", "tanh"]),
            "dropout": Float(0.0, 0.6),
        },
        levels={"lr": 7, "dropout": 3},
        fixed={"optimizer": "adam", "batch_size": 64},
        metric="validation_accuracy",
        mode="max",
        epochs=52,
        seeds=2,
    ),
}
SOLO = ("digits", "mnist")
HELD_OUT = ("diabetes", "mnist_cnn")
