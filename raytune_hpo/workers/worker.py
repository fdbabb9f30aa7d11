"""The worker: a long-lived Ray actor that runs one trial at a time.

Starting a process costs seconds (import torch) and hundreds of megabytes, so a worker is kept and takes
trial after trial. Each call lets the trial run on and answers with its reports: at least one, and more
if they come within BATCH_S and no scheduler could decide anything about them (`until`). So epochs of a
millisecond do not wait a millisecond each for the driver, and no trial runs past a decision.
"""

from __future__ import annotations

import bdb
import functools
import gc
import os
import pickle
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.journal.events import CheckpointRecord, Event
from raytune_hpo.seeding import trial_seed
from raytune_hpo.settings import Resources
from raytune_hpo.storage.checkpoints import CheckpointStore, pack, unpack
from raytune_hpo.storage.full_disk import storing
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers import deaths, trial_directories
from raytune_hpo.workers.data_news import data_news
from raytune_hpo.workers.first_check import first_remarks
from raytune_hpo.workers.function_session import FunctionSession, is_of
from raytune_hpo.workers.imports import record_more
from raytune_hpo.workers.messages import Assignment, Checked, EpochReport, Left, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.outcomes import Raised, Report
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.surroundings import Place

if TYPE_CHECKING:
    from raytune_hpo.workers.ranks import RankedSession, Ranks

MakeTrainable = Callable[[Callable[[], Any]], FunctionTrainable]

BATCH_S = 0.02
#: How long a call waits for the last trial's function to end. Most take less than a millisecond; the others are asked
#: for again, so that the pool knows of them and may give up the worker.
PATIENCE_S = 0.2


class Worker:
    """See the module. Made an actor by the pool.

    make: makes the trainable from `data`, which gives what trials see; pickled where it has travelled. of_task: it is
    a task's; recipe: that task's, pickled as `make` is. ranks: processes of a trial, this one among them.
    """

    def __init__(
        self,
        make: MakeTrainable | bytes,
        data: Callable[[], Any],
        posting: Posting,
        *,
        of_task: bool = False,
        recipe: Recipe | bytes | None = None,
        ranks: int = 1,
    ) -> None:
        phases = posting.phases()
        posting.prepare_process()
        self._posting, self._of_task = posting, of_task
        self._recipe, self._data = recipe, data
        with phases("imports"):
            unpacked: MakeTrainable = pickle.loads(make) if isinstance(make, bytes) else make
        with phases("task and data"):
            self._ranks = _other_ranks(make, data, posting, ranks) if ranks > 1 else None
            # In the driver's process it works in surroundings of its own, which last as long as it is waited for.
            self._keeps_at_work = posting.imports is None or ranks > 1
            self._function = unpacked(data)
            found = data_news(data(), Path(posting.run_path) if posting.sees_run else None)
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

    def check(self, configs: Sequence[dict[str, Any]]) -> Checked:
        """Try the task with these. Raises TaskError where no trial could be trained."""
        assert self._recipe is not None
        recipe: Recipe = pickle.loads(self._recipe) if isinstance(self._recipe, bytes) else self._recipe
        device = "cuda" if self._posting.gpus > 0 else "cpu"
        return Checked(tuple(first_remarks(recipe, self._data(), configs, device, self._posting.threads)))

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
        session = FunctionSession if self._ranks is None else functools.partial(_ranked_session(), ranks=self._ranks)
        self._session = session(
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
            at_least = None if self._keeps_at_work else int(not reports)
            outcomes = self._session.run(until - self._epoch, BATCH_S - (before - began), at_least=at_least)
            if not outcomes:
                return Outcome("waiting", tuple(reports))
            for outcome in outcomes:
                if isinstance(outcome, Raised):
                    if outcome.disk is not None:
                        raise outcome.disk
                    if outcome.quit:
                        raise bdb.BdbQuit
                    if outcome.lost:
                        return Outcome("lost", error=outcome.summary, reusable=False)
                    # CUDA memory of a failed trial may stay allocated through its traceback: take a new process.
                    reusable = not outcome.out_of_memory
                    return Outcome("raised", tuple(reports), outcome.summary, outcome.text, reusable)
                if not isinstance(outcome, Report):
                    return Outcome("returned", tuple(reports))
                self._epoch += 1
                saved = self._commit(outcome.checkpoint) if outcome.checkpoint is not None else None
                seconds = outcome.at - before
                reports.append(EpochReport(self._epoch, outcome.metrics, seconds, saved, outcome.done, outcome.met))
                before = outcome.at if saved is None else time.perf_counter()
            if self._epoch >= until or reports[-1].done or before - began > BATCH_S:
                return Outcome("waiting", tuple(reports))

    def save(self) -> Saved | None:
        """Save the waiting trial's state at its present epoch; None if its trainable cannot."""
        if self._session is None or self._session.save is None or self._session.at_work:
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
            checkpoint_every=posting.checkpoint_every,
            max_epochs=posting.max_epochs,
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


def _other_ranks(make: MakeTrainable | bytes, data: Callable[[], Any], posting: Posting, count: int) -> Ranks:
    from raytune_hpo.workers.ranks import Ranks

    assert isinstance(make, bytes)  # a trial of several processes is in no process of the driver's
    return Ranks(make, data, posting, count)


def _ranked_session() -> type[RankedSession]:
    from raytune_hpo.workers.ranks import RankedSession

    return RankedSession


def called(call: bytes) -> Any:
    """What a pickled (function, arguments) answers; unpickled here, where the code it names can be found."""
    function, arguments = pickle.loads(call)
    return function(*arguments)
