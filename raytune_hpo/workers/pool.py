"""The pool: as many workers as fit into the cluster, their calls and what comes of them.

A trial is only given to a worker that has answered already, so that no trial hangs on a process that
never starts. Workers that die are replaced; nodes that join are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from raytune_hpo.journal.events import Event, Noticed
from raytune_hpo.settings import Resources
from raytune_hpo.storage.full_disk import DiskError, full_disk
from raytune_hpo.workers import deaths, function_session
from raytune_hpo.workers.first_call import FirstCheck
from raytune_hpo.workers.messages import Assignment, Checked, EpochReport, Left, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.staffing import Staffing
from raytune_hpo.workers.transport import Actor, ActorLostError, Call, CallFailedError, Transport

SAVE_TIMEOUT_S = 120.0
#: A worker that does not even answer for so long after the end of a trial's grace is given up with it.
UNHEARD_S = 5.0


@dataclass
class Leaving:
    """A trial that is over, or leaves, whose function may not have ended yet.

    completed: the function runs on to its end; it is unwound otherwise. told: when its worker was told, on the
    monotonic clock; None before that.
    """

    trial: str
    completed: bool
    told: float | None = None

    @property
    def grace_s(self) -> float:
        return function_session.FINISH_TIMEOUT_S if self.completed else function_session.STOP_TIMEOUT_S


@dataclass(frozen=True)
class Refusal:
    """Why a slot does not get the trial that it wants. over: the trial is over there, and that is no fault."""

    why: str
    over: bool


@dataclass(eq=False)
class Slot:
    """One worker. info is None until it has answered; trial is what it runs, None while idle; leaving: what it ran
    before, as long as that may not have ended."""

    actor: Any  # an Actor
    info: WorkerInfo | None = None
    trial: str | None = None
    leaving: Leaving | None = None
    wants: str | None = None  # (these two of `asked_pool` alone)
    refused: Refusal | None = None


@dataclass(frozen=True)
class Lost:
    """The worker died in mid-call. blame: the trial's part in it, from 0 to 1, where the worker had others too."""

    error: str
    blame: float = 1.0


class Workers(Protocol):
    """What the driver gives trials to. What it asks for (start, step, release) is done by the next `wait`.

    ending: the run is about to end, and what still trains is to be saved. Slots have `wants`: the one trial that it is
    for, which goes on there as it stands, None for any; and `refused`: why it does not.
    """

    ending: bool
    #: Whether nobody is late who does not come: nobody was sent for.
    patient: bool

    @property
    def reserved(self) -> frozenset[str]:
        """Trials that somebody may have still: none but a slot that `wants` one may bring it back."""

    def ensure(self) -> None: ...

    @property
    def busy(self) -> Sequence[Any]: ...

    def idle(self) -> Sequence[Any]: ...

    def admits(self, slot: Any, losses: float) -> bool:
        """Whether a trial that has lost so many workers may be started in the slot now."""

    def start(self, slot: Any, assignment: Assignment) -> None: ...

    def step(self, slot: Any, until: int) -> None: ...

    def save(self, slot: Any) -> Saved | None: ...

    def release(self, slot: Any, *, reusable: bool = True, completed: bool = False) -> None:
        """The slot's trial is over or leaves. completed: its code runs on from its last report to its end, and is
        unwound where it waits otherwise. reusable: whether the slot may have another trial."""

    def end(self, slot: Any, silent_s: float) -> Sequence[tuple[Any, float]]:
        """End the slot's trial, wherever its code is. silent_s: for how long it has not reported. Answers what has lost
        its place by that, with its part in it, from 0 to 1."""

    def expect(self, trials: int, at_once: int) -> None:
        """The run is to have so many trials now, and so many at a time where that is not limited by its room."""

    @property
    def leaving(self) -> Sequence[str]:
        """Trials that were released and whose code has not ended yet: `wait` gives up those that take too long."""

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


class OwnWorkers:
    """What is the same of all that we start ourselves."""

    patient = False
    reserved: frozenset[str] = frozenset()


class Pool(OwnWorkers):
    """Processes for trials of one size.

    make_actor: the next worker, in whatever process the transport has for it. limit: at most so many. fresh: each
    trial has a worker that had none before it. first: configs that the first worker tries the task with, before any
    trial is begun.
    """

    def __init__(
        self,
        transport: Transport,
        make_actor: Callable[[], Actor],
        resources: Resources,
        limit: int | None,
        *,
        fresh: bool = False,
        first: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._transport = transport
        self._make_actor = make_actor
        self._fresh = fresh
        self._slots: list[Slot] = []
        self._calls: dict[Call, Slot] = {}
        self._asked: list[tuple[Slot, Assignment | int]] = []
        self._news: list[Event] = []
        self.ending = False
        self._staffing = Staffing(lambda: transport.capacity(resources), limit)
        self._watch = deaths.Watch()
        self._check = FirstCheck(first)

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
        """Workers that have answered and run nothing. Those that have just been told of a trial's end answer soon."""
        if self._check.awaited:
            return []
        return [
            slot
            for slot in self._slots
            if slot.info is not None
            and slot is not self._check.at
            and slot.trial is None
            and (slot.leaving is None or (slot.leaving.told is None and not self._fresh))
        ]

    def admits(self, slot: Slot, losses: float) -> bool:
        return True  # it endangers no other

    def start(self, slot: Slot, assignment: Assignment) -> None:
        slot.trial = assignment.trial
        self._check.too_late = True
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

    def release(self, slot: Slot, *, reusable: bool = True, completed: bool = False) -> None:
        """The worker is told with the next trial that it gets, or at once if it gets none."""
        if slot.trial is not None:
            slot.leaving = Leaving(slot.trial, completed)
        if not reusable:
            if slot in self._calls.values() and not self._transport.kills:
                self._news.append(Noticed(f"{slot.trial}: its code cannot be ended, and goes on in this process"))
            self._drop(slot)
        slot.trial = None

    def end(self, slot: Slot, silent_s: float) -> list[tuple[Slot, float]]:
        self._drop(slot)
        slot.leaving = None
        return [(slot, 1.0)]

    def expect(self, trials: int, at_once: int) -> None:
        """As many as have room, whatever comes."""

    @property
    def leaving(self) -> list[str]:
        return [slot.leaving.trial for slot in self._slots if slot.leaving is not None]

    def wait(self, timeout_s: float) -> list[tuple[Slot, Outcome | Lost]]:
        """Send what was asked for; what has come of calls so far; waits up to `timeout_s` for the first. Raises
        TaskError where the first check finds that no trial can be trained."""
        self._send()
        out: list[tuple[Slot, Outcome | Lost]] = []
        for call in self._transport.answered(list(self._calls), timeout_s):
            slot = self._calls.pop(call, None)
            if slot is None:
                continue  # it was dropped meanwhile
            answer = self._answer(slot, call)
            if isinstance(answer, WorkerInfo):
                slot.info = answer
                self._news += answer.news
                self._staffing.answered()
                check = self._check.begun(slot, slot.actor)
                if check is not None:
                    self._calls[check] = slot
            elif isinstance(answer, Checked):
                self._news += self._check.ended(answer)
            elif answer is None or isinstance(answer, Left):
                self._has_left(slot, answer)
            else:
                if isinstance(answer, Outcome):
                    answer = self._of_trial(slot, answer)
                if slot.trial is not None:
                    out.append((slot, answer))
        for slot in self._watch.dead((slot, slot.info) for slot in self._calls.values()):
            lost = self._lost(slot, ActorLostError("", died=True))
            if slot.trial is not None:
                out.append((slot, lost))
        return out

    def _of_trial(self, slot: Slot, outcome: Outcome) -> Outcome | Lost:
        self._has_left(slot, outcome.left)
        self._news += outcome.warned
        if outcome.kind == "lost":
            self._drop(slot)
            return Lost(outcome.error)
        if outcome.kind == "raised":
            trials = {s.info.pid: s.trial for s in self._slots if s.info is not None and s.trial is not None}
            return replace(outcome, error=deaths.with_holders(outcome.error, trials))
        return outcome

    def _send(self) -> None:
        for slot, asked in self._asked:
            if isinstance(asked, int):
                self._calls[slot.actor.call("step", asked)] = slot
            else:
                self._calls[slot.actor.call("start", asked, self._tell(slot))] = slot
        self._asked.clear()
        asked_already = set(self._calls.values())
        for slot in list(self._slots):
            if slot.leaving is not None and slot.trial is None:
                if slot not in asked_already:
                    self._calls[slot.actor.call("release", self._tell(slot))] = slot
                elif self._overdue(slot, slot.leaving, UNHEARD_S):
                    self._give_up(slot, slot.leaving)

    def _tell(self, slot: Slot) -> bool:
        """Whether the trial that leaves the slot has completed; it is told so now."""
        if slot.leaving is None:
            return False
        slot.leaving.told = slot.leaving.told or time.monotonic()
        return slot.leaving.completed

    def _has_left(self, slot: Slot, left: Left | None) -> None:
        """What the worker says of the trial that leaves it; None where it had none."""
        leaving = slot.leaving
        if leaving is None:
            return
        if left is not None:
            self._news += left.warned
            if left.error:
                self._news.append(Noticed(f"{left.trial}: after its last report: {left.error}"))
        if left is None or left.ended:
            slot.leaving = None
            if self._fresh and slot.trial is None:
                self._drop(slot)
        elif self._overdue(slot, leaving):
            self._give_up(slot, leaving)

    @staticmethod
    def _overdue(slot: Slot, leaving: Leaving, more_s: float = 0.0) -> bool:
        return leaving.told is not None and time.monotonic() > leaving.told + leaving.grace_s + more_s

    def _give_up(self, slot: Slot, leaving: Leaving) -> None:
        self._drop(slot)
        after = f"{leaving.trial}: its function has not ended {leaving.grace_s:g} s after its last report"
        if self._transport.kills:
            self._news.append(Noticed(f"{after}: its process was ended"))
        else:
            self._news.append(Noticed(f"{after}: it goes on in this process, beside the trials that follow"))

    def _answer(self, slot: Slot, call: Call) -> WorkerInfo | Checked | Outcome | Left | Lost | None:
        try:
            return call.answer()  # type: ignore[no-any-return]
        except CallFailedError as error:  # the worker's own code failed: this trial's fault, not the worker's
            if slot is self._check.at:
                return self._check.failed(error)
            raise_full_disk(error, slot.info)
            return Outcome("raised", error=str(error), traceback=error.text, reusable=False)
        except ActorLostError as error:
            return self._lost(slot, error)

    def _lost(self, slot: Slot, error: ActorLostError) -> Lost:
        self._drop(slot, str(error) if error.died and slot.info is None else None)
        # It may have died of what the trial before did after its last report.
        blame = 1.0 if slot.leaving is None else 0.5
        if error.died:
            return Lost(f"the worker process {deaths.explained(slot.info, slot.trial, str(error))}", blame)
        return Lost(f"the worker was lost: {error}", blame)

    def _drop(self, slot: Slot, why: str | None = None) -> None:
        self._check.lost(slot)
        if slot in self._slots:
            self._slots.remove(slot)
        self._calls = {call: called for call, called in self._calls.items() if called is not slot}
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
        """Workers that wait are asked to close first, which ends what they still hold."""
        waiting = [slot for slot in self._slots if slot.info is not None and slot not in self._calls.values()]
        closing = [slot.actor.call("close") for slot in waiting]
        deadline = time.monotonic() + function_session.STOP_TIMEOUT_S
        while closing and time.monotonic() < deadline:
            closing = [call for call in closing if call not in self._transport.answered(closing, 0.1)]
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
