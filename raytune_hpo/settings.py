"""The small frozen records that an Experiment is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError

T = TypeVar("T")


@dataclass(frozen=True)
class Resources:
    """What one trial gets. gpus may be a fraction (0.25: four trials share a GPU)."""

    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        checks.number("resources.cpus", self.cpus, 0)
        checks.number("resources.gpus", self.gpus, 0)
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if value > 1 and value != int(value):
                raise ExperimentError(f"resources.{name}", value, "above 1, must be a whole number")
        if self.cpus == 0 and self.gpus == 0:
            raise ExperimentError("resources", {"cpus": 0, "gpus": 0}, "a trial needs a CPU or a GPU share")


@dataclass(frozen=True)
class Checkpointing:
    """When trials are checkpointed and what is kept.

    every: epochs between checkpoints (the last epoch and every pause are saved in any case).
    keep: the newest checkpoints kept of an unfinished trial; its best one is kept besides.
    keep_trials: how many of the best finished trials keep their checkpoint, None for all. Bounds the
    disk: a run of a thousand trials holds about keep_trials + running trials checkpoints.
    """

    every: int = 1
    keep: int = 2
    keep_trials: int | None = 20

    def __post_init__(self) -> None:
        checks.integer("checkpoint.every", self.every, 1)
        checks.integer("checkpoint.keep", self.keep, 1)
        if self.keep_trials is not None:
            checks.integer("checkpoint.keep_trials", self.keep_trials, 1)


@dataclass(frozen=True)
class StopRun:
    """When the whole run has seen enough.

    target: the metric value to reach. no_improvement_trials: finished trials in a row without a new best.
    """

    target: float | None = None
    no_improvement_trials: int | None = None

    def __post_init__(self) -> None:
        if self.target is not None:
            checks.number("stop.target", self.target, -float("inf"))
        if self.no_improvement_trials is not None:
            checks.integer("stop.no_improvement_trials", self.no_improvement_trials, 1)


def record(field: str, cls: type[T], value: Any) -> T:
    """`value` as a `cls`: one already, or a dictionary of its fields. Raises ExperimentError."""
    if isinstance(value, cls):
        return value
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]  # every cls here is a dataclass
    if not isinstance(value, Mapping):
        raise ExperimentError(field, value, f"must be {cls.__name__}({', '.join(names)})")
    for key in value:
        if key not in names:
            expected = checks.no_such("field", key, names)
            raise ExperimentError(f"{field}.{key}", value[key], expected)
    for f in dataclasses.fields(cls):  # type: ignore[arg-type]
        if f.name not in value and f.default is dataclasses.MISSING:
            raise ExperimentError(field, dict(value), f"needs {f.name!r}")
    return cls(**value)


@dataclass(frozen=True)
class Hypergradient:
    """Continuous training hyperparameters follow the gradient of the validation loss while a trial trains.

    parameters: names among lr, momentum, weight_decay, beta1, beta2, label_smoothing, each a Float of the
    space; None is all of them that the space has. every: optimizer steps between two updates. unroll:
    optimizer steps that the gradient looks ahead. step: the largest change of an update, in unit coordinates
    (0.04 is 4 % of the parameter's range in its own scale); it falls to 0 over the epochs. rehearsal: before
    the first step lower learning rates are tried for so many steps each, which are taken back; 0 is none.
    validation_samples: drawn anew for each update.
    """

    parameters: tuple[str, ...] | None = None
    every: int = 10
    unroll: int = 5
    step: float = 0.04
    rehearsal: int = 40
    validation_samples: int = 256

    def __post_init__(self) -> None:
        if self.parameters is not None:
            if isinstance(self.parameters, str) or not isinstance(self.parameters, list | tuple) or not self.parameters:
                raise ExperimentError("hypergradient.parameters", self.parameters, "must be a list of names")
            object.__setattr__(self, "parameters", tuple(self.parameters))
        checks.integer("hypergradient.every", self.every, 1)
        checks.integer("hypergradient.unroll", self.unroll, 1)
        checks.number("hypergradient.step", self.step, 0, 1, open_low=True)
        checks.integer("hypergradient.rehearsal", self.rehearsal, 0)
        checks.integer("hypergradient.validation_samples", self.validation_samples, 1)
