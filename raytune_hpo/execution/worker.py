"""The worker: a long-lived Ray actor that runs one trial at a time.

Starting a process costs seconds (import torch) and hundreds of megabytes, so a worker is kept and takes
trial after trial. Each call lets the trial run to its next report and answers with it, so that the
driver decides before the next epoch begins.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.execution.function_session import FunctionSession, Raised, Report, raised
from raytune_hpo.reference import FunctionTrainable
from raytune_hpo.storage.checkpoints import CheckpointRecord, CheckpointStore, pack, unpack

MakeTrainable = Callable[[Any], FunctionTrainable]


@dataclass(frozen=True)
class Assignment:
    """A trial for a worker. checkpoint: where to go on from; payload: its bytes for a worker that does
    not see the run directory."""

    trial: str
    config: dict[str, Any]
    generation: int
    checkpoint: CheckpointRecord | None = None
    payload: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of one call.

    kind: "report", "returned", "raised" or "unreadable" (the checkpoint to start from is damaged).
    saved: the record of a checkpoint written to the run directory; payload: its bytes where this worker
    cannot write there. reusable: whether the worker may take another trial.
    """

    kind: str
    epoch: int = 0
    metrics: dict[str, Any] | None = None
    seconds: float = 0.0
    saved: CheckpointRecord | None = None
    payload: bytes | None = None
    error: str = ""
    traceback: str = ""
    reusable: bool = True


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker lives."""

    host: str
    pid: int
    sees_run: bool


class Worker:
    """See the module. Made an actor by the pool.

    make: makes the trainable from `data` (fetched from the object store by Ray, shared by all workers of
    a node). run_path, run_id, session: the run directory, and how to recognize it on this machine.
    """

    def __init__(
        self,
        make: MakeTrainable,
        data: Any,
        run_path: str,
        run_id: str,
        session: int,
        cpus: float,
        paths: list[str],
        verbose: bool,
    ) -> None:
        for path in paths:
            if path not in sys.path:
                sys.path.append(path)
        if not verbose:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
        self._threads = max(1, int(cpus))
        self._function = make(data)
        self._store = CheckpointStore(Path(run_path), session)
        self._sees_run = _is_run(Path(run_path), run_id)
        self._session: FunctionSession | None = None
        self._trial: Assignment | None = None
        self._epoch = 0
        self._temporary: Path | None = None

    def info(self) -> WorkerInfo:
        return WorkerInfo(socket.gethostname(), os.getpid(), self._sees_run)

    def start(self, trial: Assignment) -> Outcome:
        """Take a trial and run it to its first report."""
        if not self.release():
            return Outcome("raised", error="the last trial's function does not end", reusable=False)
        self._trial = trial
        self._epoch = 0
        folder: Path | None = None
        if trial.checkpoint is not None:
            folder = self._fetch(trial.checkpoint, trial.payload)
            if folder is None:
                return Outcome("unreadable")
            self._epoch = trial.checkpoint.epoch
        self._session = FunctionSession(
            self._function,
            trial.config,
            trial_id=trial.trial,
            checkpoint=folder,
            scratch=self._scratch,
            prepare_thread=self._set_threads,
        )
        return self.step()

    def step(self) -> Outcome:
        """Let the trial run to its next report."""
        assert self._session is not None
        began = time.perf_counter()
        outcome = self._session.next()
        seconds = time.perf_counter() - began
        if isinstance(outcome, Raised):
            # CUDA memory of a failed trial may stay allocated through its traceback: take a new process.
            return Outcome("raised", error=outcome.summary, traceback=outcome.text, reusable=not outcome.out_of_memory)
        if not isinstance(outcome, Report):
            return Outcome("returned", epoch=self._epoch)
        self._epoch += 1
        saved, payload = self._commit(outcome.checkpoint) if outcome.checkpoint is not None else (None, None)
        return Outcome("report", self._epoch, outcome.metrics, seconds, saved, payload)

    def save(self) -> Outcome:
        """Save the waiting trial's state at its present epoch, if its trainable can."""
        assert self._session is not None
        if self._session.save is None:
            return Outcome("report", self._epoch)
        try:
            folder = self._scratch()
            self._session.save(folder)
            saved, payload = self._commit(folder)
        except Exception as error:
            failure = raised(error)
            return Outcome("raised", error=failure.summary, traceback=failure.text)
        return Outcome("report", self._epoch, saved=saved, payload=payload)

    def release(self) -> bool:
        """End the present trial, if there is one. False: its function does not end, drop this worker."""
        session, self._session = self._session, None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None
        return session is None or session.stop()

    # Checkpoints --------------------------------------------------------------------------------

    def _scratch(self) -> Path:
        assert self._trial is not None
        return self._store.scratch(self._trial.trial) if self._sees_run else Path(tempfile.mkdtemp())

    def _commit(self, folder: Path) -> tuple[CheckpointRecord | None, bytes | None]:
        assert self._trial is not None
        if self._sees_run:
            return self._store.commit(folder, self._trial.trial, self._trial.generation, self._epoch), None
        payload = pack(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return None, payload

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
            torch.set_num_threads(self._threads)


def _is_run(path: Path, run_id: str) -> bool:
    try:
        description = json.loads((path / "experiment.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(description.get("run_id") == run_id)
