"""The small frozen records that an Experiment is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.options import Options, option

T = TypeVar("T")


@dataclass(frozen=True)
class Resources(Options):
    """What one trial gets."""

    FIELD: ClassVar[str] = "resources"

    cpus: float = option(1, low=0, doc="CPU cores")
    gpus: float = option(0, low=0, doc="GPUs; a fraction shares one: with 0.25 four trials do")
    strategy: str | None = option(
        None, choices=("ddp",), doc="ddp: the trial is a process a GPU (without GPUs, a CPU), ranks of one group of "
        "torch.distributed, each of which calls its function"
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if value > 1 and value != int(value):
                raise ExperimentError(f"resources.{name}", value, "above 1, must be a whole number")
        if self.cpus == 0 and self.gpus == 0:
            raise ExperimentError("resources", {"cpus": 0, "gpus": 0}, "a trial needs a CPU or a GPU share")
        if self.strategy == "ddp" and self.ranks < 2:
            field = "gpus" if self.gpus else "cpus"
            raise ExperimentError(f"resources.{field}", getattr(self, field), 'with strategy="ddp", must be 2 or more')

    @property
    def ranks(self) -> int:
        """Processes that a trial is."""
        return 1 if self.strategy is None else int(self.gpus or self.cpus)

    @property
    def of_rank(self) -> Resources:
        """What each of them has."""
        if self.ranks == 1:
            return self
        share = self.cpus / self.ranks
        return Resources(cpus=share if share < 1 else int(share), gpus=self.gpus / self.ranks)


@dataclass(frozen=True)
class Checkpointing(Options):
    """When trials are checkpointed and what is kept. (The last epoch and every pause are saved in any case.)

    Bounds the disk: a run of a thousand trials holds about keep_trials + running trials checkpoints, and at most
    keep_trials more of failed ones, for `retry` to go on from.
    """

    FIELD: ClassVar[str] = "checkpoint"

    every: int = option(1, low=1, doc="epochs between checkpoints")
    keep: int = option(2, low=1, doc="the newest ones kept of an unfinished trial; its best is kept besides")
    keep_trials: int | None = option(
        20, low=1, doc="how many of the best finished trials keep their checkpoint, None for all"
    )


@dataclass(frozen=True)
class StopRun(Options):
    """When the whole run has seen enough."""

    FIELD: ClassVar[str] = "stop"

    target: float | None = option(None, doc="the metric value to reach")
    no_improvement_trials: int | None = option(None, low=1, doc="finished trials in a row without a new best")


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
class Hypergradient(Options):
    """Continuous training hyperparameters follow the gradient of the validation loss while a trial trains."""

    FIELD: ClassVar[str] = "hypergradient"

    parameters: tuple[str, ...] | None = option(
        None, doc="names among lr, momentum, weight_decay, beta1, beta2, label_smoothing, each a Float of the space; "
        "None is all of them that the space has"
    )  # fmt: skip
    every: int = option(10, low=1, doc="optimizer steps between two updates")
    unroll: int = option(5, low=1, doc="optimizer steps that the gradient looks ahead")
    step: float = option(
        0.04, low=0, high=1, open_low=True, doc="the largest change of an update, in unit coordinates (0.04 is 4 % of "
        "the parameter's range in its own scale); it falls to 0 over the epochs"
    )  # fmt: skip
    rehearsal: int = option(
        40, low=0, doc="before the first step lower learning rates are tried for so many steps each, which are taken "
        "back; 0 is none"
    )  # fmt: skip
    validation_samples: int = option(256, low=1, doc="drawn anew for each update")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parameters == ():
            raise ExperimentError("hypergradient.parameters", [], "must be a list of names")
