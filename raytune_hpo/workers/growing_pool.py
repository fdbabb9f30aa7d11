"""A pool that begins in the driver's process and goes over to workers when the run turns out longer than their start.

How long a run takes is only known when it is over: searches find configs that train longer, schedulers stop fewer
trials than one expects. So nothing is staked on the estimate that a run began by. When it has lasted as long as workers
take to start, and what is left looks longer than that, they are started meanwhile; trials that begin afterwards begin
there. Whatever the estimate was, the run takes little more than the better of both ways (the ski-rental problem).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Event, ExecutorChanged, Noticed
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, Saved
from raytune_hpo.workers.pool import Lost, OwnWorkers, Workers

#: So many times their start is what must be left for workers: it slows down what trains meanwhile.
WORTH = 1.5
#: Of a pool's wait, while there are two of them.
TURN_S = 0.02


@dataclass(frozen=True)
class Growth:
    """start_s: that workers take to start. places: for trials, with them. longest_s: after which they are worth their
    start by surviving a crash alone. trials: of the run. place: a context in which workers can be made, entered and
    left in a thread of its own. make: their pool, and the event that says so."""

    start_s: float
    places: int
    longest_s: float
    trials: int
    place: Callable[[], AbstractContextManager[None]]
    make: Callable[[], tuple[Workers, ExecutorChanged]]

    def due(self, elapsed_s: float, begun: int, running: int) -> bool:
        """Whether to start workers now. begun: trials so far, `running` ones included."""
        left = self.trials - begun
        if elapsed_s < self.start_s or left <= 0:
            return False
        if elapsed_s >= self.longest_s:
            return True
        rest_s = left * elapsed_s / max(1.0, begun - running / 2)
        return self.places > 1 and rest_s > WORTH * self.start_s


class GrowingPool(OwnWorkers):
    """See the module; to the driver, a pool. here: in the driver's process."""

    def __init__(self, here: Workers, growth: Growth, clock: Callable[[], float] = time.monotonic) -> None:
        self._here, self._growth, self._clock = here, growth, clock
        self._began = clock()
        self._there: Workers | None = None
        self._begun: set[str] = set()
        self._news: list[Event] = []
        self._offering = here  # whose places were offered last
        self._owner: dict[int, Workers] = {}
        self._up, self._over = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def ending(self) -> bool:
        return self._here.ending

    @ending.setter
    def ending(self, value: bool) -> None:
        for pool in self._pools:
            pool.ending = value

    @property
    def _pools(self) -> list[Workers]:
        return [self._here] if self._there is None else [self._here, self._there]

    # Growth ---------------------------------------------------------------------------------------------

    def ensure(self) -> None:
        if self._thread is None:
            self._here.ensure()
            elapsed_s = self._clock() - self._began
            if not self.ending and self._growth.due(elapsed_s, len(self._begun), len(self._here.busy)):
                # Alive until the end: processes of Ray's end with the thread that has started them.
                self._thread = threading.Thread(target=self._hold, daemon=True, name="workers")
                self._thread.start()
        elif self._up.is_set() and self._there is None and self._failure is None:
            try:
                self._there, event = self._growth.make()
                self._news.append(event)
            except ExperimentError as error:
                self._failed(error)
        if self._there is not None and (len(self._begun) < self._growth.trials or not self._there.busy):
            self._there.ensure()  # no more of them than trials are left to begin

    def _hold(self) -> None:
        try:
            with self._growth.place():
                self._up.set()
                self._over.wait()
        except ExperimentError as error:
            self._failed(error)

    def _failed(self, error: ExperimentError) -> None:
        self._failure = error
        self._news.append(Noticed(f"workers cannot be started, trials go on in this process: {error}"))

    # As a pool ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> Sequence[Any]:
        return [slot for pool in self._pools for slot in pool.busy]

    def idle(self) -> Sequence[Any]:
        """Workers' places once there are any."""
        if self._there is not None and (self._there.idle() or self._there.busy):
            self._offering = self._there
        return self._offering.idle()

    def admits(self, slot: Any, losses: float) -> bool:
        return self._offering.admits(slot, losses)

    def start(self, slot: Any, assignment: Assignment) -> None:
        self._owner[id(slot)] = self._offering
        self._begun.add(assignment.trial)
        self._offering.start(slot, assignment)

    def step(self, slot: Any, until: int) -> None:
        self._owner[id(slot)].step(slot, until)

    def save(self, slot: Any) -> Saved | None:
        return self._owner[id(slot)].save(slot)

    def release(self, slot: Any, *, reusable: bool = True, completed: bool = False) -> None:
        self._owner[id(slot)].release(slot, reusable=reusable, completed=completed)

    def end(self, slot: Any, silent_s: float) -> Sequence[tuple[Any, float]]:
        return self._owner[id(slot)].end(slot, silent_s)

    def expect(self, trials: int, at_once: int) -> None:
        self._growth = replace(self._growth, trials=trials)
        for pool in self._pools:
            pool.expect(trials, at_once)

    @property
    def leaving(self) -> Sequence[str]:
        return [trial for pool in self._pools for trial in pool.leaving]

    def wait(self, timeout_s: float) -> Sequence[tuple[Any, Outcome | Lost]]:
        if self._there is None or not (self._here.busy or self._here.leaving):
            return (self._there or self._here).wait(timeout_s)
        turn_s = min(timeout_s, TURN_S)
        return [*self._here.wait(turn_s), *self._there.wait(turn_s)]

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._here.once(function, *arguments)

    def take_surplus(self) -> list[EpochReport]:
        return [report for pool in self._pools for report in pool.take_surplus()]

    def take_news(self) -> list[Event]:
        news, self._news = self._news, []
        return [*news, *(event for pool in self._pools for event in pool.take_news())]

    def shutdown(self) -> None:
        for pool in self._pools:
            pool.shutdown()
        self._over.set()
        if self._thread is not None:
            self._thread.join()
