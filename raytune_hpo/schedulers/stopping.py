"""Ray Tune's schedulers that stop trials: ASHA, Hyperband and median stopping, corrected and seeded (`corrected`).

Making one imports no Ray Tune, unless Ray has changed (`ray_alone`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.options import option
from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.of_ray import RayScheduler
from raytune_hpo.schedulers.rungs import FirstRung, GraceOptions
from raytune_hpo.schedulers.scheduler import Answer, SchedulerOptions
from raytune_hpo.search.history import Suggestion


def halved_epochs(first: int, factor: float, max_epochs: int) -> float:
    """Epochs of a trial on average where 1 in `factor` survives each rung, at `first`, `first * factor`, ..."""
    epochs, rung, share = float(min(first, max_epochs)), float(first), 1.0
    while rung < max_epochs:
        share /= factor
        epochs += share * (min(rung * factor, max_epochs) - rung)
        rung *= factor
    return epochs


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
    promotes = forgives = False  # a bracket is of one budget

    @classmethod
    def expected_epochs(cls, options: SchedulerOptions | None, max_epochs: int) -> float:
        assert isinstance(options, HyperBandOptions)
        return halved_epochs(1, options.reduction_factor, max_epochs)

    def make(self) -> Any:
        return self._of(self.max_epochs)

    def prepare(self) -> None:
        super().prepare()
        self._of_trial: dict[str, Any] = {}  # the scheduler of Ray's that a trial's bracket is of
        self._eras: list[Any] = []

    def _of(self, max_epochs: int) -> Any:
        from raytune_hpo.schedulers import corrected

        return corrected.HyperBand(max_t=max_epochs, **self._compared, **self.options.to_json())

    def new_era(self, max_epochs: int) -> None:
        """Brackets are of a budget: trials of before go on in theirs, those that come fill others."""
        if self._eras and max_epochs == self.ray._max_t_attr and not self.ray._exhausted:
            return
        self.ray = self._of(max_epochs)
        self._eras.append(self.ray)

    def end_eras(self, host: SchedulerHost) -> None:
        for ray in self._eras[:-1]:
            if not ray._exhausted:
                ray.on_search_exhausted(host)

    def on_trial_add(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._of_trial[trial.trial_id] = self.ray
        super().on_trial_add(host, trial)

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        return str(self._of_trial[trial.trial_id].on_trial_result(host, trial, result))

    def on_trial_complete(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        self._of_trial[trial.trial_id].on_trial_complete(host, trial, result)

    def on_trial_error(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._of_trial[trial.trial_id].on_trial_error(host, trial)

    def on_trial_remove(self, host: SchedulerHost, trial: HostTrial) -> None:
        self._of_trial[trial.trial_id].on_trial_remove(host, trial)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return float(self._of_trial[trial.trial_id].next_decision(trial, epoch))

    def choose_trial_to_run(self, host: SchedulerHost) -> HostTrial | None:
        for ray in self._eras or [self.ray]:
            chosen: HostTrial | None = ray.choose_trial_to_run(host)
            if chosen is not None:
                return chosen
        return None

    def search_exhausted(self, host: SchedulerHost) -> None:
        self.ray.on_search_exhausted(host)


@dataclass(frozen=True)
class MedianOptions(GraceOptions):
    min_samples: int = option(3, low=1, doc="trials needed before a median counts")


class Median(RayScheduler):
    """Median stopping (Golovin et al. 2017, "Google Vizier")."""

    name = "median"
    Options = MedianOptions
    forgives = False

    def make(self) -> Any:
        from raytune_hpo.schedulers import corrected

        assert isinstance(self.options, MedianOptions)
        grace, samples = self.options.first_rung(self.max_epochs), self.options.min_samples
        return corrected.Median(grace_period=grace, min_samples_required=samples, **self._compared)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return epoch + 1
