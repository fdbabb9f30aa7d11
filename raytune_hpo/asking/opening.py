"""open_run: a run as a process sees it that trains its trials itself."""

from __future__ import annotations

import contextlib
import operator
import os
import socket
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from raytune_hpo import checks
from raytune_hpo.asking import server
from raytune_hpo.asking.owner import Owner
from raytune_hpo.errors import ExperimentError, RefusedError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.asked import check_can_be_asked
from raytune_hpo.experiment.file import load_experiment
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.seeding import trial_seed
from raytune_hpo.space.configs import plain
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.workers.asked_requests import LONGEST_LEASE_S

Decision = Literal["continue", "stop"]
LOOK_S = 0.1
#: How long an owner is looked for where none answers and none can be had.
PATIENCE_S = 60.0
BEGINNING_S = 10.0
#: What is in a run directory that another process is about to make.
BEGUN = {"lock", "source", "checkpoints", "errors", "logs"}


@dataclass(frozen=True)
class AskedTrial:
    """id: as in the run's tables. config: what to train. epoch: where it goes on, 0 from the beginning; checkpoint: the
    folder that was given with the report of that epoch, to be read alone. seed: the trial's own, the same each time
    that it is begun."""

    id: str
    config: dict[str, Any]
    epoch: int = 0
    checkpoint: Path | None = None
    seed: int = field(default=0, compare=False)


class OpenRun:
    """A run, from one process of several. Its methods may be called from several threads, for different trials.

    Raises ExperimentError for what the run cannot do.
    """

    def __init__(
        self, run_dir: Path, experiment: Experiment | None, source: Path | None, lease_s: float, token: str | None
    ) -> None:
        self.run_dir = run_dir
        self._experiment, self._source = experiment, source
        self._lease_s = lease_s
        self._is_of_process = token is None  # whose end is noticed; of a shell the lease counts alone
        self._token = _new_token() if token is None else token
        self._owner: Owner | None = None
        self._finding = threading.Lock()
        self._troubled: float | None = None  # since when the run could not be had
        self._closed = threading.Event()
        self._count = 0
        self._seed: int | None = None
        self._beating: threading.Thread | None = None
        _OPEN.add(self)

    def forked(self) -> None:
        """In a process that was forked from the one that has opened the run: it is another asker."""
        self._owner = self._beating = None
        self._finding, self._troubled = threading.Lock(), None
        if self._is_of_process:
            self._token = _new_token()

    # What is asked ------------------------------------------------------------------------------------

    def ask(self, timeout_s: float | None = None) -> AskedTrial | None:
        """A trial to train; None where the run is over. It waits while the searcher or the scheduler does.

        timeout_s: raises TimeoutError after so long.
        """
        self._beat()
        reply = self._request({"do": "ask"}, timeout_s)
        if reply.get("waiting"):
            raise TimeoutError(f"no trial within {timeout_s or 0.0:g} s: others are to be reported on first")
        if reply.get("trial") is None:
            return None
        checkpoint = reply["checkpoint"]
        seed = trial_seed(self._own_seed(), reply["trial"], reply["repeat"])
        place = None if checkpoint is None else Path(checkpoint)
        return AskedTrial(reply["trial"], reply["config"], reply["epoch"], place, seed)

    def report(
        self,
        trial: AskedTrial | str,
        epoch: int,
        metrics: Mapping[str, float],
        checkpoint: str | Path | None = None,
    ) -> Decision:
        """Tell what an epoch has shown. "continue", or "stop": then the trial is over here, whether it has completed,
        was stopped or is paused, and there is nothing to tell.

        epoch: from 1, one by one. checkpoint: a folder to go on from, which is copied; a trial without goes on from the
        beginning where it is begun again.
        """
        place = None if checkpoint is None else str(Path(checkpoint).absolute())
        request = {"do": "report", "epoch": _whole(epoch), "metrics": _numbers(metrics), "checkpoint": place}
        reply = self._request({**request, "trial": _name(trial)})
        return "continue" if reply.get("decision") == "continue" else "stop"  # (also where the run is over)

    def tell(
        self, trial: AskedTrial | str, metrics: Mapping[str, float] | None = None, *, error: str | None = None
    ) -> None:
        """The trial is over: with a last report, or without one; or it has failed, with `error`."""
        if metrics is not None and error is not None:
            raise ExperimentError("tell", error, "is an error or metrics, not both")
        told = None if metrics is None else _numbers(metrics)
        reply = self._request({"do": "tell", "trial": _name(trial), "metrics": told, "error": error})
        if reply.get("finished"):
            raise ExperimentError("trial", _name(trial), "is over, and so is the run: nothing more can be told of it")

    def results(self) -> Results:
        """The run as it is now."""
        return load_results(self.run_dir)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to train."""
        return bool(self._request({"do": "beat"}).get("finished"))

    @property
    def owns(self) -> bool:
        """Whether this process has the run's journal."""
        return self._owner is not None and not self._owner.over

    # The owner ----------------------------------------------------------------------------------------

    def _request(self, request: dict[str, Any], timeout_s: float | None = None) -> dict[str, Any]:
        """timeout_s: of an ask; None waits for ever."""
        self._count += 1
        lease = {"lease_s": self._lease_s, "token": self._token, "pid": self._pid}
        full = {**request, **lease, "id": f"{self._token}-{self._count}-{os.urandom(4).hex()}"}
        began = time.monotonic()
        patience = PATIENCE_S if timeout_s is None else min(PATIENCE_S, timeout_s)
        answered = began  # when somebody was there last
        while True:
            if self._closed.is_set():
                raise ExperimentError("run", str(self.run_dir), "is closed here")
            if request["do"] == "ask":
                full["timeout_s"] = None if timeout_s is None else max(0.0, began + timeout_s - time.monotonic())
            reply = self._sent(full)
            if not reply.get("moved"):
                break
            now = time.monotonic()
            answered = now if reply.get("there") else answered
            if timeout_s is not None and now > began + timeout_s and reply.get("there"):
                return {"waiting": True}
            if now > answered + patience:
                raise ExperimentError("run", str(self.run_dir), f"nobody has answered for {patience:g} s")
            self.find()
            full["again"] = True
        if "error" in reply:
            raise RefusedError(str(reply["error"]))
        return reply

    @property
    def _pid(self) -> int | None:
        return os.getpid() if self._is_of_process else None

    def _sent(self, request: Mapping[str, Any]) -> dict[str, Any]:
        owner = self._owner
        if owner is not None:
            return owner.handle(request)
        try:
            return server.send(self.run_dir, request)
        except (OSError, ValueError) as error:
            return {"moved": True, "there": isinstance(error, ConnectionResetError)}

    def connect(self) -> None:
        """Own the run, or reach the process that does."""
        self._request({"do": "beat"})

    def find(self) -> None:
        """See to it that somebody owns the run: this process, where nobody else does."""
        with self._finding:
            owner = self._owner
            if owner is not None and not owner.over:
                return
            self._owner = None
            if self._experiment is not None and not _is_run(self.run_dir):
                self._clear_begun()
                self._try(Owner(self.run_dir, self._experiment, self._source, self._lease_s))
                return
            if RunDirectory.open(self.run_dir).in_use():
                self._troubled = None
                time.sleep(LOOK_S)
                return
            self._try(Owner(self.run_dir, None, None, self._lease_s))

    def _try(self, owner: Owner) -> None:
        try:
            owner.wait_until_it_has_the_run()
        except ExperimentError as error:
            # Another one may have been faster, and have died since: for a while that is no fault of the directory's.
            now = time.monotonic()
            self._troubled = now if self._troubled is None else self._troubled
            if error.field != "run directory" or now > self._troubled + BEGINNING_S:
                raise
            time.sleep(LOOK_S)
            return
        self._owner, self._troubled = owner, None

    def _clear_begun(self) -> None:
        """Remove what a process has left that was killed as it made the run."""
        begun = RunDirectory(self.run_dir)
        if self.run_dir.is_dir() and any(self.run_dir.iterdir()) and not begun.in_use():
            with contextlib.suppress(ExperimentError, OSError):
                begun.clear_begun()

    def _own_seed(self) -> int:
        if self._seed is None:
            self._seed = int(RunDirectory.open(self.run_dir).description()["experiment"]["seed"])
        return self._seed

    def _beat(self) -> None:
        if self._beating is None and self._pid is not None:
            self._beating = threading.Thread(target=self._beats, daemon=True)
            self._beating.start()

    def _beats(self) -> None:
        request = {"do": "beat", "token": self._token, "lease_s": self._lease_s}
        while not self._closed.wait(self._lease_s / 4):
            with contextlib.suppress(Exception):
                if self._sent(request).get("moved"):
                    self.find()

    def close(self) -> None:
        """Whoever still trains goes on: the next of them owns the run."""
        self._closed.set()
        with self._finding:
            if self._owner is not None:
                self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def open_run(
    experiment: Experiment | str | Path | None, run_dir: str | Path, *, lease_s: float = 60.0, token: str | None = None
) -> OpenRun:
    """A run whose trials the caller trains: `ask` for one, `report` what it shows, or `tell`.

    Any number of processes of this machine may open it. The first owns its journal, and the others reach that one
    through a socket in the run directory; where the owner dies, another takes over, and nothing that was answered is
    lost.

    experiment: its file, or an Experiment, whose `task` may be None; None for a run that there is. lease_s: a trial
    whose process is gone, or was not heard of for so long, comes back to the run (a thread says that this one lives).
    token: what the caller is known by; for shells, whose processes do not last.
    Raises ExperimentError, before anything is made, for an experiment that cannot be asked, and for a run directory on
    a network file system.
    """
    checks.number("lease_s", lease_s, 0, LONGEST_LEASE_S, open_low=True)
    path, source = Path(run_dir).absolute(), None
    server.check_is_local(path if path.exists() else path.parent)
    if experiment is not None and not isinstance(experiment, Experiment):
        source = Path(experiment)
        experiment = load_experiment(source)
    if experiment is None:
        RunDirectory.open(path)
    else:
        check_can_be_asked(experiment.resolved)
        if path.is_dir() and not _is_run(path) and {p.name for p in path.iterdir()} - BEGUN:
            RunDirectory.check_new(path)
    opened = OpenRun(path, experiment, source, float(lease_s), token)
    opened.connect()
    return opened


def _new_token() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"


_OPEN: weakref.WeakSet[OpenRun] = weakref.WeakSet()


def _forked() -> None:
    for opened in list(_OPEN):
        opened.forked()


os.register_at_fork(after_in_child=_forked)


def _is_run(path: Path) -> bool:
    return (path / "experiment.json").is_file()


def _name(trial: AskedTrial | str) -> str:
    return trial.id if isinstance(trial, AskedTrial) else str(trial)


def _whole(epoch: Any) -> int:
    try:
        return operator.index(epoch)
    except TypeError:
        raise ExperimentError("epoch", epoch, "must be a whole number, from 1") from None


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise ExperimentError("metrics", metrics, "must be a dictionary, name: number")
    try:
        numbers = {str(name): value.item() if hasattr(value, "item") else value for name, value in metrics.items()}
    except (ValueError, RuntimeError) as error:  # of an array of several
        raise ExperimentError("metrics", metrics, f"must be numbers: {error}") from error
    found: dict[str, Any] = plain("metrics", numbers)
    return found
