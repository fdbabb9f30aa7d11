"""Ray Tune's schedulers behind our interface: ours, corrected and seeded (`corrected`), and any object of a user's.

Importing this module imports no Ray; nor does making one of ours, unless Ray has changed (`ray_alone`).
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.options import option
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.rungs import FirstRung, GraceOptions
from raytune_hpo.schedulers.scheduler import Answer, Scheduler, SchedulerOptions
from raytune_hpo.search.history import Suggestion
from raytune_hpo.space import SearchSpace


def halved_epochs(first: int, factor: float, max_epochs: int) -> float:
    """Epochs of a trial on average where 1 in `factor` survives each rung, at `first`, `first * factor`, ..."""
    epochs, rung, share = float(min(first, max_epochs)), float(first), 1.0
    while rung < max_epochs:
        share /= factor
        epochs += share * (min(rung * factor, max_epochs) - rung)
        rung *= factor
    return epochs


class RayScheduler(Scheduler):
    """Passes everything on to a TrialScheduler of Ray's, `self.ray`."""

    def prepare(self) -> None:
        self.ray = self.make()

    @abstractmethod
    def make(self) -> Any:
        """A fresh scheduler of Ray's, which compares by the objective at each epoch."""

    @property
    def _compared(self) -> dict[str, Any]:
        return {"metric": self.objective.metric, "mode": self.objective.mode}

    def on_trial_add(self, host: SchedulerHost, trial: HostTrial) -> None:
        self.ray.on_trial_add(host, trial)

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        return str(self.ray.on_trial_result(host, trial, result))

    def on_trial_complete(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        self.ray.on_trial_complete(host, trial, result)

    def on_trial_error(self, host: SchedulerHost, trial: HostTrial) -> None:
        self.ray.on_trial_error(host, trial)

    def on_trial_remove(self, host: SchedulerHost, trial: HostTrial) -> None:
        self.ray.on_trial_remove(host, trial)

    def choose_trial_to_run(self, host: SchedulerHost) -> HostTrial | None:
        chosen: HostTrial | None = self.ray.choose_trial_to_run(host)
        return chosen

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return float(self.ray.next_decision(trial, epoch))


# Ours --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AshaOptions(GraceOptions):
    reduction_factor: float = option(3, low=1, open_low=True, doc="1 in this many survives a rung")
    brackets: int = option(1, low=1, high=10, doc="ladders of rungs, each beginning later than the one before")


class Asha(RayScheduler):
    """ASHA (Li et al. 2020, arXiv:1810.05934). Unless it is given, the first rung follows the run's own curves
    (`rungs`)."""

    name = "asha"
    Options = AshaOptions
    options: AshaOptions

    @classmethod
    def expected_epochs(cls, options: SchedulerOptions | None, max_epochs: int) -> float:
        assert isinstance(options, AshaOptions)
        return halved_epochs(options.first_rung(max_epochs), options.reduction_factor, max_epochs)

    def make(self) -> Any:
        from raytune_hpo.schedulers import corrected

        options = {**self.options.to_json(), "grace_period": self.options.first_rung(self.max_epochs)}
        made = corrected.Asha(self.seed, max_t=self.max_epochs, **self._compared, **options)
        self._first = FirstRung(made.rungs(), moves=self.options.grace_period is None)
        self._curves: dict[str, Suggestion] = {}  # of the trials that have not ended
        return made

    def on_trial_add(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._curves[trial.trial_id] = Suggestion(trial.trial_id, trial.config, np.empty(0))
        super().on_trial_add(host, trial)

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        self._hear(trial, result)
        answer = super().on_trial_result(host, trial, result)
        news = self._first.take_news() if answer == Answer.CONTINUE else None
        if news is not None:
            host.note(news)
        return answer

    def on_trial_complete(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        if result:
            self._hear(trial, result)
        self._first.ended(self._curves.pop(trial.trial_id))
        self.ray.judged_from = self._first.now
        super().on_trial_complete(host, trial, result)

    def on_trial_error(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._curves.pop(trial.trial_id)
        super().on_trial_error(host, trial)

    def on_trial_remove(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._curves.pop(trial.trial_id)
        super().on_trial_remove(host, trial)

    def _hear(self, trial: HostTrial, result: dict[str, Any]) -> None:
        value = float(result[self.objective.metric])
        loss = self.objective.loss(value) if math.isfinite(value) else math.nan
        self._curves[trial.trial_id].hear(int(result["epoch"]), loss, self._first.rungs)


@dataclass(frozen=True)
class HyperBandOptions(SchedulerOptions):
    reduction_factor: float = option(3, low=2, doc="1 in this many survives a rung")


class HyperBand(RayScheduler):
    """Hyperband (Li et al. 2018, arXiv:1603.06560), synchronous."""

    name = "hyperband"
    Options = HyperBandOptions
    plans_budgets = True

    @classmethod
    def expected_epochs(cls, options: SchedulerOptions | None, max_epochs: int) -> float:
        assert isinstance(options, HyperBandOptions)
        return halved_epochs(1, options.reduction_factor, max_epochs)

    def make(self) -> Any:
        from raytune_hpo.schedulers import corrected

        return corrected.HyperBand(max_t=self.max_epochs, **self._compared, **self.options.to_json())

    def search_exhausted(self, host: SchedulerHost) -> None:
        self.ray.on_search_exhausted(host)


@dataclass(frozen=True)
class MedianOptions(GraceOptions):
    min_samples: int = option(3, low=1, doc="trials needed before a median counts")


class Median(RayScheduler):
    """Median stopping (Golovin et al. 2017, "Google Vizier")."""

    name = "median"
    Options = MedianOptions

    def make(self) -> Any:
        from raytune_hpo.schedulers import corrected

        assert isinstance(self.options, MedianOptions)
        grace, samples = self.options.first_rung(self.max_epochs), self.options.min_samples
        return corrected.Median(grace_period=grace, min_samples_required=samples, **self._compared)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return epoch + 1


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


# A user's ------------------------------------------------------------------------------------------------

#: Ray's schedulers that manage a population's checkpoints through Ray's controller, and ours in their place.
REFUSED = {
    "PopulationBasedTraining": 'use scheduler="pbt"',
    "PB2": 'use scheduler="pb2"',
    "PopulationBasedTrainingReplay": "use raytune-hpo replay",
    "ResourceChangingScheduler": "a trial's resources stay what they are",
    "HyperBandForBOHB": 'use scheduler="hyperband" with searcher="bohb"',
}


class GivenScheduler(RayScheduler):
    """A FIFO, ASHA, HyperBand or median object of Ray Tune's, or of a subclass. Metric, mode and time attribute (the
    epoch) are set here. It is copied before use, so that a run always begins with a fresh one.

    What it draws from global generators is not the same on replay, and is then reported as a mismatch.
    """

    name = "given"
    sees_metrics = True

    def __init__(self, given: Any, **built: Any) -> None:
        self.given = given
        super().__init__(**built)

    def make(self) -> Any:
        from raytune_hpo.schedulers.corrected import made_ours

        return made_ours(copy.deepcopy(self.given), self.objective)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return epoch + 1


def check_given(scheduler: Any, objective: Objective, max_epochs: int) -> None:
    """Raise ExperimentError unless `scheduler` is an object that GivenScheduler can take."""
    for cls in type(scheduler).__mro__:  # the nearest first: Ray's PB2 is a PopulationBasedTraining
        if cls.__name__ in REFUSED:
            expected = f"works through Ray's own controller, which is not used here: {REFUSED[cls.__name__]}"
            raise ExperimentError("scheduler", type(scheduler).__name__, expected)
    for field, wanted in (("_metric", objective.metric), ("_mode", objective.mode)):
        found = getattr(scheduler, field, None)
        if found not in (None, wanted):
            expected = f"the experiment's is {wanted!r}; leave it out of the scheduler"
            raise ExperimentError(f"scheduler.{field[1:]}", found, expected)
    grace = getattr(scheduler, "_grace_period", 0)
    if grace > max_epochs:
        expected = f"its unit here is the epoch, and max_epochs = {max_epochs}: it would never stop a trial"
        raise ExperimentError("scheduler.grace_period", grace, expected)
    try:
        copy.deepcopy(scheduler)
    except Exception as error:  # whatever a user's class does in there
        raise ExperimentError("scheduler", type(scheduler).__name__, f"cannot be copied: {error}") from error
