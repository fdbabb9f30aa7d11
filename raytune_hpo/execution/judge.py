"""The judge: what a trial's report means for the trial and for the run.

A divergence, the last epoch, a plateau and the end of the run come before the scheduler, which is asked about the rest.
"""

from __future__ import annotations

import math
from typing import Any

from raytune_hpo.experiment import Experiment
from raytune_hpo.results import trial as states
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState, better
from raytune_hpo.schedulers import ray_host
from raytune_hpo.schedulers.ray_host import SchedulerHost
from raytune_hpo.storage.journal import Event
from raytune_hpo.training.early_stopping import PlateauTracker

SCHEDULERS_DECISIONS = {
    ray_host.CONTINUE: "continue",
    ray_host.PAUSE: "pause",
    ray_host.STOP: "stop",
    ray_host.NOOP: "exploited",
}


class Judge:
    """Decides on reports; keeps what that takes of each trial (`add` ... `forget`)."""

    def __init__(self, experiment: Experiment, host: SchedulerHost) -> None:
        self.experiment = experiment
        self.host = host
        self.metric, self.mode = experiment.objective
        self._plateaus: dict[str, PlateauTracker] = {}

    def add(self, trial: TrialState) -> None:
        if self.experiment.plateau is not None:
            self._plateaus[trial.id] = PlateauTracker(self.experiment.plateau)

    def forget(self, trial: TrialState) -> None:
        self._plateaus.pop(trial.id, None)

    def last_epoch(self, trial: TrialState) -> int:
        """The epoch at which a trial is complete."""
        return self.experiment.max_epochs if trial.limit is None else trial.limit

    def judge(self, trial: TrialState, stop_reason: str | None) -> tuple[str, Event | None]:
        """(decision on the trial's newest report, the trial's end if it is over).

        "continue", "pause", "stop" and "exploited" are the scheduler's; "diverged", "complete", "plateau" and "halt"
        are decided before it is asked. stop_reason: why the run accepts no more work.
        """
        if not self._finite(trial):
            if self.host.handles_divergence and self._ask_scheduler(trial) == "exploited":
                return "exploited", None
            return "diverged", {"status": states.DIVERGED, "reason": "a loss or the metric is not finite"}
        if trial.epoch >= self.last_epoch(trial):
            reason = "max_epochs" if trial.epoch >= self.experiment.max_epochs else "budget"
            return "complete", {"status": states.COMPLETED, "reason": reason}
        tracker = self._plateaus.get(trial.id)
        if tracker is not None and tracker.update(trial.metrics[self.metric]):
            return "plateau", {"status": states.STOPPED, "reason": "plateau"}
        if stop_reason is not None:
            return "halt", {"status": states.STOPPED, "reason": stop_reason}
        decision = self._ask_scheduler(trial)
        name, _ = self.experiment.option("scheduler")
        return decision, {"status": states.STOPPED, "reason": name} if decision == "stop" else None

    def replay(self, trial: TrialState, decision: str) -> bool:
        """Show a recorded report to whom it was shown then. Whether the scheduler decides as it did."""
        if decision not in SCHEDULERS_DECISIONS.values():
            return True
        tracker = self._plateaus.get(trial.id)
        if tracker is not None:
            tracker.update(trial.metrics[self.metric])
        return self._ask_scheduler(trial) == decision

    def run_is_over(self, ledger: Ledger) -> str | None:
        """Why the run should accept no more work; None while it should, or does not already."""
        best, conditions = ledger.best_trial, self.experiment.stop_run
        if ledger.stop_reason is not None or best is None or best.best is None:
            return None
        target, patience = conditions.target, conditions.no_improvement_trials
        if target is not None and (best.best == target or better(best.best, target, self.mode)):
            return f"target {target:g} reached"
        if patience is not None and ledger.ended_since_best >= patience:
            return f"no improvement over {patience} trials"
        return None

    def scheduler_result(self, trial: TrialState) -> dict[str, Any]:
        """What the scheduler is shown of a report."""
        result = {self.metric: trial.metrics[self.metric], "epoch": trial.epoch}
        if self.host.handles_divergence:
            return {**trial.metrics, **result, "finite": self._finite(trial)}
        return result

    def _ask_scheduler(self, trial: TrialState) -> str:
        self.host.trials[trial.id].checkpoint = trial.resume_from
        return SCHEDULERS_DECISIONS[self.host.result(trial.id, self.scheduler_result(trial))]

    def _finite(self, trial: TrialState) -> bool:
        losses = [v for k, v in trial.metrics.items() if k.endswith("loss") and isinstance(v, float)]
        return all(math.isfinite(v) for v in (trial.metrics[self.metric], *losses))
