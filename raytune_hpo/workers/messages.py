"""What the driver and its actors tell each other: assignments, reports, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.journal.events import CheckpointRecord, Event, Warned
from raytune_hpo.workers import trial_log
from raytune_hpo.workers.outcomes import Met


@dataclass(frozen=True)
class Assignment:
    """A trial for a worker. checkpoint: where to go on from; payload: its bytes for a worker that does
    not see the run directory; until: as for `Worker.step`; repeat: as in `search.algorithm.Plan`;
    range_test: do the learning-rate range test of this config instead of training it; known: its last
    epoch that was reported; losses: the workers it has lost since."""

    trial: str
    config: dict[str, Any]
    generation: int
    until: int
    checkpoint: CheckpointRecord | None = None
    payload: bytes | None = None
    repeat: int | None = None
    range_test: bool = False
    known: int = 0
    losses: float = 0


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its record in the run directory, or its bytes where the worker cannot write there."""

    epoch: int
    record: CheckpointRecord | None = None
    payload: bytes | None = None


@dataclass(frozen=True)
class EpochReport:
    """One report of the trainable. seconds: from the one before it, waiting for the driver left out. done: the
    trainable says that it is done. met: as of `outcomes.Report`."""

    epoch: int
    metrics: dict[str, Any]
    seconds: float
    saved: Saved | None
    done: bool = False
    met: Met | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one call: reports, in order, and then how the call ended.

    kind: "waiting" (for the next step), "running" (a lane that goes on to `until` unasked), "returned", "raised",
    "unreadable" (the checkpoint to start from is damaged), "lost" (one of the trial's processes has died) or "occupied"
    (the worker's last trial has not ended, this one was not begun). reusable: whether the worker may take another
    trial. left: what there is to say of the worker's last trial, in a call that was to begin another one. warned: what
    the trial's code warned of meanwhile.
    """

    kind: str
    reports: tuple[EpochReport, ...] = ()
    error: str = ""
    traceback: str = ""
    reusable: bool = True
    left: Left | None = None
    warned: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class Left:
    """What came of a trial that had to leave its worker. ended: its function has; if not, ask again. error, warned:
    what that raised and warned of after its last report."""

    trial: str
    ended: bool = True
    error: str = ""
    warned: tuple[Warned, ...] = ()


@dataclass(frozen=True)
class Checked:
    """What came of the first check of the run's task: for people to read."""

    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker lives. lanes: trials that it can take at a time. news: of its start, for the journal. mark: see
    `deaths.process_mark`. logs: the folder of its trials' logs; one_log: the name of the log, where they share one.
    """

    host: str
    pid: int
    sees_run: bool
    lanes: int = 1
    news: tuple[Event, ...] = ()
    mark: str | None = None
    logs: str | None = None
    one_log: str | None = None

    @property
    def name(self) -> str:
        """Of the worker, in the journal."""
        return f"{self.host}-{self.pid}"

    def log_of(self, trial: str) -> str | None:
        """Where a trial's output goes: within the run directory, or HOST:PATH."""
        if self.logs is None:
            return None
        folder = trial_log.FOLDER if self.sees_run else f"{self.host}:{self.logs}"
        return f"{folder}/{self.one_log or trial}.log"

    def log_file(self, trial: str | None) -> Path | None:
        """The same as a path, on a machine that sees the run directory; None where only the worker's machine has it."""
        name = self.one_log or trial
        return Path(self.logs) / f"{name}.log" if self.logs is not None and self.sees_run and name else None

    @property
    def spool(self) -> Path:
        """What took its output before there was any."""
        assert self.logs is not None
        return Path(self.logs) / trial_log.spool_name(self.name)
