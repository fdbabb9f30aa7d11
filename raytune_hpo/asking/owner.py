"""The owner of a run that is asked: its session, in a thread of the process that came first."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.asking.server import Server
from raytune_hpo.engine.interrupt import Interrupt
from raytune_hpo.engine.run import go_on, run
from raytune_hpo.engine.session import Hosting
from raytune_hpo.errors import ExperimentError, RaytuneHpoError
from raytune_hpo.experiment import Experiment
from raytune_hpo.journal.events import (
    Decided,
    Deferred,
    Ended,
    Executor,
    ExecutorChanged,
    Held,
    Perturbed,
    Retried,
    SessionOpened,
    Started,
    Step,
)
from raytune_hpo.states import Decision, RunStatus
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.workers.asked_pool import AskedPool
from raytune_hpo.workers.executors import Opened
from raytune_hpo.workers.reservations import reservations

LOOK_S = 0.2


class Owner:
    """experiment: of a run that is to begin; None for one that goes on. kept_s: for how long trials of the last session
    are kept for those who may have them still.

    Raises nothing: what the session raises is the answer to every request.
    """

    def __init__(self, path: Path, experiment: Experiment | None, source: Path | None, kept_s: float) -> None:
        self._path, self._experiment, self._source, self._kept_s = path, experiment, source, kept_s
        self._pool: AskedPool | None = None
        self._changed = threading.Condition()
        self._final: dict[str, Any] | None = None
        self.error: BaseException | None = None
        self.interrupt = Interrupt()
        self._thread = threading.Thread(target=self._run, name="the run's driver", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return self._final is not None

    def wait_until_it_has_the_run(self) -> None:
        """Raises what keeps it from that."""
        with self._changed:
            while self._pool is None and self._final is None:
                self._changed.wait(LOOK_S)
        if self.error is not None:
            raise self.error

    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        while True:
            with self._changed:
                while self._pool is None and self._final is None:
                    self._changed.wait(LOOK_S)
                pool = self._pool
                if pool is None:
                    return self._final or {}
            reply = pool.handle(request)
            if not reply.get("moved"):
                return reply
            with self._changed:  # to another session of this process, or to none
                while self._pool is pool and self._final is None:
                    self._changed.wait(LOOK_S)

    def undelivered(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        pool = self._pool
        if pool is not None:
            pool.undelivered(request, dict(reply))

    def close(self, timeout_s: float | None = None) -> None:
        """End the session: it is interrupted, unless it has finished."""
        self.interrupt.requested = True
        self._thread.join(timeout_s)

    def _run(self) -> None:
        final: dict[str, Any] = {"moved": True}
        try:
            hosting = Hosting(self._opened, self.interrupt)
            if self._experiment is not None:
                results = run(self._experiment, self._path, source=self._source, hosting=hosting)
            else:
                results = go_on(self._path, {}, "recorded", None, (), False, hosting=hosting)
            if results.status == RunStatus.FINISHED:
                final = {"trial": None, "finished": True}
            elif results.close_reason is not None and not self.interrupt.requested:  # it has ended by itself
                stopped = ExperimentError("run", str(self._path), f"has stopped: {results.close_reason}")
                self.error, final = stopped, {"error": str(stopped)}
        except RaytuneHpoError as error:
            self.error, final = error, {"error": str(error)}
        except BaseException as error:  # whoever asks is to hear of it
            self.error, final = error, {"error": f"the run has failed: {type(error).__name__}: {error}"}
        finally:
            with self._changed:
                self._final, self._pool = final, None
                self._changed.notify_all()

    @contextlib.contextmanager
    def _opened(self, store: CheckpointStore, steps: list[Step]) -> Iterator[Opened]:
        """What stands in for the executors of a session."""
        pool = AskedPool(self._path, store, reservations(running(steps), self._kept_s))
        server = Server(self._path, self)
        with self._changed:
            self._pool = pool
            self._changed.notify_all()
        try:
            yield Opened(Executor.ASKED, pool, None, False, list)
        except BaseException:
            pool.drop_answers()
            raise
        finally:
            pool.shutdown()
            with self._changed:
                self._pool = None
            time.sleep(0)  # who waits in the pool sees that it is closed
            server.close()


#: After these nobody has the trial any more.
_GIVEN_BACK = (Ended, Retried, Perturbed, Deferred, Held)


def running(steps: list[Step]) -> dict[str, tuple[str | None, int | None]]:
    """Trials that somebody trained as the last session ended, and that nobody has taken up since -> (worker, pid)."""
    found: dict[str, tuple[str | None, int | None]] = {}
    asked = False
    for step in steps:
        for event in step.events:
            if isinstance(event, SessionOpened | ExecutorChanged):
                asked = event.executor == Executor.ASKED
            elif isinstance(event, Started):
                found.pop(event.trial, None)
                if asked:
                    found[event.trial] = (event.worker, event.pid)
            elif isinstance(event, _GIVEN_BACK) or (isinstance(event, Decided) and event.decision != Decision.CONTINUE):
                found.pop(event.trial, None)
    return found
