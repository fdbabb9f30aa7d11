"""Runs a function trainable, f(config), one report at a time.

The function runs in a thread, which waits inside `report` until the driver has decided: no trial runs past a decision.
What it calls is in `reporting`; Ray Tune's own functions find the session through `tune_session`. Ray is not imported
here: a function that reports to us alone starts without it.
"""

from __future__ import annotations

import bdb
import copy
import inspect
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.errors import TrialError
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.workers import tune_session

#: How long a function may take to unwind once its trial is over, and how long a completed one may for what it does
#: after its last report.
STOP_TIMEOUT_S = 10.0
FINISH_TIMEOUT_S = 60.0


class _TrialThread(threading.Thread):
    session: FunctionSession


@dataclass
class _Process:
    """running: the session of the trial that runs in this process."""

    running: FunctionSession | None = None


_process = _Process()


def running() -> FunctionSession | None:
    """The session of the trial that calls this; None outside of one.

    A thread of a trial that should have ended, but has not, is never taken for the trial that runs now.
    """
    thread = threading.current_thread()
    return thread.session if isinstance(thread, _TrialThread) else _process.running


def is_of(trial: str) -> bool:
    """Whether the thread that asks is the trial's own."""
    thread = threading.current_thread()
    return isinstance(thread, _TrialThread) and thread.session.trial_id == trial


class _Stopped(BaseException):
    """Raised inside `report` to unwind a function whose trial is over."""


@dataclass(frozen=True)
class Report:
    """What a function reported: plain metrics, and the folder of its checkpoint if it saved one. at: when, by
    time.perf_counter."""

    metrics: dict[str, Any]
    checkpoint: Path | None
    at: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Returned:
    """The function returned."""


@dataclass(frozen=True)
class Raised:
    """The function raised. summary: one line; text: the traceback, ours left out; disk: what says that one is full;
    quit: somebody has left a debugger."""

    summary: str
    text: str
    out_of_memory: bool
    disk: OSError | None = None
    quit: bool = False


Outcome = Report | Returned | Raised


class FunctionSession:
    """One trial's run of a function, from start to stop.

    scratch: makes an empty folder on the disk that checkpoints end up on. The function has a config of its own, which
    it may change.
    """

    def __init__(
        self,
        function: FunctionTrainable,
        config: dict[str, Any],
        *,
        trial_id: str,
        repeat: int | None = None,
        range_test: bool = False,
        checkpoint: Path | None,
        scratch: Callable[[], Path],
        prepare_thread: Callable[[], None],
    ) -> None:
        self.trial_id = trial_id
        self.repeat, self.range_test = repeat, range_test
        self.checkpoint = checkpoint
        self.save: Callable[[Path], None] | None = None
        self._scratch = scratch
        self._made: set[Path] = set()
        self._outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        self._batch: list[Outcome] = []
        self._most, self._deadline = 1, 0.0
        self._go_on: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._stopping = self._returning = False
        self._prepare_thread = prepare_thread
        own = copy.deepcopy(config)
        self._thread = _TrialThread(target=self._run, args=(function, own), daemon=True, name=trial_id)
        self._thread.session = self
        self._started = False

    def next(self) -> Outcome:
        """Let the function run to its next report, or to its end."""
        return self.run(1, 0.0)[0]

    def run(self, reports: int, seconds: float) -> list[Outcome]:
        """Let the function run on: to its next report, or to so many if they come within `seconds` and before one that
        has a checkpoint, or to its end. What came, in order."""
        self._most, self._deadline = reports, time.perf_counter() + seconds
        if self._started:
            self._go_on.put(None)
        else:
            self._started = True
            _process.running = self
            tune_session.offer(self)
            self._thread.start()
        return self._outcomes.get()

    def stop(self, timeout_s: float | None = None, *, returning: bool = False) -> bool:
        """End the function where it waits. False if it does not end within `timeout_s`, of STOP_TIMEOUT_S by default:
        then ask again.

        returning: the report that it waits in returns, and the next one ends it.
        """
        if not self._stopping:
            self._stopping, self._returning = True, returning
            self._go_on.put(None)
        if self._started:
            self._thread.join(STOP_TIMEOUT_S if timeout_s is None else timeout_s)
        if self._thread.is_alive():
            return False
        self.withdraw()
        return True

    def withdraw(self) -> None:
        """Only the function's own thread finds the session from now on."""
        if _process.running is self:
            _process.running = None
            tune_session.withdraw()

    @property
    def told_to_end(self) -> bool:
        return self._stopping

    @property
    def last_words(self) -> Raised | None:
        """What the function raised after its last report was taken; None where it did not."""
        last: Outcome | None = None
        while not self._outcomes.empty():
            last = self._outcomes.get()[-1]
        return last if isinstance(last, Raised) else None

    def scratch(self) -> Path:
        folder = self._scratch()
        self._made.add(folder)
        return folder

    # In the function's thread -----------------------------------------------------------------------

    def report(self, metrics: Mapping[str, Any], folder: Path | None = None) -> None:
        """Behind `reporting.report` and `tune.report`. folder: of a checkpoint's files."""
        if self._stopping:
            raise _Stopped
        if folder is not None and folder not in self._made:  # the function's own, which it may delete or change
            own, folder = folder, self.scratch()
            shutil.copytree(own, folder, dirs_exist_ok=True)
        report = Report(plain_metrics(metrics), folder, time.perf_counter())
        self._batch.append(report)
        if folder is None and len(self._batch) < self._most and report.at < self._deadline:
            return  # no hand-over, which costs more than the report does
        self._hand_over()
        self._go_on.get()
        if self._stopping and not self._returning:
            raise _Stopped

    def _run(self, function: FunctionTrainable, config: dict[str, Any]) -> None:
        try:
            self._prepare_thread()
            returned = function(config)
            if inspect.isgenerator(returned):
                for item in returned:
                    self._report_returned(item)
            else:
                self._report_returned(returned)
            self._hand_over(Returned())
        except _Stopped:
            pass
        except BaseException as error:  # a SystemExit of the user's code ends its trial, not the worker
            self._hand_over(raised(error))

    def _hand_over(self, *end: Outcome) -> None:
        batch, self._batch = [*self._batch, *end], []
        self._outcomes.put(batch)

    def _report_returned(self, item: Any) -> None:
        if isinstance(item, Mapping):
            self.report(item)
        elif item is not None:
            raise TrialError(f"a trainable returns or yields nothing or a dictionary of metrics, not {item!r}")


def raised(error: BaseException) -> Raised:
    """An exception as text: one line, and the traceback from the user's function on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames))
    summary = " ".join(f"{type(error).__name__}: {error}".split())
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return Raised(summary[:500], text, memory, full_disk(error), quit=isinstance(error, bdb.BdbQuit))


def plain_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as JSON values: NumPy scalars and one-element tensors become Python's numbers.

    Raises TrialError for anything else.
    """
    out: dict[str, Any] = {}
    for name, value in metrics.items():
        plain = value.item() if isinstance(value, np.generic) or getattr(value, "ndim", None) == 0 else value
        if not isinstance(plain, str | bool | int | float | None):
            raise TrialError(f"metric {name!r} must be a number or text, not {type(value).__name__}")
        out[str(name)] = plain
    return out
