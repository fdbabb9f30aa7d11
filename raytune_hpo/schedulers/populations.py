"""Ray Tune's schedulers of populations: PBT and PB2, corrected and seeded (`corrected`, `pb2`).

Making one imports no Ray Tune, unless Ray has changed (`ray_alone`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.options import option
from raytune_hpo.schedulers.of_ray import RayScheduler
from raytune_hpo.schedulers.scheduler import SchedulerOptions
from raytune_hpo.space import SearchSpace


@dataclass(frozen=True)
class PopulationOptions(SchedulerOptions):
    """Of the schedulers that copy checkpoints between the members of a population."""

    interval: int | None = option(None, low=1, doc="epochs between exploits (default max_epochs / 8)")
    quantile: float = option(0.25, low=0, high=0.5, open_low=True, doc="the share that copies and is copied")
    resample_probability: float = option(
        0.25, low=0, high=1, doc="of a parameter, to be drawn afresh in place of moved"
    )
    mutate: tuple[str, ...] | None = option(
        None, doc="the parameters that explore changes (default: those that do not change the model's shape)"
    )

    def resolved(self, *, space: SearchSpace, max_epochs: int, structural: set[str] | None) -> Self:
        interval = self.interval or max(1, max_epochs // 8)
        if interval > max_epochs:
            raise ExperimentError("scheduler.interval", interval, f"must be at most max_epochs = {max_epochs}")
        mutate = mutable(type(self).__name__, self.mutate, space, structural)
        return replace(self, interval=interval, mutate=mutate)

    def checkpoint_every(self, asked: int) -> int:
        """A donor's state is copied at every interval: it must be on disk by then."""
        assert self.interval is not None
        return asked if self.interval % asked == 0 else 1


@dataclass(frozen=True)
class PbtOptions(PopulationOptions):
    perturbation: float = option(
        0.1, low=0, high=1, open_low=True, doc="how far explore moves, as a share of a parameter's own scale"
    )


class Pbt(RayScheduler):
    """Population based training (Jaderberg et al. 2017, arXiv:1711.09846)."""

    name = "pbt"
    Options: ClassVar[type[SchedulerOptions]] = PbtOptions
    is_population = True
    plans_budgets = True

    def make(self) -> Any:
        from raytune_hpo.schedulers import corrected

        return corrected.Pbt(self.space, self.seed, **self._of_population)

    @property
    def _of_population(self) -> dict[str, Any]:
        options = self.options.to_json()
        options["perturbation_interval"] = options.pop("interval")
        options["quantile_fraction"] = options.pop("quantile")
        return {**self._compared, **options}

    def pinned_checkpoints(self) -> Iterable[CheckpointRecord]:
        pinned: Iterable[CheckpointRecord] = self.ray.pinned_checkpoints()
        return pinned

    def forget_checkpoint(self, path: str) -> None:
        self.ray.forget_checkpoint(path)


@dataclass(frozen=True)
class Pb2Options(PopulationOptions):
    kappa: float = option(1.0, low=0, high=100, doc="deviations in the upper bound on an interval's gain")


class Pb2(Pbt):
    """PB2 (Parker-Holder, Nguyen & Roberts 2020, arXiv:2002.02518): as pbt, but explore asks a Gaussian process."""

    name = "pb2"
    Options = Pb2Options

    def make(self) -> Any:
        from raytune_hpo.schedulers import pb2

        return pb2.Pb2(self.space, self.seed, **self._of_population)


def mutable(
    kind: str, named: tuple[str, ...] | None, space: SearchSpace, structural: set[str] | None
) -> tuple[str, ...]:
    """The parameters that may change in mid-training: those that are named, or all. Raises ExperimentError."""
    paths = space.parameters
    free = [path for path in paths if path not in (structural or ())]
    if named is not None:
        for path in named:
            if path not in paths:
                raise ExperimentError("scheduler.mutate", path, checks.no_such("parameter", path, paths))
            if path not in free:
                raise ExperimentError(
                    "scheduler.mutate", path, f"cannot change in mid-training; {', '.join(free) or 'none'} can"
                )
        if not named:
            raise ExperimentError("scheduler.mutate", list(named), "must name at least one parameter")
        return named
    if structural is None:
        expected = f"must list the parameters that may change in mid-training, out of {', '.join(paths)}"
        raise ExperimentError("scheduler.mutate", None, expected)
    if not free:
        name = kind.removesuffix("Options").lower()
        raise ExperimentError("scheduler", name, "every parameter changes the model's shape; add one such as lr")
    return tuple(free)
