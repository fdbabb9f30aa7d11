"""What the scheduler and the search hear of a run: the events, after the ledger has moved by them.

Both learn of trials by this alone, live and in a replay, so that what they know is a function of the journal.
"""

from __future__ import annotations

from raytune_hpo.engine.before import Before
from raytune_hpo.engine.judge import Judge
from raytune_hpo.engine.retention import Retention
from raytune_hpo.errors import blamed
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal import events
from raytune_hpo.journal.events import By, Event
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.schedulers.scheduler import Standing
from raytune_hpo.search import Search
from raytune_hpo.space.configs import copied
from raytune_hpo.states import PLATEAU, Decision, Outcome, Status
from raytune_hpo.training.task import Task

STANDINGS = {
    Status.PENDING: Standing.PENDING,
    Status.RUNNING: Standing.RUNNING,
    Status.PAUSED: Standing.PAUSED,
}


class Telling:
    """Of one population."""

    def __init__(
        self,
        experiment: ResolvedExperiment,
        search: Search,
        host: SchedulerHost,
        judge: Judge,
        retention: Retention,
        before: Before,
        ledger: Ledger,
    ) -> None:
        self._experiment, self._search, self._host, self._judge = experiment, search, host, judge
        self._retention, self._before, self._ledger = retention, before, ledger
        self._search_blamed = blamed("searcher", experiment.searcher.name)

    def of_run(self, event: Event) -> None:
        if isinstance(event, events.Exhausted):
            self._host.exhausted()
        elif isinstance(event, events.Amended):
            self._before.amend(event)
        elif isinstance(event, events.Settled):
            self._settle(event)
        elif isinstance(event, events.SessionOpened | events.ExecutorChanged):
            self._host.has_room = event.room
        elif isinstance(event, events.EvidenceGiven):
            config = self._before.evidence(event.config)
            if config is not None:
                with self._search_blamed:
                    self._search.evidence(copied(config), dict(event.curve), event.source)
        for trial_id in self._ledger.live:
            self._sync_status(trial_id)

    def of_trial(self, trial: TrialState, event: events.TrialEvent) -> None:
        if trial.replicate_of is None:
            self._tell(trial, event)
        else:
            self._keep_of_replicate(trial, event)
        self._sync_status(trial.id)

    def _tell(self, trial: TrialState, event: events.TrialEvent) -> None:
        match event:
            case events.Reported() if self._is_observed(trial):
                with self._search_blamed:
                    self._search.report(trial.id, trial.epoch, event.metrics[self._experiment.objective.metric])
            case events.Decided():
                self._follow(trial, event.decision)
            case events.Started(epoch=0) if trial.epoch > 0 and not isinstance(self._experiment.task, Task):
                self._host.keeps_paused = False
            case events.Suggested() | events.Reopened():
                self._add(trial, again=isinstance(event, events.Reopened))
            case events.Discovered() | events.Perturbed() | events.Narrowed():
                self._host.configured(trial.id, trial.config)
                if isinstance(event, events.Perturbed) and event.by == By.HAND:
                    self._host.intervened(trial.id)
            case events.Held() | events.Released():
                self._host.hold(trial.id, held=trial.held)
            case events.CheckpointLost():
                self._host.forget(event.path)
            case events.Promoted():
                self._promote(trial)
            case events.Ended():
                self._tell_end(trial, event)

    def _add(self, trial: TrialState, *, again: bool) -> None:
        if not len(self._experiment.space):
            self._before.leave_out(trial.id)
        if again:
            self._retention.reopened(trial)
        self._judge.add(trial)
        if not trial.promoted:
            self._host.add(trial.id, trial.config)

    def _promote(self, trial: TrialState) -> None:
        """From here on nobody decides about it: to scheduler and search it is over as it stands."""
        self._retention.reopened(trial)
        self._before.close(trial.id)
        was_open = self._host.forsake(trial.id)
        if was_open and trial.searched and not self._before.is_outside(trial.id):
            with self._search_blamed:
                self._search.observe(trial.id, Outcome.STOPPED, trial.best, trial.epoch)

    def _tell_end(self, trial: TrialState, event: events.Ended) -> None:
        if self._before.undoes(trial, event, self._ledger.stop_reason):
            self._host.suspend(trial.id)
            return
        # One that has come to a plateau was not cut short: it would reach no more.
        outcome = Outcome.COMPLETED if event.reason == PLATEAU else event.outcome
        self._over(trial, outcome, cut=event.reason == events.BY_HAND)

    def _over(self, trial: TrialState, outcome: Outcome, *, cut: bool) -> None:
        """outcome: as the search is told of it. cut: as of `SchedulerHost.end`."""
        self._judge.forget(trial)
        self._host.held.discard(trial.id)
        self._host.end(trial.id, failed=not trial.eligible, cut=cut)
        if self._is_observed(trial):
            with self._search_blamed:
                self._search.observe(trial.id, outcome, trial.best if trial.eligible else None, trial.epoch)

    def _settle(self, event: events.Settled) -> None:
        """Of the trials whose end was left open some go on, and the others are over."""
        for trial_id in self._before.take_open():
            trial = self._ledger.trials[trial_id]
            if trial_id in event.extended:
                self._host.resume(trial_id)
                self._retention.reopened(trial)
                continue
            self._host.resume(trial_id, running=True)
            self._over(trial, Outcome.STOPPED, cut=True)
        self._host.end_eras()

    def _keep_of_replicate(self, trial: TrialState, event: events.TrialEvent) -> None:
        """Neither the scheduler nor the search hears of one."""
        match event:
            case events.Suggested():
                self._judge.add(trial)
            case events.Reopened():
                self._retention.reopened(trial)
                self._judge.add(trial)
            case events.Ended():
                self._judge.forget(trial)

    def _is_observed(self, trial: TrialState) -> bool:
        """Whether the search is told what becomes of the trial."""
        if not trial.searched or trial.promoted or self._before.is_outside(trial.id):
            return False
        return self._search.takes_corrections or not trial.reopened

    def _follow(self, trial: TrialState, decision: Decision) -> None:
        hosted = self._host.trials.get(trial.id)
        if hosted is None:
            return  # a person has decided about it
        if decision in (Decision.PAUSE, Decision.EXPLOITED):
            hosted.config = trial.config  # until the perturb event says otherwise
        elif not decision.of_scheduler and decision != Decision.DIVERGED:
            hosted.last_result = self._judge.scheduler_result(trial)

    def _sync_status(self, trial_id: str) -> None:
        hosted = self._host.trials.get(trial_id)
        standing = STANDINGS.get(self._ledger.trials[trial_id].status)
        if hosted is not None and standing is not None and not hosted.is_finished():
            hosted.status = standing
