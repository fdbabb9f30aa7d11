"""The pool: as many workers as fit into the cluster, their calls and what comes of them.

A trial is only given to a worker that has answered already, so that no trial hangs on a process that
never starts. Workers that die are replaced; nodes that join are used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Event
from raytune_hpo.settings import Resources
from raytune_hpo.storage.full_disk import DiskError, full_disk
from raytune_hpo.workers.transport import Actor, ActorLostError, Call, CallFailedError, Transport
from raytune_hpo.workers.worker import Assignment, EpochReport, Outcome, Saved, WorkerInfo

CAPACITY_CHECK_S = 5.0
DEATHS_AT_START = 3  # workers in a row that die before their first answer: they all will
SAVE_TIMEOUT_S = 120.0


@dataclass(eq=False)
class Slot:
    """One worker. info is None until it has answered; trial is what it runs, None while idle."""

    actor: Any  # an Actor
    info: WorkerInfo | None = None
    trial: str | None = None


@dataclass(frozen=True)
class Lost:
    """The worker died in mid-call. blame: the trial's part in it, from 0 to 1, where the worker had others too."""

    error: str
    blame: float = 1.0


class Workers(Protocol):
    """What the driver gives trials to. What it asks for (start, step, release) is done by the next `wait`.

    ending: the run is about to end, and what still trains is to be saved.
    """

    ending: bool

    def ensure(self) -> None: ...

    @property
    def busy(self) -> Sequence[Any]: ...

    def idle(self) -> Sequence[Any]: ...

    def admits(self, slot: Any, losses: float) -> bool:
        """Whether a trial that has lost so many workers may be started in the slot now."""

    def start(self, slot: Any, assignment: Assignment) -> None: ...

    def step(self, slot: Any, until: int) -> None: ...

    def save(self, slot: Any) -> Saved | None: ...

    def release(self, slot: Any, *, reusable: bool = True) -> None: ...

    def wait(self, timeout_s: float) -> Sequence[tuple[Any, Outcome | Lost]]:
        """Raises OSError where a worker finds its disk full."""

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function answers, called in one of the workers, or in a process of its own where there is none.

        Raises CallFailedError where it raises, ActorLostError where its process dies.
        """

    def take_surplus(self) -> list[EpochReport]:
        """Reports that came for trials which had left their worker."""

    def take_news(self) -> list[Event]:
        """What the journal is to hold of the workers: how those that have come spent their start, where trials go."""

    def shutdown(self) -> None: ...


class Staffing:
    """How many actors there should be: as many as have room, or the limit if that is less."""

    def __init__(self, capacity: Callable[[], int], limit: int | None) -> None:
        self._capacity = capacity
        self._limit = math.inf if limit is None else limit
        self._wanted = 0
        self._deaths: list[str] = []
        self._next_check = 0.0

    def wanted(self) -> int:
        """Looked up every CAPACITY_CHECK_S. Raises ExperimentError if actors keep dying before they answer."""
        if len(self._deaths) >= DEATHS_AT_START:
            raise ExperimentError("worker", self._deaths[-1], "is why no worker process can start")
        now = time.monotonic()
        if now >= self._next_check:
            self._wanted = int(min(self._limit, self._capacity()))
            self._next_check = now + CAPACITY_CHECK_S
        return self._wanted

    def answered(self) -> None:
        self._deaths.clear()

    def lost(self, why: str | None = None) -> None:
        """An actor is gone; why, if it never answered."""
        self._next_check = 0.0
        if why is not None:
            self._deaths.append(why)


class Pool:
    """Processes for trials of one size.

    make_actor: the next worker, in whatever process the transport has for it. limit: at most so many.
    """

    def __init__(
        self, transport: Transport, make_actor: Callable[[], Actor], resources: Resources, limit: int | None
    ) -> None:
        self._transport = transport
        self._make_actor = make_actor
        self._slots: list[Slot] = []
        self._calls: dict[Call, Slot] = {}
        self._asked: list[tuple[Slot, Assignment | int]] = []
        self._news: list[Event] = []
        self.ending = False
        self._staffing = Staffing(lambda: transport.capacity(resources), limit)

    def ensure(self) -> None:
        """Start workers up to what the cluster holds now. Raises ExperimentError if they keep dying."""
        while len(self._slots) < self._staffing.wanted():
            slot = Slot(self._make_actor())
            self._slots.append(slot)
            self._calls[slot.actor.call("info")] = slot

    @property
    def busy(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.trial is not None]

    def idle(self) -> list[Slot]:
        """Workers that have answered and run nothing."""
        return [slot for slot in self._slots if slot.info is not None and slot.trial is None]

    def admits(self, slot: Slot, losses: float) -> bool:
        return True  # it endangers no other

    def start(self, slot: Slot, assignment: Assignment) -> None:
        slot.trial = assignment.trial
        self._asked.append((slot, assignment))

    def step(self, slot: Slot, until: int) -> None:
        self._asked.append((slot, until))

    def save(self, slot: Slot) -> Saved | None:
        """Save the waiting trial's state now. None where its trainable cannot, or it fails."""
        try:
            saved: Saved | None = slot.actor.call("save").answer(SAVE_TIMEOUT_S)
        except (CallFailedError, ActorLostError):
            return None
        return saved

    def release(self, slot: Slot, *, reusable: bool = True) -> None:
        """The slot's trial is over or leaves; its function is ended before the worker's next one."""
        slot.trial = None
        if not reusable:
            self._drop(slot)

    def wait(self, timeout_s: float) -> list[tuple[Slot, Outcome | Lost]]:
        """Send what was asked for; what has come of calls so far; waits up to `timeout_s` for the first."""
        for slot, asked in self._asked:
            self._calls[slot.actor.call("step" if isinstance(asked, int) else "start", asked)] = slot
        self._asked.clear()
        out: list[tuple[Slot, Outcome | Lost]] = []
        for call in self._transport.answered(list(self._calls), timeout_s):
            slot = self._calls.pop(call)
            answer = self._answer(slot, call)
            if isinstance(answer, WorkerInfo):
                slot.info = answer
                self._news += answer.news
                self._staffing.answered()
            elif slot.trial is not None:
                out.append((slot, answer))
        return out

    def _answer(self, slot: Slot, call: Call) -> WorkerInfo | Outcome | Lost:
        try:
            return call.answer()  # type: ignore[no-any-return]
        except CallFailedError as error:  # the worker's own code failed: this trial's fault, not the worker's
            raise_full_disk(error, slot.info)
            return Outcome("raised", error=str(error), traceback=error.text, reusable=False)
        except ActorLostError as error:
            self._drop(slot, str(error) if error.died and slot.info is None else None)
            if error.died:
                return Lost("the worker process died (killed, out of memory, or its machine was lost)")
            return Lost(f"the worker was lost: {error}")

    def _drop(self, slot: Slot, why: str | None = None) -> None:
        if slot in self._slots:
            self._slots.remove(slot)
        self._staffing.lost(why)
        slot.actor.kill()

    def take_surplus(self) -> list[EpochReport]:
        return []

    def take_news(self) -> list[Event]:
        news, self._news = self._news, []
        return news

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return called_once(self._transport, [s.actor for s in self._slots if s.info is not None], function, *arguments)

    def shutdown(self) -> None:
        for slot in list(self._slots):
            self._slots.remove(slot)
            slot.actor.kill()
        self._calls.clear()


def called_once(transport: Transport, actors: Sequence[Actor], function: Callable[..., Any], *arguments: Any) -> Any:
    """See `Workers.once`."""
    do = actors[0].do if actors else transport.once
    return do(function, *arguments).answer()


def raise_full_disk(error: CallFailedError, info: WorkerInfo | None) -> None:
    """Raise what an actor said of a full disk, with the machine's name: the driver stops the run for it."""
    disk = full_disk(error.error)
    if disk is not None:
        machine = "a worker" if info is None else info.host
        raise DiskError(disk.errno, disk.strerror, f"{disk.filename or 'a disk'} of {machine}") from None
