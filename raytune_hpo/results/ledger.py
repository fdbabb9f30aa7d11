"""The ledger: what the journal's events say of a run, and nothing more.

The driver keeps one while it runs; `results.load_results` makes one from a run directory, and so does whoever follows
a run. All see the same tables because all are this one derivation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.journal import events
from raytune_hpo.journal.events import CheckpointRecord, Event
from raytune_hpo.objective import Objective
from raytune_hpo.results.replicates import ranked
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import config_key, copied
from raytune_hpo.states import Decision, RunStatus, Status

_OF_A_PLAN = ("limit", "parent", "repeat", "note", "replicate_of")
WarningKey = tuple[str, str, str]


def warning_key(category: str, text: str, where: str) -> WarningKey:
    """The same for warnings that differ in a number alone: they are one to people."""
    return category, re.sub(r"\d[\d.e+-]*", "#", text), where


@dataclass
class WarningSeen:
    """A warning of trials' code, by its first text. trials: how often, by trial."""

    category: str
    text: str
    where: str
    trials: dict[str, int] = field(default_factory=dict)

    @property
    def line(self) -> str:
        return f"{self.category}: {self.text} ({self.where})"


class Ledger:
    """Trials and totals of a run.

    counts: trials by status. seconds: of running, all sessions together. ended_since_best: trials that
    ended in a row without a new best. status: "running" until a close event says otherwise.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.trials: dict[str, TrialState] = {}
        self.live: dict[str, TrialState] = {}
        self.counts: dict[Status, int] = dict.fromkeys(Status, 0)
        self.best_trial: TrialState | None = None
        self._since_best: set[str] = set()  # the trials that `ended_since_best` counts
        self._raced = False  # whether there are replicates
        self.exhausted = False  # no trial will be added any more
        self.stop_reason: str | None = None
        self.sessions = 0
        self.codes: list[str] = []  # versions of the code that sessions trained with, in order
        self.code: int | None = None  # this session's, from 1
        self.executor: events.Executor | None = None  # of the newest session
        self.data: events.DataLoaded | None = None  # of a task
        self.seconds = 0.0
        self.status = RunStatus.RUNNING
        self.close_reason: str | None = None  # why the last session ended before the run did, where nobody asked
        self.held = False  # paused by a person
        self.lr_ranges: dict[str, tuple[float, float]] = {}  # structure -> the range that its test suggests
        self.warnings: dict[WarningKey, WarningSeen] = {}
        self.commands: dict[str, str] = {}  # a person's commands that were taken: id -> what came of them
        self.amendments: list[events.Amended] = []
        #: source -> key of a config that is known from there -> its last epoch there
        self.evidence: dict[str, dict[str, int]] = {}
        self.unsettled = False  # whether some of them are not in force yet
        self.searched = 0  # trials that the search has suggested

    @property
    def ended_since_best(self) -> int:
        return len(self._since_best)

    def apply(self, event: Event) -> None:
        """Move by one event. Raises KeyError for a trial that is not there."""
        handler = _HANDLERS[type(event)]
        if handler is None:
            return
        if isinstance(event, events.TrialEvent) and not isinstance(event, events.Suggested):
            handler(self, self.trials[event.trial], event)
        else:
            handler(self, event)

    # Of the run ---------------------------------------------------------------------------------

    def _on_session(self, event: events.SessionOpened) -> None:
        self.sessions = event.number
        if event.code is not None and event.code not in self.codes:
            self.codes.append(event.code)
        self.code = None if event.code is None else 1 + self.codes.index(event.code)
        self.executor = event.executor
        self.status = RunStatus.RUNNING
        self.close_reason = None
        self.held = False
        self._nothing_runs()

    def _on_data(self, event: events.DataLoaded) -> None:
        self.data = event

    def _on_executor(self, event: events.ExecutorChanged) -> None:
        self.executor = event.executor

    def _on_close(self, event: events.Closed) -> None:
        self.status = event.status
        self.close_reason = event.reason
        self._nothing_runs()

    def _nothing_runs(self) -> None:
        for trial in self.live.values():
            if trial.status == Status.RUNNING:
                self.set_status(trial, Status.PENDING)

    def _on_stop(self, event: events.RunStopped) -> None:
        self.stop_reason = event.reason
        self.exhausted = True

    def _on_exhausted(self, event: events.Exhausted) -> None:
        self.exhausted = True

    def _on_amend(self, event: events.Amended) -> None:
        """There may be more to do by it: that is found out anew."""
        self.amendments.append(event)
        self.unsettled = True
        if self.stop_reason is not None and event.lifts(self.stop_reason):
            self.stop_reason = None
        if self.stop_reason is None and event.makes_work:
            self.exhausted = False
            self._not_finished()

    def _on_evidence(self, event: events.EvidenceGiven) -> None:
        self.evidence.setdefault(event.source, {})[config_key(event.config)] = max(event.curve, default=0)

    def _on_settle(self, event: events.Settled) -> None:
        self.unsettled = False
        for name in event.extended:
            self._live_again(self.trials[name], Status.PAUSED if name in event.waiting else Status.PENDING)

    def _not_finished(self) -> None:
        """There is work again."""
        if self.status == RunStatus.FINISHED:
            self.status = RunStatus.INTERRUPTED

    def _on_command(self, event: events.Commanded) -> None:
        self.commands[event.id] = event.outcome
        if event.trial is None or not event.applied:
            return
        trial = self.trials[event.trial]
        if event.command in ("pause", "resume"):
            self.held = event.command == "pause"
            if trial.status == Status.RUNNING:
                self.set_status(trial, Status.PAUSED)

    # Of a trial ---------------------------------------------------------------------------------

    def _on_suggest(self, event: events.Suggested) -> None:
        # Copies: listeners are handed the events, and what they do with these is not to reach a trial.
        plan: dict[str, Any] = {name: copied(getattr(event, name)) for name in _OF_A_PLAN}
        searched = event.origin == events.Origin.SEARCH
        trial = TrialState(event.trial, len(self.trials), copied(event.config), **plan, searched=searched)
        self._raced = self._raced or trial.replicate_of is not None
        self.trials[trial.id] = self.live[trial.id] = trial
        self.searched += searched
        self._not_finished()
        self.counts[trial.status] += 1
        if event.checkpoint is not None:
            self._add_checkpoint(trial, event.checkpoint)
            trial.epoch = event.checkpoint.epoch
        trial.narrowed = event.suggested is not None

    def _on_discover(self, trial: TrialState, event: events.Discovered) -> None:
        trial.config, trial.met = copied(event.values), dict(event.parameters)

    def _on_start(self, trial: TrialState, event: events.Started) -> None:
        self.set_status(trial, Status.RUNNING)

    def _on_report(self, trial: TrialState, event: events.Reported) -> None:
        trial.epoch = event.epoch
        trial.metrics = dict(event.metrics)
        trial.seconds += event.seconds
        if self.code is not None:
            trial.codes.add(self.code)
        trial.losses = 0
        value = self.objective.of(event.metrics)
        if self.objective.better(value, trial.best):
            trial.best, trial.best_epoch = value, trial.epoch
            trial.best_metrics, trial.best_config = trial.metrics, trial.config
            leader = self.best_trial
            if self._raced:
                self.best_trial = self.winner()  # what a replicate says counts once it has ended
            elif leader is None or trial is leader or self.objective.better(value, leader.best):
                self.best_trial = trial
                self._since_best.clear()
        record = trial.resume_from
        if record is not None and record.epoch == trial.epoch:
            trial.scores[record.path] = value

    def _on_decide(self, trial: TrialState, event: events.Decided) -> None:
        by_hand = trial.held and trial.running and event.decision not in (Decision.PAUSE, Decision.EXPLOITED)
        trial.paused_by_hand = trial.paused_by_hand or by_hand
        if event.decision in (Decision.PAUSE, Decision.EXPLOITED) or by_hand:
            self.set_status(trial, Status.PAUSED)

    def _on_checkpoint(self, trial: TrialState, event: events.CheckpointSaved) -> None:
        self._add_checkpoint(trial, event.checkpoint)

    def _add_checkpoint(self, trial: TrialState, record: CheckpointRecord) -> None:
        trial.checkpoints.append(record)
        if trial.metrics and record.epoch == trial.epoch and record.generation == trial.generation:
            trial.scores[record.path] = float(trial.metrics.get(self.objective.metric, math.nan))

    def _on_lost_checkpoint(self, trial: TrialState, event: events.CheckpointLost) -> None:
        trial.checkpoints = [c for c in trial.checkpoints if c.path != event.path]

    def _on_retry(self, trial: TrialState, event: events.Retried) -> None:
        if event.lost_worker:
            trial.losses += event.blame
        else:
            trial.failures += 1
        trial.error, trial.error_file = event.error, event.file
        self.set_status(trial, Status.PENDING)

    def _on_warn(self, trial: TrialState, event: events.Warned) -> None:
        key = warning_key(event.category, event.text, event.where)
        seen = self.warnings.setdefault(key, WarningSeen(event.category, event.text, event.where))
        seen.trials[trial.id] = seen.trials.get(trial.id, 0) + event.count

    def _on_defer(self, trial: TrialState, event: events.Deferred) -> None:
        self.set_status(trial, Status.PENDING)

    def _on_perturb(self, trial: TrialState, event: events.Perturbed) -> None:
        trial.config = copied(event.new_config)
        trial.generation, trial.epoch = event.generation, event.donor_epoch
        trial.metrics = {}
        self._add_checkpoint(trial, event.checkpoint)
        self.set_status(trial, Status.PAUSED)

    def _on_lr_range(self, trial: TrialState, event: events.RangeTested) -> None:
        self.lr_ranges[event.structure] = (event.low, event.high)
        if trial.status == Status.RUNNING:
            self.set_status(trial, Status.PENDING)

    def _on_narrow(self, trial: TrialState, event: events.Narrowed) -> None:
        trial.config, trial.narrowed = copied(event.config), True

    def _on_hold(self, trial: TrialState, event: events.Held) -> None:
        trial.held = True  # a running one is paused at its next report

    def _on_release(self, trial: TrialState, event: events.Released) -> None:
        trial.held = False
        if trial.paused_by_hand and trial.status == Status.PAUSED:
            self.set_status(trial, Status.PENDING)
        trial.paused_by_hand = False

    def _on_promote(self, trial: TrialState, event: events.Promoted) -> None:
        trial.limit, trial.promoted = event.limit, True
        if trial.finished:
            trial.error = trial.error_file = None
            self._live_again(trial, Status.PAUSED)
            self._not_finished()

    def _on_mark(self, trial: TrialState, event: events.Marked) -> None:
        trial.tags = trial.tags if event.tags is None else event.tags
        trial.remark = trial.remark if event.note is None else event.note or None

    def _on_end(self, trial: TrialState, event: events.Ended) -> None:
        trial.reason, trial.held = event.reason, False
        if event.error is not None:
            trial.error, trial.error_file = event.error, event.file
        self.set_status(trial, Status(event.outcome.value))
        del self.live[trial.id]
        if self._raced:
            self.best_trial = self.winner()
            return
        if trial is self.best_trial and trial.eligible:
            return  # it is the best that the others are counted since
        self._since_best.add(trial.id)
        if trial is self.best_trial:
            self.best_trial = self.winner()

    def _on_reopen(self, trial: TrialState, event: events.Reopened) -> None:
        trial.failures, trial.losses, trial.reopened = 0, 0, True
        trial.error = trial.error_file = None
        self._live_again(trial, Status.PENDING)

    def _live_again(self, trial: TrialState, status: Status) -> None:
        """Of one that had ended."""
        trial.reason = None
        self.set_status(trial, status)
        self.live[trial.id] = trial
        self._since_best.discard(trial.id)
        leader = self.best_trial
        if self._raced:
            self.best_trial = self.winner()
            return
        if trial.best is None:
            return
        if leader is None or trial.rank(self.objective) < leader.rank(self.objective):
            self.best_trial = trial

    def set_status(self, trial: TrialState, status: Status) -> None:
        self.counts[trial.status] -= 1
        self.counts[status] += 1
        trial.status = status

    def winner(self) -> TrialState | None:
        """The trial with the best metric at any epoch, those that failed or diverged left out; of trials that were
        trained again, by the mean."""
        if self._raced:
            return next(iter(ranked(self.trials.values(), self.objective)), None)
        found = [t for t in self.trials.values() if t.eligible and t.best is not None]
        return min(found, key=lambda t: t.rank(self.objective), default=None)


#: What each event does to a ledger; None: nothing.
_HANDLERS: dict[type[Event], Callable[..., None] | None] = {
    kind: getattr(Ledger, f"_on_{name}", None) for name, kind in events.KINDS.items()
}
