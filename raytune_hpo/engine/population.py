"""The population: the state of a run as a machine that is moved by journal events, and by nothing else.

Live, the driver asks it (`next_trial`, `report`, `failure`, ...); it decides, moves itself by the events
of that decision, and hands the events over to be journaled as one step. After a restart, `replay` moves
a fresh population by the recorded steps: the searcher is told what it suggested and observed, the
scheduler is called as it was called, and both come back exactly. Nothing here knows processes or files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from raytune_hpo.engine.before import UNCHANGED, Before, Past
from raytune_hpo.engine.fail_fast import FailFast
from raytune_hpo.engine.judge import Judge
from raytune_hpo.engine.retention import Retention
from raytune_hpo.engine.supply import Adopt, Supply
from raytune_hpo.engine.telling import Telling
from raytune_hpo.errors import ExperimentError, TrialError, blamed
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.amending import Amendment, amended_space
from raytune_hpo.journal import events
from raytune_hpo.journal.events import By, CheckpointRecord, Event, Step
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers.host import Effect, Exploited, SchedulerHost
from raytune_hpo.search import Search
from raytune_hpo.space.configs import Config, copied
from raytune_hpo.space.met import space_of_met
from raytune_hpo.states import Decision, Outcome, RunStatus, Status
from raytune_hpo.workers.outcomes import Met

#: Workers that a trial may lose, without a new report in between, before it counts as failed: a lost
#: machine is not the trial's fault, a trial that kills every worker it gets is.
LOSSES_ALLOWED = 3

#: Why there is nothing to do, where that is a person's wish.
PAUSED_BY_HAND = "the trials that are left are paused by hand: raytune-hpo trial continue lets them go on"


class Population:
    """Trials, searcher and scheduler of one run.

    adopt: see `supply.Adopt`. past: of a run that was amended. experiment, search, host are of what it is now, and are
    told again of all that has been.
    """

    def __init__(
        self, experiment: ResolvedExperiment, search: Search, host: SchedulerHost, adopt: Adopt, past: Past = UNCHANGED
    ) -> None:
        self.experiment = experiment
        self._before = Before(past, experiment, host)
        self.search = search
        self._search_blamed = blamed("searcher", experiment.searcher.name)
        self.host = host
        self.adopt = adopt
        self.ledger = Ledger(experiment.objective)
        self.metric = experiment.objective.metric
        self.judge = Judge(experiment, host)
        self.trials, self.live = self.ledger.trials, self.ledger.live
        self.mismatches = 0  # replayed decisions that came out otherwise than recorded
        self.doomed: list[CheckpointRecord] = []  # checkpoints to delete, once the step is journaled
        self._retention = Retention(experiment.checkpoint, experiment.objective)
        self._fail_fast = FailFast(experiment.fail_fast)
        self._step: list[Event] = []
        self._met: set[tuple[str, int]] = set()  # what trials have asked for: who, and how much
        self._met_last = 0  # so many when the space was last held against them
        self._telling = Telling(experiment, search, host, self.judge, self._retention, self._before, self.ledger)
        self._supply = Supply(experiment, search, host, self.ledger, adopt, self.do)

    # Asked by the driver --------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self.ledger.exhausted and not self.live and not self._supply.due()

    @property
    def why_to_stop(self) -> str | None:
        """Why the session should end although there is work left: its trials fail alike. None while it should not."""
        all_suggested = self.ledger.exhausted or self.ledger.searched >= self.experiment.num_samples
        left = self.live or self._supply.due() or not all_suggested
        if left and all_suggested and self.live and all(t.held and not t.running for t in self.live.values()):
            return PAUSED_BY_HAND
        return self._fail_fast.reason if left else None

    def take_step(self) -> list[Event]:
        """The events since the last call, to be journaled as one step."""
        step, self._step = self._step, []
        return step

    def open_session(self, session: events.SessionOpened) -> None:
        self.do(session)
        self.end_waiting()  # a run that was stopped ends those that ran when its process died

    def reopen(self, trials: Iterable[str]) -> None:
        """Try failed trials again.

        The scheduler is told of each as of a new one, since it struck them off. A search of ours that heard of a
        failure hears how the trial ends in the failure's place; any other one was told that it failed, and that stays.
        """
        for trial_id in trials:
            self.do(events.Reopened(trial_id))

    def settle(self, there: Callable[[CheckpointRecord], bool]) -> None:
        """Put the amendments into force that are not yet: trials whose end they undo train on. there: whether a
        checkpoint is: an earlier experiment may have kept fewer."""
        if not self.ledger.unsettled:
            return
        for trial in self.trials.values():
            for record in [record for record in trial.checkpoints if not there(record)]:
                self.do(events.CheckpointLost(trial.id, record.path))
        settled, notices = self._before.settled(self.trials, self.ledger.stop_reason)
        self.do(settled)
        for notice in notices:
            self.notice(notice)

    def close_session(self, status: RunStatus) -> None:
        self.do(events.Closed(status, self._fail_fast.reason if status == RunStatus.INTERRUPTED else None))

    def notice(self, text: str) -> None:
        """Let the journal, and so everybody, know something."""
        self.do(events.Noticed(text))

    def next_trial(self) -> TrialState | None:
        """The trial that a free worker should run now; None when there is none (yet)."""
        return self._supply.next_trial()

    def end_search(self, why: str) -> None:
        """Suggest no more; what is there is trained as the scheduler wants it."""
        if not self.ledger.exhausted:
            self.notice(why)
            self.do(events.Exhausted())

    def next_decision(self, trial: TrialState) -> int:
        """The next epoch at whose report the scheduler may decide anything but to continue."""
        if not self.host.knows(trial.id):
            return self.judge.last_epoch(trial)
        scheduler = self.host.next_decision(trial.id, trial.epoch)
        return max(trial.epoch + 1, int(min(scheduler, self.judge.last_epoch(trial))))

    def met(self, trial: TrialState, met: Met) -> None:
        """A trial's code has asked for parameters. Raises TrialError for one that others have of another kind."""
        try:
            space_of_met([*((t.met, t.config) for t in self.trials.values() if t.met), (met.parameters, met.values)])
        except ExperimentError as error:
            raise TrialError(str(error)) from error
        if met.parameters != trial.met or met.values != trial.config:
            self.do(events.Discovered(trial.id, copied(met.values), met.parameters))

    def grown(self) -> Amendment | None:
        """The experiment with all that trials have asked for; None while it is that."""
        space = self.experiment.space
        if not space.grows or self._met_last == len(self._met):
            return None
        self._met_last = len(self._met)
        asked = [(trial.met, trial.config) for trial in self.trials.values() if trial.met]
        found = space_of_met(asked)
        return None if found.to_json() == space.to_json() else amended_space(self.experiment, found)

    def saved(self, record: CheckpointRecord) -> None:
        self.do(events.CheckpointSaved(record.trial, record))

    def report(
        self, trial: TrialState, epoch: int, metrics: Mapping[str, Any], seconds: float, done: bool = False
    ) -> str:
        """Take a report and decide: "continue", "pause" or "end".

        A report that is known already (the trial repeats epochs since its last checkpoint) changes
        nothing. done: the trial says that it is over. Raises TrialError for a report without the metric.
        """
        if epoch <= trial.epoch:
            return "continue"
        value = metrics.get(self.metric)
        if not isinstance(value, int | float) or isinstance(value, bool):
            if self.metric in metrics:
                raise TrialError(f"the report's {self.metric!r} is no number: {value!r}")
            reported = ", ".join(sorted(k for k in metrics)) or "nothing"
            raise TrialError(f"the report has no number named {self.metric!r}; it has: {reported}")
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise TrialError(f"the report's {self.metric!r} is no float: an integer of {value.bit_length()} bits")
        self.do(events.Reported(trial.id, trial.generation, epoch, dict(metrics), round(seconds, 4)))
        decision, end = self.judge.judge(trial, self.ledger.stop_reason, done)
        note = self.host.noted if decision == Decision.CONTINUE else None
        self.do(events.Decided(trial.id, epoch, decision, note))
        if end is not None and not trial.finished:  # the scheduler may have ended it itself, by `stop_trial`
            self.do(end)
        reached = self.judge.run_is_over(self.ledger)
        if reached is not None:
            self.stop(reached)
        if trial.finished:
            return "end"
        return "continue" if trial.status == Status.RUNNING else "pause"

    def trial_returned(self, trial: TrialState) -> None:
        """The trainable returned before max_epochs."""
        if trial.epoch == 0:
            self.failure(trial, "the trainable returned without a report", retry=False)
        else:
            self.do(events.Ended(trial.id, Outcome.COMPLETED, "returned"))

    def failure(
        self,
        trial: TrialState,
        error: str,
        *,
        file: str | None = None,
        lost: float | None = None,
        retry: bool = True,
    ) -> None:
        """A trial raised, or its worker died: lost is then its blame, see `pool.Lost`."""
        again = trial.failures < self.experiment.max_failures if lost is None else trial.losses + lost <= LOSSES_ALLOWED
        if retry and again:
            blame = 1.0 if lost is None else lost
            self.do(events.Retried(trial.id, trial.epoch, error, file, lost is not None, blame))
            self.end_waiting()
        else:
            self.do(events.Ended(trial.id, Outcome.FAILED, "error", error, file))

    def defer(self, trial: TrialState) -> None:
        """Its worker was not free after all. It waits again, and nothing is held against it."""
        self.do(events.Deferred(trial.id))
        self.end_waiting()

    def checkpoint_unreadable(self, record: CheckpointRecord) -> None:
        """A checkpoint turned out damaged or gone: fall back to the one before it."""
        self.do(events.CheckpointLost(record.trial, record.path))
        self.doomed.append(record)

    def stop(self, reason: str) -> None:
        """Accept no more work: running trials end at their next report, the others now."""
        if self.ledger.stop_reason is None:
            self.do(events.RunStopped(reason))
            self.end_waiting()

    def end_waiting(self) -> None:
        """In a stopped run, end the trials that wait for a worker: they will get none."""
        reason = self.ledger.stop_reason
        for trial in list(self.live.values()) if reason is not None else ():
            if trial.status != Status.RUNNING and not trial.finished and reason is not None:
                self.do(events.Ended(trial.id, Outcome.STOPPED, reason))

    # Moving -------------------------------------------------------------------------------------

    def do(self, event: Event) -> None:
        """Move by an event decided now, which becomes part of the step."""
        self._step.append(event)
        self._apply(event)
        for effect in self.host.take_effects():
            self._do_effect(effect)

    def _do_effect(self, effect: Effect) -> None:
        trial = self.trials[effect.trial_id]
        if isinstance(effect, Exploited):
            self.perturb(trial, effect.donor, effect.checkpoint, effect.config, effect.reason)
        else:
            self.do(events.Ended(trial.id, Outcome.STOPPED, self.experiment.scheduler.name))

    def perturb(
        self,
        trial: TrialState,
        donor: str,
        record: CheckpointRecord,
        config: Config,
        reason: str,
        by: By = By.SCHEDULER,
    ) -> bool:
        """Let a trial go on from `record` of `donor` with `config`. False: it is damaged or gone, nothing changed."""
        try:
            adopted = self.adopt(record, trial.id, trial.generation + 1)
        except TrialError:
            self.checkpoint_unreadable(record)
            return False  # the trial goes on from its own, with its own config
        self.do(
            events.Perturbed(
                trial.id,
                donor=donor,
                donor_epoch=record.epoch,
                donor_generation=record.generation,
                epoch=trial.epoch,
                generation=trial.generation + 1,
                old_config=copied(trial.config),
                new_config=copied(config),
                checkpoint=adopted,
                reason=reason,
                by=by,
            )
        )
        return True

    def replay(self, step: Step) -> None:
        """Move by a recorded step."""
        self.ledger.seconds = step.t
        self._before.follow(step)
        for event in step.events:
            if isinstance(event, events.Suggested) and event.origin == events.Origin.SEARCH:
                self._replay_suggestion(event)
            elif isinstance(event, events.Decided):
                trial = self.trials[event.trial]
                if not self._before.judged_again(trial, event, self.ledger.stop_reason, self.judge):
                    same = self.judge.replay(trial, event.decision)
                    self.mismatches += not same and not self._before.is_it
            self._apply(event)
            self.host.take_effects()  # what followed from it is recorded too
        self._before.over()
        self.doomed.clear()

    def _replay_suggestion(self, event: events.Suggested) -> None:
        if not len(self.experiment.space):
            return
        suggested = event.config if event.suggested is None else event.suggested
        config = self._before.in_space(event.trial, suggested)
        with self._search_blamed:
            if config is not None:
                self.search.replay(event.trial, config)
            else:
                self.search.pass_over()

    def _apply(self, event: Event) -> None:
        """Move the ledger, then the scheduler, the searcher and what is kept on disk along with it."""
        self.ledger.apply(event)
        self._fail_fast.take(event)
        if isinstance(event, events.TrialEvent):
            trial = self.trials[event.trial]
            if isinstance(event, events.Discovered):
                self._met.add((trial.id, len(event.parameters)))
            self._telling.of_trial(trial, event)
            if isinstance(event, events.CheckpointSaved | events.Perturbed | events.Ended):
                pinned = {record.path for record in self.host.pinned()}
                self.doomed += self._retention.doomed(trial, pinned)
            return
        self._telling.of_run(event)
