"""A scheduler of Ray Tune's behind our interface. Importing this module imports no Ray."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from raytune_hpo.schedulers.host import HostTrial, SchedulerHost
from raytune_hpo.schedulers.scheduler import Scheduler


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
