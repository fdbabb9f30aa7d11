"""The driver: gives trials to workers, takes their reports to the population, journals every step.

    free worker -> population.next_trial -> pool.start
    worker's answer -> population.report -> pool.step | release

What the pool is asked for goes out with its next `wait`, and before that the step is journaled, so a crash at any
point loses nothing that was acted upon.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from raytune_hpo.engine.desk import Desk
from raytune_hpo.engine.interrupt import Interrupt
from raytune_hpo.engine.interventions import OF_A_PANDA, take
from raytune_hpo.engine.lr_narrowing import narrow, needs_test, take_test
from raytune_hpo.engine.population import PAUSED_BY_HAND, Population
from raytune_hpo.engine.silence import Silence
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.amending import Amendment
from raytune_hpo.journal import events
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.journal.file import Journal
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import Outcome as Ending
from raytune_hpo.states import RunStatus, Status
from raytune_hpo.storage.checkpoints import CheckpointStore, unpack
from raytune_hpo.storage.commands import Inbox
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.workers.choice import concurrent_lanes
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, Saved
from raytune_hpo.workers.pool import Lost, Refusal, Slot, Workers
from raytune_hpo.workers.transport import DebuggerLeftError

#: How long a run that was interrupted, or stopped, waits at least for running epochs to end before it gives them up.
GRACE_S = 10.0
STALLED_S = 60.0
SLOW_FILL_S = 0.02
#: Of the time budget, what the search has where the best are trained again.
SEARCHED = 0.8


class Driver:
    """Drives one session of a run to its end, or to an interruption."""

    def __init__(
        self,
        run: RunDirectory,
        population: Population,
        journal: Journal,
        store: CheckpointStore,
        pool: Workers,
        inbox: Inbox,
        remade: Callable[[Amendment], Population],
        check: Callable[[ResolvedExperiment], None] = lambda experiment: None,
        troubles: Callable[[], list[str]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """remade: the population of a run that was amended, from its journal. check: as of `Desk`. troubles: what
        others had trouble with since the last call, for people to read."""
        self.run_directory = run
        self._inbox, self._remade, self._check = inbox, remade, check
        self.population = population
        self.journal = journal
        self.store = store
        self.pool = pool
        self._troubles = troubles
        self._clock = clock
        self._began = clock()
        self._seconds_before = population.ledger.seconds
        self._silence = Silence(clock)
        self._stopped: float | None = None  # when the run was seen to be stopped, by the clock
        self._testing: set[str] = set()  # trials whose worker does a learning-rate range test
        self._withheld: dict[str, int] = {}  # trials that wait for who has them -> the generation that he has
        self._takes_commands = population.host.scheduler.takes_commands
        #: What the run is to go on by in another session: its workers know of what was amended.
        self.amendment: Amendment | None = None

    def drive(self, interrupt: Interrupt) -> RunStatus:
        """Returns FINISHED or INTERRUPTED: also where another session has to go on (`amendment`)."""
        try:
            return self._driven(interrupt)
        except DebuggerLeftError:
            self.population.notice("the debugger was left: the run has stopped, and resume goes on with it")
            return RunStatus.INTERRUPTED

    def _driven(self, interrupt: Interrupt) -> RunStatus:
        last_sign_of_life = self._clock()
        slow_fill = False
        self._serve()
        while not self.population.done or self._serve():
            population = self.population
            if self.amendment is not None:
                self._wind_down("the run was amended", math.inf, interrupt)
                return RunStatus.INTERRUPTED
            why = population.why_to_stop
            if why == PAUSED_BY_HAND and self.pool.patient:
                why = None
            if interrupt.requested or why is not None:
                self._wind_down(why)
                return RunStatus.INTERRUPTED
            self._check_budget()
            self._give_up_silent()
            self._end_overdue()
            self.pool.ensure()
            if slow_fill:
                self.commit()  # what has come need not wait for the search to think
            began = self._clock()
            self._fill()
            slow_fill = self._clock() - began > SLOW_FILL_S
            self.commit()
            answers = self.pool.wait(0.2)
            for slot, answer in answers:
                self._take(slot, answer)
            self._discard(self.pool.take_surplus())
            self._take_news()
            if self._serve():
                continue
            # Journaled together with what is begun next, before the wait that sends it: one sync instead of two.
            for trial in list(population.live.values()) if self._takes_commands and not self.pool.busy else ():
                self._take_commands(trial)
            if answers or self.pool.busy or population.ledger.held:
                last_sign_of_life = self._clock()
            elif self._clock() - last_sign_of_life > STALLED_S and not self.pool.patient:
                population.notice("waiting for a worker: it starts slowly, or no machine has its resources free")
                last_sign_of_life = self._clock()
            for trouble in self._troubles():
                population.notice(trouble)
        for trial in list(self.population.trials.values())[:1] if self._takes_commands else ():
            self._take_commands(trial)  # too late, and that is said
        self._settle(GRACE_S)
        return RunStatus.FINISHED

    def commit(self) -> None:
        """Journal what has happened, then delete the checkpoints that are no longer kept."""
        step = self.population.take_step()
        if step:
            self.population.ledger.seconds = self._seconds_before + self._clock() - self._began
            self.journal.append(self.population.ledger.seconds, step)
        doomed, self.population.doomed = self.population.doomed, []
        if doomed:
            self.store.delete(*doomed)

    def _serve(self, *, amend: bool = True) -> bool:
        """Take the commands that are of any run. Whether the run is another one by them, or by what its trials have
        asked for."""
        grown = self.population.grown() if amend else None
        if grown is not None:
            self.population.do(grown.event)
            self.commit()
            self._amend(grown)
            return True
        given = [c for c in self._inbox.pending() if c["command"] not in OF_A_PANDA or not self._takes_commands]
        for command in given:
            if command["command"] == "amend" and not amend:
                break  # it is of the experiment that comes: the next session takes it, and what was sent after it
            population = self.population
            desk = Desk(population.ledger, population.experiment, population.adopt, population.do, self._check)
            amendment = desk.take(command)
            self.commit()
            self._inbox.remove(command["id"])
            if amendment is not None:
                self._amend(amendment)
                return True
        return bool(given)

    def _amend(self, amendment: Amendment) -> None:
        self.run_directory.amend(amendment.event.changes)
        if not amendment.of_driver:
            self.amendment = amendment
            return
        self.population = self._remade(amendment)
        self._withheld = {}
        self.pool.expect(amendment.experiment.num_samples, concurrent_lanes(amendment.experiment))
        self._stopped = None
        self.population.settle(self.store.exists)
        self.commit()

    def _check_budget(self) -> None:
        budget = self.population.experiment.time_budget_s
        seconds = self._seconds_before + self._clock() - self._began
        experiment, share = self.population.experiment, SEARCHED if self.population.experiment.replicate else 1.0
        if budget is not None and share * budget <= seconds < budget:
            self.population.end_search(
                f"{share:.0%} of the time is used: the rest is for the best {experiment.replicate}"
            )
        if budget is not None and seconds >= budget and self.population.ledger.stop_reason is None:
            self.population.stop(f"{events.OF_TIME}{budget:g} s used")

    def _give_up_silent(self) -> None:
        """End the trials that have not reported since the run was stopped: their epochs had GRACE_S, and twice as long
        as any trial's epochs have taken on average."""
        reason = self.population.ledger.stop_reason
        if reason is None or not self.pool.busy:
            return
        now = self._clock()
        self._stopped = now if self._stopped is None else self._stopped
        if now < self._stopped + GRACE_S:
            return
        longest_s = max((t.seconds / t.epoch for t in self.population.trials.values() if t.epoch), default=0.0)
        if now < self._stopped + 2 * longest_s:
            return
        for slot in list(self.pool.busy):
            trial = self.population.trials[slot.trial]
            self.pool.release(slot, reusable=False)
            if not trial.finished:
                silence = f"no report for {now - self._stopped:.0f} s after the run was stopped"
                self.population.notice(f"{trial.id}: {silence}, it is given up")
                self.population.do(events.Ended(trial.id, Ending.STOPPED, reason))

    def _end_overdue(self) -> None:
        """End the trials that do not come back in the time that the experiment gives them, and name those that are
        silent."""
        running = [slot.trial for slot in self.pool.busy]
        over = {trial for trial in running if self.population.trials[trial].finished}
        for overdue in list(self._silence.overdue(running, self.population.experiment, over)):
            slot = next((slot for slot in self.pool.busy if slot.trial == overdue.trial), None)
            if slot is None:
                continue  # it has gone with another one
            for lost, blame in self.pool.end(slot, overdue.silent_s):
                trial = self.population.trials[lost.trial if lost is not slot else overdue.trial]
                lost.trial = None
                self._testing.discard(trial.id)
                if trial.finished:
                    self.population.notice(f"{trial.id}: {overdue.why}: its worker is ended")
                elif trial.id == overdue.trial:
                    self._fail(trial, overdue.why, "")
                else:
                    self._fail(trial, f"its array was ended with {overdue.trial}: {overdue.why}", "", lost=blame)
        news = self._silence.news()
        if news is not None:
            self.population.notice(news)

    def _take_news(self) -> None:
        for event in self.pool.take_news():
            if not (isinstance(event, events.DataLoaded) and self.population.ledger.data is not None):
                self.population.do(event)  # of the same data every worker tells

    # Work out ----------------------------------------------------------------------------------

    def _fill(self) -> None:
        self._withhold(self.pool.reserved)
        trial: TrialState | None = None
        idle = self.pool.idle()
        for slot in idle:
            if slot.wants is not None:
                self._take_up(slot, slot.wants)
        for slot in idle:
            if slot.wants is not None:
                continue
            trial = trial or self.population.next_trial()
            if trial is None or any(busy.trial == trial.id for busy in self.pool.busy):
                return  # (a person has let it go on before its worker has heard that it was to end)
            if self.pool.admits(slot, trial.losses):
                self._start(slot, trial)
                trial = None

    def _withhold(self, reserved: AbstractSet[str]) -> None:
        """To the scheduler, the trials that others may have still are as those that a person has paused."""
        for name in reserved - self._withheld.keys():
            if (trial := self.population.live.get(name)) is not None:
                self._withheld[name] = trial.generation
                self.population.host.hold(name, held=True)
        for name in self._withheld.keys() - reserved:
            del self._withheld[name]
            trial = self.population.live.get(name)
            self.population.host.hold(name, held=trial is not None and trial.held)

    def _take_up(self, slot: Slot, name: str) -> None:
        """Let a trial go on where it has been all the time, through the end of a session: unless it is not the one any
        more that its asker trains."""
        trial = self.population.trials.get(name)
        if trial is None:
            slot.refused = Refusal("no such trial in this run", over=False)
        elif trial.finished:
            slot.refused = Refusal(f"is over: it is {trial.status}", over=True)
        elif trial.held or trial.status != Status.PENDING or self._withheld.get(name) != trial.generation:
            slot.refused = Refusal(f"is over here: it is {trial.status}, and goes on elsewhere", over=True)
        else:
            self._start(slot, trial)
            return
        self.pool.release(slot)

    def _start(self, slot: Slot, trial: TrialState) -> None:
        assert slot.info is not None
        record = trial.resume_from
        payload = None
        if record is not None and not slot.info.sees_run:
            while record is not None and not self.store.intact(record):
                self.population.checkpoint_unreadable(record)
                record = trial.resume_from
            payload = self.store.packed(record) if record is not None else None
        if record is None and trial.generation > 0 and slot.wants is None:
            # The copied weights are gone, and training the new config from scratch is another experiment.
            self.population.failure(trial, "no checkpoint is left to go on from", retry=False)
            return
        at = record.epoch if record is not None else 0
        at = at if slot.wants is None else trial.epoch
        log = slot.info.log_of(trial.id)
        self.population.do(events.Started(trial.id, at, slot.info.host, slot.info.name, slot.info.pid, log))
        testing = needs_test(self.population, trial)
        if testing:
            self._testing.add(trial.id)
        else:
            narrow(self.population, trial)
        until = self.population.next_decision(trial)
        assignment = Assignment(
            trial.id,
            trial.config,
            trial.generation,
            until,
            record,
            payload,
            trial.repeat,
            testing,
            known=trial.epoch,
            losses=trial.losses,
        )
        self.pool.start(slot, assignment)
        self._silence.began(trial.id)

    # Work in -----------------------------------------------------------------------------------

    def _take(self, slot: Slot, answer: Outcome | Lost, *, last: bool = False) -> None:
        """Take what a worker answered. last: the run is ending, so the trial is saved and not continued."""
        assert slot.trial is not None
        trial = self.population.trials[slot.trial]
        if isinstance(answer, Outcome) and answer.kind == "occupied":
            slot.trial = None
            self._testing.discard(trial.id)
            if not trial.finished:
                self.population.defer(trial)
        elif trial.finished:  # the scheduler has ended it, while it trained
            self._let_go(slot, trial, answer)
        elif isinstance(answer, Lost):
            slot.trial = None
            self._testing.discard(trial.id)
            self._fail(trial, answer.error, "", lost=answer.blame)
        elif trial.id in self._testing and answer.reports:
            self._testing.discard(trial.id)
            take_test(self.population, trial, answer.reports[0].metrics)
            self.pool.release(slot, reusable=answer.reusable)
        elif self._take_reports(slot, trial, answer):
            if answer.kind == "waiting" and not last:
                self.pool.step(slot, self.population.next_decision(trial))
            elif answer.kind != "running":
                self._take_ending(slot, trial, answer)
            elif last and answer.reports[-1].saved is not None:
                self.pool.release(slot)

    def _let_go(self, slot: Slot, trial: TrialState, answer: Outcome | Lost) -> None:
        """Of a trial that is over already, nothing counts any more."""
        self._testing.discard(trial.id)
        if isinstance(answer, Lost):
            slot.trial = None
            return
        self._discard(answer.reports)
        self.pool.release(slot, reusable=answer.reusable)

    def _take_reports(self, slot: Slot, trial: TrialState, answer: Outcome) -> bool:
        """Whether the trial goes on after the reports."""
        if answer.reports:
            self._silence.reported(trial.id)
        for number, report in enumerate(answer.reports, start=1):
            record = self._record_of(trial, report.saved)
            if record is not None:
                self.population.saved(record)
            try:
                if report.met is not None:
                    self.population.met(trial, report.met)
                decision = self.population.report(trial, report.epoch, report.metrics, report.seconds, report.done)
            except TrialError as error:
                self._discard(answer.reports[number:])
                self.pool.release(slot, reusable=answer.reusable)
                self._fail(trial, str(error), "", retry=False)
                return False
            if decision == "continue" and report.done and trial.status == Status.RUNNING:  # of an epoch known before
                self.population.trial_returned(trial)
                decision = "end"
            if decision == "continue" and self._takes_commands and self._take_commands(trial):
                decision = "pause"
            if decision != "continue":
                surplus = answer.reports[number:]
                if not surplus and record is None and answer.kind == "waiting" and trial.eligible:
                    self._save(slot, trial, report.epoch)
                self._discard(surplus)  # a decision that no scheduler foresaw: the epochs after it do not count
                completed = trial.status == Status.COMPLETED
                self.pool.release(slot, reusable=answer.reusable, completed=completed)
                return False
        return True

    def _take_commands(self, trial: TrialState) -> bool:
        """Do what a person wants of a trial between two epochs. Whether it has left its worker by that."""
        commands = [c for c in self._inbox.pending() if c["command"] in OF_A_PANDA]
        running = trial.status == Status.RUNNING
        for command in commands:
            take(self.population, trial, command)
        if commands:
            self.commit()
            for command in commands:
                self._inbox.remove(command["id"])
        return running and trial.status != Status.RUNNING

    def _discard(self, reports: Sequence[EpochReport]) -> None:
        for report in reports:
            if report.saved is not None and report.saved.record is not None:
                self.store.delete(report.saved.record)

    def _take_ending(self, slot: Slot, trial: TrialState, answer: Outcome) -> None:
        if answer.kind == "waiting":
            self._save(slot, trial, answer.reports[-1].epoch)
            self.pool.release(slot)
            return
        self.pool.release(slot, reusable=answer.reusable)
        if answer.kind == "returned":
            self.population.trial_returned(trial)
        elif answer.kind == "raised":
            self._fail(trial, answer.error, answer.traceback)
        else:
            damaged = trial.resume_from
            assert damaged is not None
            self.population.checkpoint_unreadable(damaged)
            text = f"{trial.id}: its checkpoint of epoch {damaged.epoch} is damaged; taking an older one"
            self.population.notice(text)
            self._start(slot, trial)

    def _save(self, slot: Slot, trial: TrialState, epoch: int) -> None:
        """Make sure that the trial's present state is on disk, where its trainable can save it."""
        newest = trial.resume_from
        if trial.epoch != epoch or (newest is not None and newest.epoch == epoch):
            return  # saved already, or it goes on from another's state
        record = self._record_of(trial, self.pool.save(slot))
        if record is not None:
            self.population.saved(record)

    def _record_of(self, trial: TrialState, saved: Saved | None) -> CheckpointRecord | None:
        if saved is None or saved.payload is None:
            return saved.record if saved is not None else None
        scratch = self.store.scratch(trial.id)
        try:
            unpack(saved.payload, scratch)
            return self.store.commit(scratch, trial.id, trial.generation, saved.epoch)
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise ExperimentError("storage", str(self.run_directory.path), f"cannot be written: {error}") from error

    def _fail(
        self, trial: TrialState, error: str, traceback: str, *, lost: float | None = None, retry: bool = True
    ) -> None:
        file = self.run_directory.write_error(trial.id, traceback) if traceback else None
        self.population.failure(trial, error, file=file, lost=lost, retry=retry)

    # Interruption ------------------------------------------------------------------------------

    def _wind_down(self, why: str | None, grace_s: float = GRACE_S, interrupt: Interrupt | None = None) -> None:
        """Let running epochs end, save them, start nothing new. why: None where a person asked for it. interrupt: that
        ends it after GRACE_S, too."""
        deadline = self._clock() + grace_s
        again = "; again to stop at once" if why is None else f": {why}"
        self.population.notice(f"stopping: running epochs are ending and are being saved{again}")
        self.commit()
        self.pool.ending = True
        while self.pool.busy and self._clock() < deadline:
            if interrupt is not None and interrupt.requested:
                deadline, interrupt = min(deadline, self._clock() + GRACE_S), None
            for slot, answer in self.pool.wait(0.1):
                self._take(slot, answer, last=True)
            self._discard(self.pool.take_surplus())
            self._end_overdue()
            self._serve(amend=False)
            self.commit()
        self._settle(0.0)

    def _settle(self, busy_s: float) -> None:
        """Let the code of trials that are over run to its end; the pool ends what takes longer than its grace.

        busy_s: how long those are waited for that are over, but have not heard of it in their epoch.
        """
        self.commit()
        deadline = self._clock() + busy_s
        while self.pool.leaving or (self.pool.busy and self._clock() < deadline):
            for slot, answer in self.pool.wait(0.1):
                self._take(slot, answer, last=True)
            self._discard(self.pool.take_surplus())
            self._take_news()
            self.commit()
        for slot in list(self.pool.busy):
            self.pool.release(slot, reusable=False)
        self._take_news()
