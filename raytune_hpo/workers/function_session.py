"""Runs a Ray Tune function trainable, f(config) with tune.report and tune.get_checkpoint, one report at a time.

Ray finds the session of `tune.report` in a module global; `FunctionSession` puts itself there for as
long as a trial runs. This is the only module that touches that global (and no other internal of
Ray Train is used); tests/workers/test_function_session.py fails loudly when Ray moves it.

The function runs in a thread, which waits inside `report` until the driver has decided: no trial runs
past a decision.
"""

from __future__ import annotations

import inspect
import queue
import shutil
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune
from ray.train._internal import session as ray_session

from raytune_hpo.errors import TrialError
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.storage.full_disk import full_disk

STOP_TIMEOUT_S = 10.0


class _Stopped(BaseException):
    """Raised inside `report` to unwind a function whose trial is over."""


@dataclass(frozen=True)
class Report:
    """What a function reported: plain metrics, and the folder of its checkpoint if it saved one."""

    metrics: dict[str, Any]
    checkpoint: Path | None


@dataclass(frozen=True)
class Returned:
    """The function returned."""


@dataclass(frozen=True)
class Raised:
    """The function raised. summary: one line; text: the traceback, ours left out; disk: what says that one is full."""

    summary: str
    text: str
    out_of_memory: bool
    disk: OSError | None = None


Outcome = Report | Returned | Raised


class FunctionSession:
    """One trial's run of a function, from start to stop.

    scratch: makes an empty folder on the disk that checkpoints end up on.
    """

    # What Ray's public functions look for on a session.
    world_rank = None
    trial_resources = None
    experiment_name = "raytune_hpo"

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
        self.trial_id = self.trial_name = trial_id
        self.repeat, self.range_test = repeat, range_test
        self.trial_dir = str(Path.cwd())
        self.loaded_checkpoint = tune.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None
        self.save: Callable[[Path], None] | None = None
        self._scratch = scratch
        self._made: set[Path] = set()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._go_on = threading.Semaphore(0)
        self._stopping = False
        self._prepare_thread = prepare_thread
        self._thread = threading.Thread(target=self._run, args=(function, config), daemon=True, name=trial_id)
        self._started = False

    def next(self) -> Outcome:
        """Let the function run to its next report, or to its end."""
        if self._started:
            self._go_on.release()
        else:
            self._started = True
            ray_session._session = self
            self._thread.start()
        return self._outcomes.get()

    def stop(self) -> bool:
        """End the function where it waits. False if it does not end within STOP_TIMEOUT_S."""
        self._stopping = True
        self._go_on.release()
        if self._started:
            self._thread.join(STOP_TIMEOUT_S)
        if ray_session._session is self:
            ray_session._session = None
        return not self._thread.is_alive()

    def scratch(self) -> Path:
        folder = self._scratch()
        self._made.add(folder)
        return folder

    # In the function's thread -----------------------------------------------------------------------

    def report(self, metrics: Mapping[str, Any], checkpoint: Any = None, **_: Any) -> None:
        """Behind `tune.report`."""
        if self._stopping:
            raise _Stopped
        folder: Path | None = None
        if checkpoint is not None:
            folder = Path(checkpoint.path)
            if folder not in self._made:  # the function's own folder, which it may delete or change
                copy = self.scratch()
                shutil.copytree(folder, copy, dirs_exist_ok=True)
                folder = copy
        self._outcomes.put(Report(plain_metrics(metrics), folder))
        self._go_on.acquire()
        if self._stopping:
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
            self._outcomes.put(Returned())
        except _Stopped:
            pass
        except BaseException as error:  # a SystemExit of the user's code ends its trial, not the worker
            self._outcomes.put(raised(error))

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
    return Raised(summary[:500], text, memory, full_disk(error))


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


def on_save(save: Callable[[Path], None]) -> None:
    """Offer to save the running trial's state at any report: save(folder) writes files into it.

    Used where a trial is paused or interrupted at an epoch that is not its time to be checkpointed.
    Without effect under plain Ray Tune.
    """
    session = ray_session.get_session()
    if isinstance(session, FunctionSession):
        session.save = save


def checkpoint_folder() -> Path | None:
    """A folder on the run's own disk to write a checkpoint into, so that it is moved, not copied.

    None under plain Ray Tune.
    """
    session = ray_session.get_session()
    return session.scratch() if isinstance(session, FunctionSession) else None


def repeat_number() -> int | None:
    """Which repetition of its config the running trial is; None if it is none, and under plain Ray Tune."""
    session = ray_session.get_session()
    return session.repeat if isinstance(session, FunctionSession) else None


def wants_range_test() -> bool:
    """Whether the running trial is to do a learning-rate range test, reporting `low` and `high`, and not to train."""
    session = ray_session.get_session()
    return isinstance(session, FunctionSession) and session.range_test
