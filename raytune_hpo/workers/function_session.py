"""Runs a function trainable, f(config), one report at a time.

The function runs in a thread, which waits inside `report` until the driver has decided: no trial runs past a decision.
What it calls is in `reporting`; Ray Tune's own functions find the session through `tune_session`. Ray is not imported
here: a function that reports to us alone starts without it.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import os
import queue
import shutil
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from raytune_hpo.errors import PACKAGE, TrialError
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.storage.full_disk import DiskError, full_disk
from raytune_hpo.workers import tune_session
from raytune_hpo.workers.metric_values import CONTROLS, plain_metrics
from raytune_hpo.workers.outcomes import Met, Outcome, Raised, Report, Returned, raised
from raytune_hpo.workers.surroundings import Place, Surroundings

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

#: Threads that a trial's code has started and that live on after it -> the trial.
_left: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()


def running() -> FunctionSession | None:
    """The session of the trial that calls this; None outside of one.

    A thread of a trial that should have ended, but has not, is never taken for the trial that runs now.
    """
    thread = threading.current_thread()
    if isinstance(thread, _TrialThread):
        return thread.session
    return None if thread in _left else _process.running


def check_thread() -> None:
    """Raise TrialError in a thread whose trial is over: nobody hears it, and it is not to be taken for another's."""
    over = _left.get(threading.current_thread())
    if over is not None:
        raise TrialError(f"report() was called in a thread of {over}, which is over: let it end with its trial")


def is_of(trial: str) -> bool:
    """Whether the thread that asks is the trial's own."""
    thread = threading.current_thread()
    return isinstance(thread, _TrialThread) and thread.session.trial_id == trial


class Stopped(BaseException):
    """Raised inside `report` to unwind a function whose trial is over."""


class FunctionSession:
    """One trial's run of a function, from start to stop.

    epoch: of the checkpoint. place: where it runs. scratch: makes an empty folder on the disk that checkpoints end up
    on. The function has a config of its own, which it may change.
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
        epoch: int = 0,
        place: Place | None = None,
    ) -> None:
        self.trial_id = trial_id
        self.place = place or Place(trial_id, 0, changes_directory=False)
        self._around = Surroundings(self.place)
        self._pid = os.getpid()
        self._reporting = threading.Lock()  # held by a thread that waits in a report
        self._batching = threading.RLock()  # never held for long
        self._over = False
        self._named: set[str] = set()  # metrics of which it was said that they are left out
        self._threads: set[threading.Thread] = set()  # that were there before it
        self.repeat, self.range_test = repeat, range_test
        self.checkpoint, self.epoch = checkpoint, epoch
        self._reported = 0
        self.save: Callable[[Path], None] | None = None
        self.met: Met | None = None  # what is to be told with the next report
        self.over: Callable[[dict[str, Any]], bool] | None = None
        self._scratch = scratch
        self._made: set[Path] = set()
        self._outcomes: queue.SimpleQueue[list[Outcome]] = queue.SimpleQueue()
        self._batch: list[Outcome] = []
        self._most, self._deadline = 1, 0.0
        self._go_on: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waits = False  # whether the function does, in a report
        self._stopping = self._returning = False
        self._prepare_thread = prepare_thread
        own = copy.deepcopy(config)
        self._thread = _TrialThread(target=self._run, args=(function, own), daemon=True, name=trial_id)
        self._thread.session = self
        self._started = False

    def next(self) -> Outcome:
        """Let the function run to its next report, or to its end."""
        return self.run(1, 0.0)[0]

    def run(self, reports: int, seconds: float, *, at_least: int | None = None) -> list[Outcome]:
        """Let the function run on: to its next report, or to so many if they come within `seconds` and before one that
        has a checkpoint, or to its end. What came, in order.

        at_least: 0 or 1: answer so many after `seconds`, while the function is at work on the next: what it has
        reported is not kept back by that. None: never while it is at work.
        """
        self._most, self._deadline = reports, time.perf_counter() + seconds
        with self._around.entered():
            if not self._outcomes.empty():  # it came when the last answer had been given
                return self._outcomes.get()
            if not self._started:
                self._begin()
            elif self._waits:
                self._waits = False
                self._go_on.put(None)
            if at_least is None:
                return self._outcomes.get()
            with contextlib.suppress(queue.Empty):
                return self._outcomes.get(timeout=max(seconds, 0.0))
            with self._batching:
                batch, self._batch = self._batch, []
            # From now on a report is handed over at once.
            if batch or (not at_least and self._outcomes.empty()):
                return batch
            return self._outcomes.get()

    def _begin(self) -> None:
        self._started = True
        forget_gpu_memory()
        self._threads = set(threading.enumerate())
        _process.running = self
        tune_session.offer(self)
        self._thread.start()

    def stop(self, timeout_s: float | None = None, *, returning: bool = False) -> bool:
        """End the function where it waits. False if it does not end within `timeout_s`, of STOP_TIMEOUT_S by default:
        then ask again.

        returning: the report that it waits in returns, and the next one ends it.
        """
        told, self._stopping = self._stopping, True
        if not told:
            self._returning = returning
        if self._started and self._thread.is_alive():
            with self._around.entered():
                if not told:
                    self._go_on.put(None)
                self._thread.join(STOP_TIMEOUT_S if timeout_s is None else timeout_s)
                self._around.over = not self._thread.is_alive()
        if self._thread.is_alive():
            return False
        self.withdraw()
        if self._started:
            self._clear_up()
        return True

    def withdraw(self) -> None:
        """Only the function's own thread finds the session from now on."""
        if _process.running is self:
            _process.running = None
            tune_session.withdraw()

    def abandon(self) -> None:
        """Let a `run` that waits in another thread return: the function, which cannot be ended, is not waited for."""
        self._stopping = True
        self._outcomes.put([Returned()])

    def fail(self, error: Exception) -> None:
        """The same, with an error that the function does not know of."""
        self._stopping = True
        self._outcomes.put([raised(error, self.place.run_path)])

    @property
    def at_work(self) -> bool:
        """Whether the function has been let go on and has not come to its next report: its state is of no epoch."""
        return self._started and not self._waits and self._thread.is_alive()

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

    @property
    def directory(self) -> Path:
        """Of the trial's own; of a task's trial the one that it works in."""
        return self._around.directory or Path.cwd()

    def _clear_up(self) -> None:
        self._started = False
        mine = (t for t in threading.enumerate() if t not in self._threads and not isinstance(t, _TrialThread))
        _left.update((thread, self.trial_id) for thread in mine)
        self._threads.clear()
        self._drop_scratch()
        self._around.end()

    def _drop_scratch(self) -> None:
        """What was written for checkpoints that were never reported."""
        made, self._made = self._made, set()
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)

    def scratch(self) -> Path:
        folder = self._scratch()
        self._made.add(folder)
        return folder

    # In the function's thread -----------------------------------------------------------------------

    def report(self, metrics: Mapping[str, Any], folder: Path | None = None) -> None:
        """Behind `reporting.report` and `tune.report`. folder: of a checkpoint's files."""
        if os.getpid() != self._pid:
            text = "report() was called in a process that the trial has forked: report from the trial's own process"
            raise TrialError(text)
        with self._reporting:  # of several threads one after the other
            self._check_goes_on()
            plain = self._plain(metrics)
            if self.place.resources.gpus:
                plain.update(gpu_memory())
            self._reported += 1
            done = _truth(metrics.get("done")) or (
                self.over is not None and self.over({**plain, "training_iteration": self.epoch + self._reported})
            )
            own, alone = self._copied(folder), folder is not None or done
            with self._batching:
                report = Report(plain, own, time.perf_counter(), done, self.met)
                self.met = None
                self._batch.append(report)
                if not alone and len(self._batch) < self._most and report.at < self._deadline:
                    return  # no hand-over, which costs more than the report does
                self._waits = True
                self._hand_over()
            self._go_on.get()
            if not done and not self._returning:  # what it does after its last word is done as well
                self._check_goes_on()

    def _check_goes_on(self) -> None:
        if self._stopping and threading.current_thread() is self._thread:
            raise Stopped
        if self._stopping or self._over:
            raise TrialError(f"report() was called in a thread of {self.trial_id}, which is over")

    def _plain(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Metrics as plain values. What is left out is said once a trial. Raises TrialError where the objective is."""
        if not isinstance(metrics, Mapping):
            raise TrialError(f"report() takes a dictionary of metrics, not {type(metrics).__name__}")
        kept, left_out = plain_metrics({k: v for k, v in metrics.items() if k not in CONTROLS})
        if self.place.objective in left_out:
            raise TrialError(f"metric {self.place.objective!r} {left_out[self.place.objective]}: it must be a number")
        new = {name: what for name, what in left_out.items() if name not in self._named}
        if new:
            self._named.update(new)
            said = ", ".join(f"{name!r} {what}" for name, what in list(new.items())[:10])
            warnings.warn(f"left out of what is reported, for it is no number: {said}", stacklevel=_users_frame())
        return kept

    def _copied(self, folder: Path | None) -> Path | None:
        """The checkpoint's folder, as ours: the function may delete or change its own."""
        if folder is None or folder in self._made:
            self._made.discard(folder or Path())
            return folder
        try:
            own = self.scratch()
            shutil.copytree(folder, own, dirs_exist_ok=True)
        except OSError as error:
            disk = full_disk(error, self.place.run_path)
            if disk is None:
                raise
            self._give_up(disk)
        self._made.discard(own)
        return own

    def _give_up(self, disk: DiskError) -> NoReturn:
        """Hand a full disk over at once: the function might take it for a failure of its own, and go on without."""
        self._drop_scratch()
        self._hand_over(raised(disk))
        self._go_on.get()
        raise Stopped

    def _run(self, function: FunctionTrainable, config: dict[str, Any]) -> None:
        try:
            self._prepare_thread()
            returned = function(config)
            if inspect.isgenerator(returned):
                for item in returned:
                    self._report_returned(item)
            else:
                self._report_returned(returned)
            self._end(Returned())
        except Stopped:
            pass
        except BaseException as error:  # a SystemExit of the user's code ends its trial, not the worker
            if isinstance(error, SystemExit) and (error.code is None or error.code == 0):
                self._end(Returned())
                return
            end = raised(error, self.place.run_path, self._around.hint(error))
            if end.disk is not None:
                self._drop_scratch()
            self._end(end)

    def _end(self, outcome: Outcome) -> None:
        self._over = True
        self._hand_over(outcome)

    def _hand_over(self, *end: Outcome) -> None:
        with self._batching:
            batch, self._batch = [*self._batch, *end], []
            self._outcomes.put(batch)

    def _report_returned(self, item: Any) -> None:
        if isinstance(item, Mapping):
            self.report(item)
        elif item is not None:
            raise TrialError(f"a trainable returns or yields nothing or a dictionary of metrics, not {item!r}")


def gpu_memory() -> dict[str, int]:
    """What torch has held of the GPU in this process, at its most since `forget_gpu_memory`, as a metric; nothing where
    it has not used one."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return {}
    return {"gpu_memory_bytes": max(cuda.max_memory_reserved(i) for i in range(cuda.device_count()))}


def forget_gpu_memory() -> None:
    """A trial begins."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        for i in range(cuda.device_count()):
            cuda.reset_peak_memory_stats(i)


def _truth(value: Any) -> bool:
    try:
        return bool(value)
    except Exception:  # an array of several, or whatever it is
        return False


def _users_frame() -> int:
    """The stacklevel, for the caller, of the user's line: the nearest that is neither ours nor Ray's."""
    rays = getattr(sys.modules.get("ray"), "__file__", None)
    others = PACKAGE if rays is None else (PACKAGE, os.path.dirname(rays) + os.sep)
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(others):
        frame, level = frame.f_back, level + 1
    return level
