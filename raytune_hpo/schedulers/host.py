"""What schedulers see of a run: stand-ins for Ray Tune's Trial and its TuneController.

Ray's schedulers are plain objects that are told of trials and results and answer CONTINUE, PAUSE or STOP; they need no
cluster. Driving them from here, over our journal, is what makes a run resumable exactly (Ray never saves a scheduler's
state) and free of its controller's cost per trial.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from raytune_hpo.errors import ExperimentError, blamed
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.schedulers.scheduler import Answer, Scheduler, Standing
from raytune_hpo.space.configs import Config


@dataclass(eq=False)
class HostTrial:
    """The part of ray.tune's Trial that schedulers read. Hashable by identity, as theirs is."""

    trial_id: str
    config: Config
    status: str = Standing.PENDING
    last_result: dict[str, Any] = field(default_factory=dict)
    checkpoint: CheckpointRecord | None = None
    experiment_tag: str = ""
    is_saving: bool = False
    run_metadata: Any = field(
        default_factory=lambda: SimpleNamespace(
            checkpoint_manager=SimpleNamespace(checkpoint_config=SimpleNamespace(num_to_keep=None))
        )
    )

    def is_finished(self) -> bool:
        return self.status == Standing.TERMINATED


@dataclass(frozen=True)
class Stopped:
    """The scheduler ended a trial other than the one that reported."""

    trial_id: str


@dataclass(frozen=True)
class Exploited:
    """The scheduler lets a trial go on from `checkpoint` of `donor` (it may be itself), with a new config."""

    trial_id: str
    donor: str
    checkpoint: CheckpointRecord
    config: Config
    reason: str


Effect = Stopped | Exploited


class SchedulerHost:
    """A scheduler and the trials it schedules; stands in for the TuneController in its callbacks.

    What a scheduler does to trials besides answering is collected as effects, taken by `take_effects`.
    """

    search_alg = None  # PBT asks for it and refuses some

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._blamed = blamed("scheduler", scheduler.name)
        self.trials: dict[str, HostTrial] = {}  # the unfinished ones: what a scheduler may still act on
        self.keeps_paused = True  # whether trials go on from where they were paused: a function may save nothing
        self.has_room = False  # whether all trials there may be can run at the same time
        self.held: set[str] = set()  # by a person
        self._effects: list[Effect] = []
        self._stopping: set[HostTrial] = set()  # those whose end the scheduler is being told of
        self._note: str | None = None
        self._suspended: dict[str, HostTrial] = {}
        self._condemned: set[str] = set()
        #: Of a scheduler that is told again what has been, under another experiment: the trials that have ended in the
        #: step that it is told of. It changes nothing itself. None: it decides.
        self.recorded_ends: Collection[str] | None = None

    # Called by the population -----------------------------------------------------------------------

    def add(self, trial_id: str, config: Config) -> None:
        trial = self.trials[trial_id] = HostTrial(trial_id, config, experiment_tag=trial_id)
        with self._blamed:
            self.scheduler.on_trial_add(self, trial)

    def result(self, trial_id: str, result: dict[str, Any]) -> str:
        """The scheduler's answer to a report: an `Answer`."""
        trial = self.trials[trial_id]
        trial.last_result, self._note = result, None
        past = self.recorded_ends is not None
        if trial_id in self._condemned:  # it has been told that the trial would end, which went on
            return Answer.CONTINUE if past else Answer.STOP
        with self._blamed:
            answer = str(self.scheduler.on_trial_result(self, trial, result))
        if past and answer == Answer.STOP and not self.scheduler.forgives:
            self._condemned.add(trial_id)
        return answer

    def end(self, trial_id: str, *, failed: bool, cut: bool = False) -> None:
        """A trial is over. Does nothing if the scheduler has ended it itself. cut: it was not at its end: somebody
        else has decided so."""
        trial = self.trials.get(trial_id)
        if trial is None or trial.is_finished():
            self.trials.pop(trial_id, None)
            return
        self._stopping.add(trial)
        with self._blamed:
            if failed:
                self.scheduler.on_trial_error(self, trial)
            elif trial.status == Standing.RUNNING and not cut:
                self.scheduler.on_trial_complete(self, trial, trial.last_result)
            else:
                self.scheduler.on_trial_remove(self, trial)
        self._stopping.discard(trial)
        trial.status = Standing.TERMINATED
        self.trials.pop(trial_id, None)
        self._condemned.discard(trial_id)

    def knows(self, trial_id: str) -> bool:
        """Whether the scheduler decides about the trial."""
        return trial_id in self.trials

    def suspend(self, trial_id: str) -> None:
        """A trial is over, or not: until `resume` the scheduler is not told."""
        trial = self.trials.pop(trial_id, None)
        if trial is not None:
            self._suspended[trial_id] = trial

    def was_paused(self, trial_id: str) -> bool:
        """Of a suspended trial."""
        return trial_id in self._suspended and self._suspended[trial_id].status == Standing.PAUSED

    def resume(self, trial_id: str, *, running: bool = False) -> None:
        """A suspended trial goes on as it was left. running: as one that runs."""
        trial = self._suspended.pop(trial_id, None)
        if trial is not None:
            trial.status = Standing.RUNNING if running else trial.status
            self.trials[trial_id] = trial

    def forsake(self, trial_id: str) -> bool:
        """A person decides about the trial from here on: to the scheduler it is over. Whether it was not yet."""
        self.resume(trial_id, running=True)
        was_open = trial_id in self.trials
        if was_open:
            self.end(trial_id, failed=False, cut=True)
        return was_open

    def hold(self, trial_id: str, *, held: bool) -> None:
        """A person has paused the trial, or lets it go on."""
        (self.held.add if held else self.held.discard)(trial_id)

    def configured(self, trial_id: str, config: Config) -> None:
        """A trial's config is another one."""
        if trial_id in self.trials:
            self.trials[trial_id].config = config

    def new_era(self, max_epochs: int) -> None:
        """The trials that come from here on are of an amended experiment."""
        with self._blamed:
            self.scheduler.new_era(max_epochs)

    def end_eras(self) -> None:
        """The amendments are in force."""
        with self._blamed:
            self.scheduler.end_eras(self)

    def exhausted(self) -> None:
        """No new trial will be added."""
        with self._blamed:
            self.scheduler.search_exhausted(self)

    def choose(self) -> str | None:
        """The trial that the scheduler wants to run. It takes those for running ones that a person has paused."""
        hidden = {trial: trial.status for name in self.held if (trial := self.trials.get(name)) is not None}
        for trial in hidden:
            trial.status = Standing.RUNNING
        try:
            with self._blamed:
                chosen = self.scheduler.choose_trial_to_run(self)
        finally:
            for trial, status in hidden.items():
                trial.status = status
        return None if chosen is None else str(chosen.trial_id)

    def next_decision(self, trial_id: str, epoch: int) -> float:
        """The next epoch after `epoch` at which the scheduler may answer anything but CONTINUE."""
        with self._blamed:
            found = self.scheduler.next_decision(self.trials[trial_id], epoch)
        if not isinstance(found, int | float) or math.isnan(found):
            raise ExperimentError(f"{self.scheduler.name}.next_decision", found, "must be an epoch, or infinity")
        return float(found)

    def pinned(self) -> Iterable[CheckpointRecord]:
        """Checkpoints that the scheduler may still hand to other trials."""
        return self.scheduler.pinned_checkpoints()

    def forget(self, path: str) -> None:
        self.scheduler.forget_checkpoint(path)

    def intervened(self, trial_id: str) -> None:
        """A person has changed a trial."""
        self.scheduler.intervened(self.trials[trial_id])

    @property
    def noted(self) -> str | None:
        """What the scheduler had to say of the last report."""
        return self._note

    def take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # Called by schedulers, as methods of the TuneController -------------------------------------------

    def get_trials(self) -> list[HostTrial]:
        return list(self.trials.values())

    def get_live_trials(self) -> list[HostTrial]:
        """Those that a person has paused are left out: nobody waits for them, nor ends them."""
        return [trial for trial in self.trials.values() if trial.trial_id not in self.held]

    def stop_trial(self, trial: HostTrial) -> None:
        if trial.is_finished() or trial in self._stopping:
            return
        if self.recorded_ends is not None and trial.trial_id not in self.recorded_ends:
            return
        self._stopping.add(trial)
        if trial.status == Standing.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
        self._stopping.discard(trial)
        trial.status = Standing.TERMINATED
        self._effects.append(Stopped(trial.trial_id))

    def note(self, text: str) -> None:
        """Called by the panda: a decision that changes nothing, for people to read."""
        self._note = text

    def exploit(
        self, trial: HostTrial, donor: HostTrial, checkpoint: CheckpointRecord, config: Config, reason: str = "exploit"
    ) -> None:
        """Called by our PBT in place of Ray's pause, set_config and checkpoint surgery, and by the panda."""
        if self.recorded_ends is not None:
            return
        trial.status = Standing.PAUSED
        trial.config = config
        self._effects.append(Exploited(trial.trial_id, donor.trial_id, checkpoint, config, reason))
