"""The pool of lanes: to the driver, a pool of as many workers as its arrays have lanes.

What the driver wants of slots is collected and goes to each array as one call, which trains all its lanes; an array
that has more to train is called again before the driver has taken its reports in.

One trial may kill the array and with it hundreds of others. A lost array is therefore one loss that all trials share
which may be to blame: those that had not made a new report in it, or else all. On their return they are admitted in
groups, the smaller the more they have lost, so that a culprit is soon alone with the blame, and no other trial fails.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.journal.events import Event
from raytune_hpo.settings import Resources
from raytune_hpo.workers import deaths
from raytune_hpo.workers.first_call import FirstCheck
from raytune_hpo.workers.lane_calls import Order, Turn
from raytune_hpo.workers.messages import Assignment, Checked, EpochReport, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.pool import SAVE_TIMEOUT_S, Lost, OwnWorkers, Slot, called_once, raise_full_disk
from raytune_hpo.workers.staffing import Staffing
from raytune_hpo.workers.transport import Actor, ActorLostError, Call, CallFailedError, Transport

#: An array that has not answered so long after the first one has is not counted on.
LATE_S = 60.0


@dataclass(eq=False)
class _Array:
    """An array and its lanes. made: when, on the monotonic clock. sized: it has trained, and so knows how many lanes it
    has room for. busy: it has epochs to train without orders; in_call: an answer is to come."""

    actor: Actor
    made: float = field(default_factory=time.monotonic)
    info: WorkerInfo | None = None
    lanes: list[LaneSlot] = field(default_factory=list)
    sized: bool = False
    orders: list[Order] = field(default_factory=list)
    busy: bool = False
    in_call: bool = True
    heard: float = field(default_factory=time.monotonic)

    @property
    def held(self) -> int:
        """Lanes that have a trial."""
        return sum(slot.trial is not None for slot in self.lanes)

    def free(self) -> Iterator[tuple[int, LaneSlot]]:
        """Those that have none, each with how many the array will have once it has been given those before."""
        return enumerate((slot for slot in self.lanes if slot.trial is None), start=self.held)


@dataclass(eq=False)
class LaneSlot(Slot):
    """A lane. ticket: counts its trials, so that an answer about the one before is not taken for this one's;
    known, losses: as of its `Assignment`; inside: the array has been sent the trial; proven: it has made a new report
    there."""

    array: _Array | None = None
    number: int = 0
    ticket: int = 0
    known: int = 0
    losses: float = 0.0
    inside: bool = False
    proven: bool = False


class LanePool(OwnWorkers):
    """Lanes for trials; stands in for a `Pool`.

    make_array: of a number, an array in whatever process the transport has for it. resources: of one array. trials:
    that may run at a time. at_first: arrays that are started before one has answered. first: configs that the first
    array tries the task with, before any trial is begun.
    """

    def __init__(
        self,
        transport: Transport,
        make_array: Callable[[int], Actor],
        resources: Resources,
        trials: int,
        at_first: int,
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._transport = transport
        self._make_array = make_array
        self._trials = trials
        self._at_first = at_first
        self._first_answer = math.inf  # when the first array was there, on the monotonic clock
        self._arrays: list[_Array] = []
        self._calls: dict[Call, _Array] = {}
        self._made = 0
        self._staffing = Staffing(lambda: transport.capacity(resources), trials)
        self._watch = deaths.Watch()
        self._check = FirstCheck(first)
        self._surplus: list[EpochReport] = []
        self._news: list[Event] = []
        self.ending = False  # the run is about to end: every lane is to be saved

    def ensure(self) -> None:
        """Start arrays up to what the cluster holds now. Raises ExperimentError if they keep dying."""
        wanted = self._staffing.wanted()
        while len(self._arrays) < (min(wanted, self._at_first) if self._first_answer == math.inf else wanted):
            array = _Array(self._make_array(self._made))
            self._made += 1
            self._arrays.append(array)
            self._calls[array.actor.call("info")] = array

    @property
    def busy(self) -> list[LaneSlot]:
        return [slot for array in self._arrays for slot in array.lanes if slot.trial is not None]

    def idle(self) -> list[LaneSlot]:
        """Free lanes for as many trials as may run, in the order in which they fill the arrays evenly.

        Arrays that have not answered yet, or that have not trained and so have few lanes, have their share kept, or
        the first that is there would take all trials of a small run.
        """
        if self._check.awaited:
            return []
        now = time.monotonic()
        there = [a for a in self._arrays if a.info is not None or now < max(a.made, self._first_answer) + LATE_S]
        awaited = [a for a in there if not a.sized and now < max(a.made, self._first_answer) + LATE_S]
        share = self._trials // max(1, len(there))
        held = {id(array): array.held for array in there}
        out = []
        for _, slot in sorted((entry for array in there for entry in array.free()), key=lambda entry: entry[0]):
            own = id(slot.array)
            kept = sum(max(0, share - held[id(array)]) for array in awaited if id(array) != own)
            if sum(held.values()) + kept < self._trials:
                held[own] += 1
                out.append(slot)
        return out

    def admits(self, slot: LaneSlot, losses: float) -> bool:
        """No more unproven trials are in an array at a time than leaves each with twice as much blame for the next
        loss as any of them has gathered so far."""
        assert slot.array is not None
        unproven = [other.losses for other in slot.array.lanes if other.trial is not None and not other.proven]
        return not unproven or 2 * max(losses, *unproven) * (len(unproven) + 1) <= 1

    def start(self, slot: LaneSlot, assignment: Assignment) -> None:
        slot.trial, slot.known, slot.losses = assignment.trial, assignment.known, assignment.losses
        slot.inside = slot.proven = False
        self._check.too_late = True
        slot.ticket += 1
        self._order(slot, Order("start", slot.number, slot.ticket, trial=assignment))

    def step(self, slot: LaneSlot, until: int) -> None:
        self._order(slot, Order("step", slot.number, slot.ticket, until))

    leaving = ()  # a lane has no code of its own that could go on

    def release(self, slot: LaneSlot, *, reusable: bool = True, completed: bool = False) -> None:
        """A lane keeps nothing of its last trial. reusable: False of a trial that is given up; an array is given up
        with its last one. completed: of processes."""
        array = slot.array
        assert array is not None
        slot.trial = None
        self._order(slot, Order("release", slot.number, slot.ticket))
        if not reusable and array.in_call and array in self._arrays and all(lane.trial is None for lane in array.lanes):
            self._drop(array)

    def end(self, slot: LaneSlot, silent_s: float) -> list[tuple[LaneSlot, float]]:
        """An array that has said nothing for as long hangs, with all its trials. A lane of another one leaves."""
        array = slot.array
        assert array is not None
        if time.monotonic() - array.heard < min(silent_s, 1.0 + silent_s / 2):
            self.release(slot)
            return [(slot, 1.0)]
        return [(lane, lost.blame) for lane, lost in self._lost(array, "") if isinstance(lost, Lost)]

    def expect(self, trials: int, at_once: int) -> None:
        self._trials = at_once
        self._staffing.limit(at_once)

    def _order(self, slot: LaneSlot, order: Order) -> None:
        assert slot.array is not None
        slot.array.orders.append(order)

    def save(self, slot: LaneSlot) -> Saved | None:
        """Save the waiting trial's state now. None if that fails."""
        try:
            saved: Saved | None = slot.actor.call("save", slot.number).answer(SAVE_TIMEOUT_S)
        except (CallFailedError, ActorLostError):
            return None
        return saved

    def take_surplus(self) -> list[EpochReport]:
        """Reports of trials that had left their lane when they came."""
        surplus, self._surplus = self._surplus, []
        return surplus

    def take_news(self) -> list[Event]:
        news, self._news = self._news, []
        return news

    def refusal(self, configs: Sequence[Mapping[str, Any]]) -> str | None:
        """Why the task is better trained in processes, as the first array finds by training a little."""
        self.ensure()
        try:
            found: str | None = self._arrays[0].actor.call("refusal", configs).answer()
        except CallFailedError as error:
            return f"the lane array failed: {error.line}"
        except ActorLostError as error:
            return f"the lane array failed: {error}"
        return found

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        there = [array.actor for array in self._arrays if array.info is not None]
        return called_once(self._transport, there, function, *arguments)

    # Calls ------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float) -> list[tuple[LaneSlot, Outcome | Lost]]:
        """Send what was ordered; what has come of calls so far; waits up to `timeout_s` for the first. Raises TaskError
        where the first check finds that no trial can be trained."""
        for array in self._arrays:
            if not array.in_call and (array.orders or array.busy):
                self._call(array)
        out: list[tuple[LaneSlot, Outcome | Lost]] = []
        for call in self._transport.answered(list(self._calls), timeout_s):
            called = self._calls.pop(call, None)
            if called is not None:  # it was not dropped for another answer
                called.in_call = False
                called.heard = time.monotonic()
                out += self._taken(called, call)
        for array in self._watch.dead((array, array.info) for array in self._calls.values()):
            out += self._died(array, "")
        return out

    def _call(self, array: _Array) -> None:
        orders, array.orders = array.orders, []
        for order in orders:
            array.lanes[order.slot].inside = True
        array.in_call = True
        self._calls[array.actor.call("advance", orders, self.ending)] = array

    def _taken(self, array: _Array, call: Call) -> list[tuple[LaneSlot, Outcome | Lost]]:
        try:
            answer = call.answer()
        except CallFailedError as error:  # a fault of the array's own: its trials start again elsewhere
            if array is not self._check.at:
                raise_full_disk(error, array.info)
                return self._lost(array, f"the lane array failed: {error}")
            answer = self._check.failed(error)
        except ActorLostError as error:
            if not error.died:
                return self._lost(array, f"the lane array was lost: {error}")
            return self._died(array, str(error))
        if isinstance(answer, WorkerInfo | Checked):
            self._has_come(array, answer)
            return []
        assert isinstance(answer, Turn)
        self._resize(array, answer.lanes)
        array.sized |= any(outcome.reports for _, _, outcome in answer.outcomes)
        self._news += answer.warned
        array.busy = answer.busy
        if array.busy and self._transport.concurrent:
            self._call(array)  # it goes on while the driver takes in what has come
        out: list[tuple[LaneSlot, Outcome | Lost]] = []
        for number, ticket, outcome in answer.outcomes:
            slot = array.lanes[number]
            if slot.trial is not None and slot.ticket == ticket:
                slot.proven |= any(report.epoch > slot.known for report in outcome.reports)
                out.append((slot, outcome))
            else:
                self._surplus += outcome.reports
        return out

    def _has_come(self, array: _Array, answer: WorkerInfo | Checked) -> None:
        """Into the world, or back from the first check."""
        if isinstance(answer, Checked):
            self._news += self._check.ended(answer)
            return
        array.info = answer
        self._news += answer.news
        self._first_answer = min(self._first_answer, time.monotonic())
        self._staffing.answered()
        self._resize(array, answer.lanes)
        check = self._check.begun(array, array.actor)
        if check is not None:
            array.in_call = True
            self._calls[check] = array

    def _resize(self, array: _Array, lanes: int) -> None:
        """Lanes are never taken away: an array that finds that fewer fit takes its trials in turns."""
        for number in range(len(array.lanes), lanes):
            array.lanes.append(LaneSlot(array.actor, array.info, array=array, number=number))

    def _died(self, array: _Array, said: str) -> list[tuple[LaneSlot, Outcome | Lost]]:
        how = deaths.explained(array.info, None, said)
        return self._lost(array, f"the lane array {how}", said if array.info is None else None)

    def _lost(self, array: _Array, error: str, why: str | None = None) -> list[tuple[LaneSlot, Outcome | Lost]]:
        self._drop(array, why)
        inside = [slot for slot in array.lanes if slot.trial is not None and slot.inside]
        suspects = [slot for slot in inside if not slot.proven] or inside
        return [
            (slot, Lost(error, 1 / len(suspects) if slot in suspects else 0.0))
            for slot in array.lanes
            if slot.trial is not None
        ]

    def _drop(self, array: _Array, why: str | None = None) -> None:
        self._check.lost(array)
        self._arrays.remove(array)
        self._calls = {call: called for call, called in self._calls.items() if called is not array}
        self._staffing.lost(why)
        array.actor.kill()

    def shutdown(self) -> None:
        for array in self._arrays:
            array.actor.kill()
        self._arrays.clear()
        self._calls.clear()
