"""Scheduler: what a run asks of whoever decides how long trials run. Neither ray nor torch is imported.

A scheduler is told of trials and reports, in the order of the journal, and answers in Ray's words (Answer). It keeps
no state that does not follow from what it was told: a replayed journal makes it again. What it is (a population's, one
model's, ...) it says in class attributes, which are asked before a run begins; nobody asks for its name.

The callbacks are those of Ray Tune's TrialScheduler, so that its schedulers need no translation (`of_ray`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.options import Named, Options
from raytune_hpo.space import SearchSpace

if TYPE_CHECKING:
    from raytune_hpo.schedulers.host import HostTrial, SchedulerHost


class Answer(StrEnum):
    """To a report. NOOP: the scheduler has acted already (`SchedulerHost.exploit`)."""

    CONTINUE = "CONTINUE"
    PAUSE = "PAUSE"
    STOP = "STOP"
    NOOP = "NOOP"


class Standing(StrEnum):
    """Where a trial stands, as a scheduler sees it."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    TERMINATED = "TERMINATED"


@dataclass(frozen=True)
class SchedulerOptions(Options):
    """Base of schedulers' options. An experiment completes them (`resolved`) before a scheduler is built."""

    FIELD: ClassVar[str] = "scheduler"

    def resolved(self, *, space: SearchSpace, max_epochs: int, structural: set[str] | None) -> Self:
        """The options with what depends on the experiment filled in and checked. Raises ExperimentError.

        structural: the parameters that may not change in mid-training, None where the task does not say.
        """
        return self

    def checkpoint_every(self, asked: int) -> int:
        """Epochs between two checkpoints of a trial, where the experiment asks for so many."""
        return asked


class Scheduler(Named):
    """Base of the schedulers, and itself the one that never stops a trial ("fifo").

    space, objective, max_epochs, seed: the experiment's. options: resolved.
    """

    name: ClassVar[str] = "fifo"
    Options: ClassVar[type[SchedulerOptions]] = SchedulerOptions
    #: Whether it compares the members of a whole population: all trials are there from the start.
    is_population: ClassVar[bool] = False
    #: Whether it is of one trial: a run has no more.
    is_of_one: ClassVar[bool] = False
    #: Whether a person may change its trial while it trains, by commands.
    takes_commands: ClassVar[bool] = False
    #: Whether it is asked what to do with a trial that has diverged.
    handles_divergence: ClassVar[bool] = False
    #: Whether it is shown all metrics of a report, and not the objective's alone.
    sees_metrics: ClassVar[bool] = False
    #: Whether it may be told of further reports of a trial that it has answered STOP to: where it is told again of what
    #: was decided otherwise (an amended run).
    forgives: ClassVar[bool] = True
    #: Whether a trial that ended at the last epoch may train on where an amendment moves that: it is asked, then, what
    #: it says to the trial's last report.
    promotes: ClassVar[bool] = True
    #: Whether it pauses trials to decide how long each runs: a search that does so too does not go with it.
    plans_budgets: ClassVar[bool] = False

    def __init__(
        self,
        options: SchedulerOptions | None = None,
        *,
        space: SearchSpace,
        objective: Objective,
        max_epochs: int,
        seed: int,
    ) -> None:
        self.options = options if options is not None else self.Options()
        self.space, self.objective, self.max_epochs, self.seed = space, objective, max_epochs, seed
        self.prepare()

    def prepare(self) -> None:
        """The constructor's last step: whatever a subclass works out from the fields above."""

    @classmethod
    def expected_epochs(cls, options: SchedulerOptions | None, max_epochs: int) -> float:
        """Of a trial on average, about: by it the length of a run is judged before it begins. options: resolved, None
        of an object."""
        return max_epochs

    # Told of trials, as Ray's TrialScheduler is ------------------------------------------------------

    def on_trial_add(self, host: SchedulerHost, trial: HostTrial) -> None:
        """A trial was suggested."""

    def on_trial_result(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> str:
        """A report: result holds the objective's metric and "epoch"; where `sees_metrics`, all metrics, whether they
        are finite ("finite"), and the epoch as Ray's "training_iteration" too. Answers an `Answer`."""
        return Answer.CONTINUE

    def on_trial_complete(self, host: SchedulerHost, trial: HostTrial, result: dict[str, Any]) -> None:
        """A running trial has ended. result: its last."""

    def on_trial_error(self, host: SchedulerHost, trial: HostTrial) -> None:
        """A trial has failed or diverged for good."""

    def on_trial_remove(self, host: SchedulerHost, trial: HostTrial) -> None:
        """A trial has ended that was not running."""

    def choose_trial_to_run(self, host: SchedulerHost) -> HostTrial | None:
        """The trial that is to have the next free worker: new ones first, then paused ones."""
        for standing in (Standing.PENDING, Standing.PAUSED):
            for trial in host.get_live_trials():
                if trial.status == standing:
                    return trial
        return None

    # Asked besides ----------------------------------------------------------------------------------

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        """The next epoch after `epoch` at which the answer may be anything but CONTINUE: up to there epochs may be
        trained without asking. Here: the next one, of a scheduler that answers at all."""
        return math.inf if type(self).on_trial_result is Scheduler.on_trial_result else epoch + 1

    def pinned_checkpoints(self) -> Iterable[CheckpointRecord]:
        """Checkpoints that may still be handed to trials: they are not deleted."""
        return ()

    def forget_checkpoint(self, path: str) -> None:
        """A checkpoint is damaged or gone: it may not be handed to trials."""

    def intervened(self, trial: HostTrial) -> None:
        """A person has changed a trial."""

    def new_era(self, max_epochs: int) -> None:
        """Of an amended run, which is told again of all that has been: the trials added from here on are of an
        experiment with this last epoch. Called before the first of them, too. A scheduler that plans ahead, as
        Hyperband's brackets are planned, begins anew with it; others have nothing to do."""

    def end_eras(self, host: SchedulerHost) -> None:
        """The amendments are in force: to what was planned before them no trial will be added."""

    def search_exhausted(self, host: SchedulerHost) -> None:
        """No trial will be added."""
