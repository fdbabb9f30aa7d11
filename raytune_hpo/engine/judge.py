"""The judge: what a trial's report means for the trial and for the run.

A divergence, the last epoch, a plateau and the end of the run come before the scheduler, which is asked about the rest.
"""

from __future__ import annotations

import math
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Ended
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.schedulers.scheduler import Answer
from raytune_hpo.states import MAX_EPOCHS, PLATEAU, Decision, Outcome
from raytune_hpo.training.early_stopping import PlateauTracker
from raytune_hpo.training.task import Task

DECISIONS = {
    Answer.CONTINUE: Decision.CONTINUE,
    Answer.PAUSE: Decision.PAUSE,
    Answer.STOP: Decision.STOP,
    Answer.NOOP: Decision.EXPLOITED,
}


class Judge:
    """Decides on reports; keeps what that takes of each trial (`add` ... `forget`)."""

    def __init__(self, experiment: ResolvedExperiment, host: SchedulerHost) -> None:
        self.experiment = experiment
        self.host = host
        self.objective = experiment.objective
        self._plateaus: dict[str, PlateauTracker] = {}
        # Any other metric may be NaN where it was not measured: a validation every fifth epoch, a class that is absent.
        task = experiment.task
        trains = isinstance(task, Task) and not task.has_own_trainer
        self._decisive = ("train_loss", self.objective.metric) if trains else (self.objective.metric,)

    def add(self, trial: TrialState) -> None:
        if self.experiment.early_stopping is not None:
            self._plateaus[trial.id] = PlateauTracker(self.experiment.early_stopping)

    def forget(self, trial: TrialState) -> None:
        self._plateaus.pop(trial.id, None)

    def last_epoch(self, trial: TrialState) -> int:
        """The epoch at which a trial is complete."""
        return self.experiment.max_epochs if trial.limit is None else trial.limit

    def answer_again(self, trial: TrialState) -> Decision | None:
        """What the scheduler says to a trial's newest report; None of one that it does not decide about, or that has
        diverged."""
        if self._not_finite(trial) is not None:
            return None
        self._on_plateau(trial)  # it is told of every report that is not the last
        return self._ask_scheduler(trial) if self.host.knows(trial.id) else None

    def judge(self, trial: TrialState, stop_reason: str | None, done: bool = False) -> tuple[Decision, Ended | None]:
        """(decision on the trial's newest report, the trial's end if it is over).

        stop_reason: why the run accepts no more work. done: the trial says that it is over.
        """
        wrong = self._not_finite(trial)
        if wrong is not None:
            if self.host.scheduler.handles_divergence and self._ask_scheduler(trial) == Decision.EXPLOITED:
                return Decision.EXPLOITED, None
            return Decision.DIVERGED, Ended(trial.id, Outcome.DIVERGED, wrong, error=wrong)
        if done or trial.epoch >= self.last_epoch(trial):
            reason = "budget" if trial.epoch >= self.last_epoch(trial) else "done"
            reason = MAX_EPOCHS if trial.epoch >= self.experiment.max_epochs else reason
            return Decision.COMPLETE, Ended(trial.id, Outcome.COMPLETED, reason)
        if self._on_plateau(trial):
            return Decision.PLATEAU, Ended(trial.id, Outcome.STOPPED, PLATEAU)
        if stop_reason is not None:
            return Decision.HALT, Ended(trial.id, Outcome.STOPPED, stop_reason)
        decision = self._ask_scheduler(trial)
        stopped = Ended(trial.id, Outcome.STOPPED, self.experiment.scheduler.name)
        return decision, stopped if decision == Decision.STOP else None

    def replay(self, trial: TrialState, decision: Decision) -> bool:
        """Show a recorded report to whom it was shown then. Whether the scheduler decides as it did."""
        if decision == Decision.DIVERGED and self.host.scheduler.handles_divergence:
            return self._ask_scheduler(trial) != Decision.EXPLOITED
        if not decision.of_scheduler:
            return True
        if self._not_finite(trial) is None:
            self._on_plateau(trial)
        return self._ask_scheduler(trial) == decision

    def run_is_over(self, ledger: Ledger) -> str | None:
        """Why the run should accept no more work; None while it should, or does not already."""
        best, conditions = ledger.best_trial, self.experiment.stop
        if ledger.stop_reason is not None or best is None or best.best is None:
            return None
        target, patience = conditions.target, conditions.no_improvement_trials
        if target is not None and (best.best == target or self.objective.better(best.best, target)):
            return f"target {target:g} reached"
        if patience is not None and ledger.ended_since_best >= patience:
            return f"no improvement over {patience} trials"
        return None

    def scheduler_result(self, trial: TrialState) -> dict[str, Any]:
        """What the scheduler is shown of a report."""
        result = {self.objective.metric: trial.metrics[self.objective.metric], "epoch": trial.epoch}
        if self.host.scheduler.sees_metrics:
            return {
                **trial.metrics,
                **result,
                "training_iteration": trial.epoch,
                "finite": self._not_finite(trial) is None,
            }
        return result

    def _on_plateau(self, trial: TrialState) -> bool:
        tracker = self._plateaus.get(trial.id)
        # A metric of the user's that is not in every report says nothing where it is missing.
        value = None if tracker is None else trial.metrics.get(tracker.objective.metric)
        return tracker is not None and value is not None and tracker.update(value)

    def _ask_scheduler(self, trial: TrialState) -> Decision:
        if not self.host.knows(trial.id):
            return Decision.CONTINUE
        self.host.trials[trial.id].checkpoint = trial.resume_from
        answer = self.host.result(trial.id, self.scheduler_result(trial))
        try:
            return DECISIONS[Answer(answer)]
        except ValueError:
            field = f"{self.experiment.scheduler.name}.on_trial_result"
            raise ExperimentError(field, answer, f"must be one of {', '.join(Answer)}") from None

    def _not_finite(self, trial: TrialState) -> str | None:
        """What of the newest report says that the trial has diverged; None if nothing does."""
        for name in self._decisive:
            value = trial.metrics.get(name)
            if isinstance(value, float) and not math.isfinite(value):
                return f"{name} is {value:g} at epoch {trial.epoch}"
        return None
