"""The worker: a long-lived Ray actor that runs one trial at a time.

Starting a process costs seconds (import torch) and hundreds of megabytes, so a worker is kept and takes
trial after trial. Each call lets the trial run on and answers with its reports: at least one, and more
if they come within BATCH_S and no scheduler could decide anything about them (`until`). So epochs of a
millisecond do not wait a millisecond each for the driver, and no trial runs past a decision.
"""

from __future__ import annotations

import bdb
import gc
import json
import logging
import os
import pickle
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.journal.events import CheckpointRecord, DataLoaded, Event, Warned
from raytune_hpo.seeding import trial_seed
from raytune_hpo.settings import Resources
from raytune_hpo.storage.checkpoints import CheckpointStore, pack, unpack
from raytune_hpo.storage.full_disk import storing
from raytune_hpo.storage.run_directory import DESCRIPTION
from raytune_hpo.training.data import TrialData
from raytune_hpo.workers import deaths, trial_directories, trial_log
from raytune_hpo.workers.function_session import FunctionSession, is_of
from raytune_hpo.workers.imports import Imports, record_more
from raytune_hpo.workers.outcomes import Raised, Report
from raytune_hpo.workers.phases import Phases
from raytune_hpo.workers.process_state import WorkingDirectory
from raytune_hpo.workers.surroundings import Place
from raytune_hpo.workers.trial_log import TrialLog
from raytune_hpo.workers.warning_count import WarningCount

MakeTrainable = Callable[[Callable[[], Any]], FunctionTrainable]

BATCH_S = 0.02
#: How long a call waits for the last trial's function to end. Most take less than a millisecond; the others are asked
#: for again, so that the pool knows of them and may give up the worker.
PATIENCE_S = 0.2


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
    trainable says that it is done."""

    epoch: int
    metrics: dict[str, Any]
    seconds: float
    saved: Saved | None
    done: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one call: reports, in order, and then how the call ended.

    kind: "waiting" (for the next step), "running" (a lane that goes on to `until` unasked), "returned", "raised",
    "unreadable" (the checkpoint to start from is damaged) or "occupied" (the worker's last trial has not ended, this
    one was not begun). reusable: whether the worker may take another trial. left: what there is to say of the worker's
    last trial, in a call that was to begin another one. warned: what the trial's code warned of meanwhile.
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


@dataclass(frozen=True)
class Posting:
    """What an actor that trains is told of the run it serves.

    run_path, run_id, session: the run directory, and how to recognize it on the actor's machine. cpus: the actor's.
    imports: what the driver can import; None for an actor in the driver's own process. cwd: the directory that the run
    was begun in. own_directories: whether trials of a function work in directories of their own. name, seed, objective:
    the experiment's. gpus: the actor's. most: actors of the run at a time, None for as many as fit.
    """

    run_path: str
    run_id: str
    session: int
    cpus: float
    imports: Imports | None
    verbose: bool
    cwd: str | None = None
    own_directories: bool = True
    name: str = ""
    seed: int = 0
    objective: str | None = None
    gpus: float = 0.0
    most: int | None = None

    def prepare_process(self) -> None:
        """Before anything of the user's is unpickled. The driver's own process is left as it is."""
        if self.imports is None:
            return
        if self.cwd is not None:
            WorkingDirectory(self.cwd).put_back()  # on another machine it need not be there
        self.imports.take()
        logging.getLogger("ray").setLevel(logging.ERROR)  # its own matters are none of a trial's
        deaths.leave_traces()

    def listening(self, is_own: Callable[[str], bool]) -> tuple[TrialLog, WarningCount, str]:
        """What hears the trials of an actor: their logs, their warnings, and the folder of the logs. is_own: whether
        the thread that asks is one of this trial's, or log's, where the process is the driver's own."""
        worker = f"{socket.gethostname()}-{os.getpid()}"
        if self.imports is None:
            folder = Path(self.run_path) / trial_log.FOLDER
            heard = trial_log.ThreadLog(folder, worker, is_own)
            return heard, WarningCount(is_own, heard.hear, whole=False), str(folder)
        if self.sees_run:
            folder = Path(self.run_path) / trial_log.FOLDER
        else:
            folder = Path(tempfile.mkdtemp(prefix="raytune_hpo_logs_"))
        log = trial_log.ProcessLog(folder, worker, live=self.verbose)
        return log, WarningCount(lambda _: True, print, whole=True), str(folder)

    def phases(self) -> Phases:
        """Of the actor, from the start of its process on."""
        phases = Phases(f"{socket.gethostname()}-{os.getpid()}")
        if self.imports is not None:
            phases.since_process_start()
        return phases

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    @property
    def sees_run(self) -> bool:
        """Whether this machine sees the run directory."""
        try:
            description = json.loads((Path(self.run_path) / DESCRIPTION).read_text())
        except (OSError, ValueError):
            return False
        return bool(description.get("run_id") == self.run_id)


class Worker:
    """See the module. Made an actor by the pool.

    make: makes the trainable from `data`, which gives what trials see; pickled where it has travelled. of_task: it is
    a task's.
    """

    def __init__(
        self, make: MakeTrainable | bytes, data: Callable[[], Any], posting: Posting, *, of_task: bool = False
    ) -> None:
        phases = posting.phases()
        posting.prepare_process()
        self._posting, self._of_task = posting, of_task
        with phases("imports"):
            unpacked: MakeTrainable = pickle.loads(make) if isinstance(make, bytes) else make
        with phases("task and data"):
            self._function = unpacked(data)
            found = data_news(data())
        self._news: tuple[Event, ...] = (*phases.take(), *found)
        self._store = CheckpointStore(Path(posting.run_path), posting.session)
        self._sees_run = posting.sees_run
        self._log, self._warnings, self._logs = posting.listening(is_of)
        self._session: FunctionSession | None = None
        self._trial: Assignment | None = None
        self._epoch = 0
        self._temporary: Path | None = None

    def info(self) -> WorkerInfo:
        pid = os.getpid()
        mark = deaths.process_mark(pid)
        return WorkerInfo(socket.gethostname(), pid, self._sees_run, 1, self._news, mark, self._logs)

    def do(self, call: bytes) -> Any:
        """See `called`. Spares a process of its own for what is done once."""
        return called(call)

    def start(self, trial: Assignment, completed: bool = False) -> Outcome:
        """Take a trial and run it to its first reports. completed: as for `release`, of the trial before."""
        left = self.release(completed)
        if left is not None and not left.ended:
            return Outcome("occupied", left=left)
        outcome = self._begin(trial)
        return replace(outcome, left=left) if left is not None and (left.error or left.warned) else outcome

    def _begin(self, trial: Assignment) -> Outcome:
        self._trial = trial
        self._epoch = 0
        folder: Path | None = None
        if trial.checkpoint is not None:
            folder = self._fetch(trial.checkpoint, trial.payload)
            if folder is None:
                return Outcome("unreadable")
            self._epoch = trial.checkpoint.epoch
        self._log.begin(trial.trial)
        self._warnings.begin(trial.trial)
        self._session = FunctionSession(
            self._function,
            trial.config,
            trial_id=trial.trial,
            repeat=trial.repeat,
            range_test=trial.range_test,
            checkpoint=folder,
            scratch=self._scratch,
            prepare_thread=self._set_threads,
            epoch=self._epoch,
            place=self._place(trial),
        )
        return self.step(trial.until)

    def step(self, until: int) -> Outcome:
        """Let the trial run on, at most to the report of epoch `until`. Raises OSError where a disk is full."""
        outcome = self._run(until)
        assert self._trial is not None
        warned = self._warnings.take(over=() if outcome.kind == "waiting" else (self._trial.trial,))
        return replace(outcome, warned=warned) if warned else outcome

    def _run(self, until: int) -> Outcome:
        assert self._session is not None
        reports: list[EpochReport] = []
        began = before = time.perf_counter()
        while True:
            for outcome in self._session.run(until - self._epoch, BATCH_S - (before - began)):
                if isinstance(outcome, Raised):
                    if outcome.disk is not None:
                        raise outcome.disk
                    if outcome.quit:
                        raise bdb.BdbQuit
                    # CUDA memory of a failed trial may stay allocated through its traceback: take a new process.
                    reusable = not outcome.out_of_memory
                    return Outcome("raised", tuple(reports), outcome.summary, outcome.text, reusable)
                if not isinstance(outcome, Report):
                    return Outcome("returned", tuple(reports))
                self._epoch += 1
                saved = self._commit(outcome.checkpoint) if outcome.checkpoint is not None else None
                reports.append(EpochReport(self._epoch, outcome.metrics, outcome.at - before, saved, outcome.done))
                before = outcome.at if saved is None else time.perf_counter()
            if self._epoch >= until or reports[-1].done or before - began > BATCH_S:
                return Outcome("waiting", tuple(reports))

    def save(self) -> Saved | None:
        """Save the waiting trial's state at its present epoch; None if its trainable cannot."""
        if self._session is None or self._session.save is None:
            return None
        folder = self._scratch()
        try:
            self._session.save(folder)
            return self._commit(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def release(self, completed: bool = False) -> Left | None:
        """End the present trial; None if there is none. Waits for PATIENCE_S at most: ask again if it has not ended.

        completed: its function returns from its last report, and does what it does after that.
        """
        session = self._session
        if session is None:
            return None
        assert self._trial is not None
        if not session.stop(PATIENCE_S, returning=completed):
            return Left(self._trial.trial, ended=False)
        raised = session.last_words
        self._session = None
        del session
        if self._posting.imports is not None and self._sees_run:
            record_more(self._posting.imports.source)
        self._log.end()
        self._warnings.begin()
        warned = self._warnings.take(over=(self._trial.trial,))
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            # Back to the GPU, which other workers may share (ray#23971).
            gc.collect()
            torch.cuda.empty_cache()
        return Left(self._trial.trial, error="" if raised is None else raised.summary, warned=warned)

    def close(self) -> None:
        """The worker is not needed any more: its trial has STOP_TIMEOUT_S to end, if it was not told to before."""
        session = self._session
        if session is not None:
            session.stop(PATIENCE_S if session.told_to_end else None)
            left = self.release()
            if left is not None and not left.ended:
                session.withdraw()
        self._warnings.begin()
        self._log.close()
        trial_directories.closed(Path(self._posting.run_path))

    def abandon(self) -> None:
        """From another thread: whatever the trial is at is not waited for."""
        session = self._session
        if session is not None:
            session.abandon()

    def _place(self, trial: Assignment) -> Place:
        posting = self._posting
        return Place(
            trial.trial,
            trial_seed(posting.seed, trial.trial, trial.repeat),
            run_path=Path(posting.run_path) if self._sees_run else None,
            original=posting.cwd,
            changes_directory=posting.own_directories,
            shared=posting.imports is None,
            objective=posting.objective,
            of_task=self._of_task,
            experiment=posting.name,
            resources=Resources(posting.cpus, posting.gpus),
            most=posting.most,
        )

    # Checkpoints --------------------------------------------------------------------------------

    def _scratch(self) -> Path:
        assert self._trial is not None
        with storing():
            return self._store.scratch(self._trial.trial) if self._sees_run else Path(tempfile.mkdtemp())

    def _commit(self, folder: Path) -> Saved:
        assert self._trial is not None
        try:
            if not self._sees_run:
                return Saved(self._epoch, payload=pack(folder))
            with storing():
                record = self._store.commit(folder, self._trial.trial, self._trial.generation, self._epoch)
            return Saved(self._epoch, record=record)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # of what could not be kept; what was, is elsewhere now

    def _fetch(self, record: CheckpointRecord, payload: bytes | None) -> Path | None:
        if self._sees_run:
            return self._store.run_path / record.path if self._store.intact(record) else None
        if payload is None:
            return None
        self._temporary = Path(tempfile.mkdtemp())
        unpack(payload, self._temporary)
        return self._temporary

    def _set_threads(self) -> None:
        # OpenMP keeps the number per thread: this runs in the trial's own.
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(self._posting.threads)


def data_news(data: TrialData | None) -> tuple[Event, ...]:
    """What the journal is to hold of a task's data; nothing of a function, which has its own."""
    if data is None:
        return ()
    torch = sys.modules.get("torch")
    dtype = "float32" if torch is None else str(torch.get_default_dtype()).removeprefix("torch.")
    return (DataLoaded(data.train.x.shape[1:], dtype, len(data.train), len(data.validation)),)


def called(call: bytes) -> Any:
    """What a pickled (function, arguments) answers; unpickled here, where the code it names can be found."""
    function, arguments = pickle.loads(call)
    return function(*arguments)
