"""The words for where a trial stands, how it ended, and what is decided about a report: one enum each.

They are texts (StrEnum): equal to their values, written to JSON as them.
"""

from __future__ import annotations

from enum import StrEnum

MAX_EPOCHS = "max_epochs"  # the reason of an end at the last epoch
PLATEAU = "plateau"
"""Why a trial has ended that stopped getting better."""


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"  # it reached its last epoch, or its function returned
    STOPPED = "stopped"  # by the scheduler, a plateau, a person or the end of the run
    DIVERGED = "diverged"  # the objective or our trainer's loss is not finite: a normal end, and never the winner
    FAILED = "failed"  # it raised, or lost its workers, more often than it may

    @property
    def eligible(self) -> bool:
        """Whether such a trial may be the winner."""
        return self in (Outcome.COMPLETED, Outcome.STOPPED)


class Status(StrEnum):
    """Where a trial stands. The last four are its outcomes."""

    PENDING = "pending"  # it waits for a worker
    RUNNING = "running"
    PAUSED = "paused"  # the scheduler, or a person, lets it wait
    COMPLETED = Outcome.COMPLETED.value
    STOPPED = Outcome.STOPPED.value
    DIVERGED = Outcome.DIVERGED.value
    FAILED = Outcome.FAILED.value

    @property
    def finished(self) -> bool:
        return self not in (Status.PENDING, Status.RUNNING, Status.PAUSED)

    @property
    def eligible(self) -> bool:
        """Whether such a trial may be the winner."""
        return self not in (Status.DIVERGED, Status.FAILED)


class Decision(StrEnum):
    """What is decided about a report. The first four are the scheduler's, the others are made before it is asked."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"
    EXPLOITED = "exploited"  # the trial goes on from a checkpoint, with another config: a perturb event follows
    DIVERGED = "diverged"
    COMPLETE = "complete"
    PLATEAU = "plateau"
    HALT = "halt"  # the run accepts no more work

    @property
    def of_scheduler(self) -> bool:
        return self in (Decision.CONTINUE, Decision.PAUSE, Decision.STOP, Decision.EXPLOITED)


class RunStatus(StrEnum):
    """Where a run stands. One that was killed is "running" until it is resumed."""

    RUNNING = "running"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
