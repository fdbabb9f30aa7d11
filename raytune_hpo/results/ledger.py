"""The ledger: what the journal's events say of a run, and nothing more.

The driver keeps one while it runs; `results.reader` makes one from a run directory. Both see the same
tables because both are this one derivation.
"""

from __future__ import annotations

import math
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Mode
from raytune_hpo.results import trial as states
from raytune_hpo.results.trial import TrialState, better
from raytune_hpo.storage.checkpoints import CheckpointRecord
from raytune_hpo.storage.journal import Event


class Ledger:
    """Trials and totals of a run.

    counts: trials by status. seconds: of running, all sessions together. ended_since_best: trials that
    ended in a row without a new best. status: "running" until a close event says otherwise.
    """

    def __init__(self, metric: str, mode: Mode) -> None:
        self.metric = metric
        self.mode: Mode = mode
        self.trials: dict[str, TrialState] = {}
        self.live: dict[str, TrialState] = {}
        self.counts: dict[str, int] = dict.fromkeys(states.STATUSES, 0)
        self.best_trial: TrialState | None = None
        self.ended_since_best = 0
        self.exhausted = False  # no trial will be added any more
        self.stop_reason: str | None = None
        self.sessions = 0
        self.seconds = 0.0
        self.status = "running"
        self.held = False  # paused by a person
        self.lr_ranges: dict[str, tuple[float, float]] = {}  # structure -> the range that its test suggests
        self.commands: dict[str, str] = {}  # a person's commands that were taken: id -> what came of them

    def apply(self, event: Event) -> None:
        """Move by one event. Raises ExperimentError for an event of another version."""
        kind = event["event"]
        handler = getattr(self, f"_on_{kind}", None)
        if handler is None:
            raise ExperimentError("journal", kind, "is no event that this version knows")
        if "trial" in event and kind != "suggest":
            handler(self.trials[event["trial"]], event)
        else:
            handler(event)

    # Of the run ---------------------------------------------------------------------------------

    def _on_session(self, event: Event) -> None:
        self.sessions = event["number"]
        self.status = "running"
        self.held = False
        self._nothing_runs()

    def _on_close(self, event: Event) -> None:
        self.status = event["status"]
        self._nothing_runs()

    def _nothing_runs(self) -> None:
        for trial in self.live.values():
            if trial.status == states.RUNNING:
                self.set_status(trial, states.PENDING)

    def _on_stop(self, event: Event) -> None:
        self.stop_reason = event["reason"]
        self.exhausted = True

    def _on_exhausted(self, event: Event) -> None:
        self.exhausted = True

    # Of a trial ---------------------------------------------------------------------------------

    def _on_suggest(self, event: Event) -> None:
        plan: dict[str, Any] = {key: event.get(key) for key in ("limit", "parent", "repeat", "note")}
        trial = TrialState(event["trial"], len(self.trials), event["config"], **plan)
        self.trials[trial.id] = self.live[trial.id] = trial
        self.counts[trial.status] += 1
        if event.get("checkpoint") is not None:
            self._add_checkpoint(trial, event["checkpoint"])
            trial.epoch = trial.checkpoints[-1].epoch
        trial.narrowed = "suggested" in event

    def _on_start(self, trial: TrialState, event: Event) -> None:
        self.set_status(trial, states.RUNNING)

    def _on_result(self, trial: TrialState, event: Event) -> None:
        trial.epoch = event["epoch"]
        trial.metrics = event["metrics"]
        trial.seconds += event["seconds"]
        trial.losses = 0
        value = float(trial.metrics[self.metric])
        if better(value, trial.best, self.mode):
            trial.best, trial.best_epoch = value, trial.epoch
            trial.best_metrics, trial.best_config = trial.metrics, trial.config
            if self.best_trial is None or better(value, self.best_trial.best, self.mode) or trial is self.best_trial:
                self.best_trial = trial
                self.ended_since_best = 0
        record = trial.resume_from
        if record is not None and record.epoch == trial.epoch:
            trial.scores[record.path] = value

    def decided(self, trial: TrialState, decision: str) -> None:
        """What the decision on a trial's report makes of it; apart from `apply`, since it is made after it."""
        if decision in ("pause", "exploited"):
            self.set_status(trial, states.PAUSED)

    def _on_checkpoint(self, trial: TrialState, event: Event) -> None:
        self._add_checkpoint(trial, {k: v for k, v in event.items() if k != "event"})

    def _add_checkpoint(self, trial: TrialState, data: dict[str, Any]) -> None:
        record = CheckpointRecord(**data)
        trial.checkpoints.append(record)
        if trial.metrics and record.epoch == trial.epoch and record.generation == trial.generation:
            trial.scores[record.path] = float(trial.metrics.get(self.metric, math.nan))

    def _on_lost_checkpoint(self, trial: TrialState, event: Event) -> None:
        trial.checkpoints = [c for c in trial.checkpoints if c.path != event["path"]]

    def _on_retry(self, trial: TrialState, event: Event) -> None:
        trial.losses += event["lost_worker"] * event.get("blame", 1)
        trial.failures += not event["lost_worker"]
        trial.error, trial.error_file = event["error"], event["file"]
        self.set_status(trial, states.PENDING)

    def _on_perturb(self, trial: TrialState, event: Event) -> None:
        trial.config = event["new_config"]
        trial.generation, trial.epoch = event["generation"], event["donor_epoch"]
        trial.metrics = {}
        self._add_checkpoint(trial, event["checkpoint"])
        self.set_status(trial, states.PAUSED)

    def _on_lr_range(self, trial: TrialState, event: Event) -> None:
        self.lr_ranges[event["structure"]] = (event["low"], event["high"])
        if trial.status == states.RUNNING:
            self.set_status(trial, states.PENDING)

    def _on_narrow(self, trial: TrialState, event: Event) -> None:
        trial.config, trial.narrowed = event["config"], True

    def _on_command(self, trial: TrialState, event: Event) -> None:
        self.commands[event["id"]] = event["outcome"]
        if event["applied"] and event["command"] in ("pause", "resume"):
            self.held = event["command"] == "pause"
            if trial.status == states.RUNNING:
                self.set_status(trial, states.PAUSED)

    def _on_end(self, trial: TrialState, event: Event) -> None:
        trial.reason = event["reason"]
        if event.get("error") is not None:
            trial.error, trial.error_file = event["error"], event["file"]
        self.set_status(trial, event["status"])
        del self.live[trial.id]
        self.ended_since_best += 1
        if trial is self.best_trial and not trial.eligible:
            self.best_trial = self.winner()

    def set_status(self, trial: TrialState, status: str) -> None:
        self.counts[trial.status] -= 1
        self.counts[status] += 1
        trial.status = status

    def winner(self) -> TrialState | None:
        """The trial with the best metric at any epoch, those that failed or diverged left out."""
        found = [t for t in self.trials.values() if t.eligible and t.best is not None]
        return min(found, key=lambda t: t.rank(self.mode), default=None)
