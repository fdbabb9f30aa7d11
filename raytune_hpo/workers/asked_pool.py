"""Workers that nobody started: processes of other people's that ask for a trial, train it, and report.

    ask -> a free place -> the driver gives it a trial -> the answer
    report -> an `Outcome` -> the driver decides -> the answer: "continue" or "stop"
    tell -> the trial's last report, its end without one, or its error

`handle` is called by threads, one a request, each of which waits for its answer; the driver takes what has come with
its `wait`, and answers go out with the next one, which is after the step was journaled: nobody is told what a crash
could take back. A request that is sent twice, because its answer was lost with the process that owned the run, is
answered twice and counts once.

A trial is on lease: whoever has it is to be heard of in so many seconds, by any request. A process of this machine
that is gone is noticed at once. The trial then comes back as one that has lost its worker.
"""

from __future__ import annotations

import contextlib
import functools
import math
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Event
from raytune_hpo.journal.names import number_of
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.workers import deaths
from raytune_hpo.workers.asked_requests import Place, Reply, Request, lease_of, outcome_of, place_of, text_of
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, Saved
from raytune_hpo.workers.pool import Lost
from raytune_hpo.workers.reservations import Reservations

CONTINUE, STOP = "continue", "stop"
LOOK_S = 0.5


class AskedPool:
    """See the module. store: takes checkpoints."""

    #: Nobody is late who was not sent for.
    patient = True

    def __init__(self, run_path: Path, store: CheckpointStore, reserved: Mapping[str, tuple[str, float]]) -> None:
        """reserved: a trial of the last session -> who had it, and for how many seconds it is kept for that one."""
        self._run_path, self._store = run_path, store
        self._reserved = Reservations(reserved)
        self._changed = threading.Condition()
        self._asking: list[Place] = []
        self._holding: dict[str, Place] = {}  # by trial
        self._come: list[tuple[Place, Outcome]] = []
        self._out: list[tuple[Place, Reply]] = []
        self._told: dict[tuple[str, str], Any] = {}  # (trial, token) of what is over -> the last request's id
        self._woken = False
        self._closed: Reply | None = None
        self._watch = deaths.Watch()
        self.ending = False

    # For the driver -----------------------------------------------------------------------------------

    def ensure(self) -> None:
        """Nothing is to be started."""

    @property
    def busy(self) -> list[Place]:
        """None while the session ends: who trains goes on, and finds the next one."""
        return [] if self.ending else [place for place in self._holding.values() if place.trial is not None]

    def idle(self) -> list[Place]:
        with self._changed:
            return [place for place in self._asking if not place.over]

    def admits(self, place: Place, losses: float) -> bool:
        return True  # it endangers no other

    @property
    def reserved(self) -> frozenset[str]:
        """Trials that others may have still, or want to go on with."""
        with self._changed:
            wanted = {p.wants for p in self._asking if p.wants is not None and p.wants in self._reserved}
            return frozenset(self._reserved.lasting() | wanted)

    def start(self, place: Place, assignment: Assignment) -> None:
        record = assignment.checkpoint
        with self._changed:
            self._asking.remove(place)
            self._reserved.end(assignment.trial)
            self._told.pop((assignment.trial, place.info.token), None)
            place.trial, place.began = assignment.trial, time.monotonic()
            place.generation = assignment.generation
            self._holding[assignment.trial] = place
            place.heard()
            if place.wants is not None:
                request = place.pending
                assert request is not None
                told = request.get("epoch")
                place.epoch = assignment.known  # what it knows, and so does who trains; or who has begun anew
                if isinstance(told, int) and 0 < told <= assignment.known:
                    place.epoch = told if request["do"] == "report" else told - 1
                self._take(place, request)
                return
            place.epoch = record.epoch if record is not None else 0
            reply = {
                "trial": assignment.trial,
                "config": assignment.config,
                "epoch": place.epoch,
                "checkpoint": None if record is None else str(self._run_path / record.path),
                "repeat": assignment.repeat,
            }
            self._out.append((place, reply))

    def step(self, place: Place, until: int) -> None:
        self._out.append((place, {"decision": CONTINUE}))

    def save(self, place: Place) -> Saved | None:
        """Its state is its asker's: it is saved with a report, or not."""
        return None

    def release(self, place: Place, *, reusable: bool = True, completed: bool = False) -> None:
        with self._changed:
            if place in self._asking:
                self._asking.remove(place)
            trial = place.trial or place.wants
            if trial is not None:
                self._holding.pop(trial, None)
                last = None if place.pending is None else place.pending.get("id")
                self._told[trial, place.info.token] = last
            place.trial = None
            if place.pending is not None:
                self._out.append((place, self._refusal(place, place.pending) or {"decision": STOP}))

    def _refusal(self, place: Place, request: Request) -> Reply | None:
        """Of who wants to go on with a trial that is not there to go on with: an error, unless it may just hear that it
        is over, or has said this before another owner died of it."""
        if place.refused is None:
            return None
        if place.refused.over and (request["do"] == "report" or request.get("again")):
            return None
        self._told.pop((place.wants or "", place.info.token), None)
        return {"error": str(ExperimentError("trial", place.wants, place.refused.why))}

    def end(self, place: Place, silent_s: float) -> list[tuple[Place, float]]:
        with self._changed:
            self._lapse(place)
        return [(place, 1.0)]

    def expect(self, trials: int, at_once: int) -> None:
        """As many as ask."""

    @property
    def leaving(self) -> list[str]:
        return []

    def wait(self, timeout_s: float) -> list[tuple[Place, Outcome | Lost]]:
        with self._changed:
            out, self._out = self._out, []
            for place, reply in out:
                self._answer(place, reply)
            deadline = time.monotonic() + timeout_s
            while not self._come and not self._woken and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            self._woken = False
            come: list[tuple[Place, Outcome | Lost]] = []
            for place, outcome in self._come:
                if place.trial is not None:
                    come.append((place, outcome))
            self._come = []
            return [*come, *self._lapsed({id(place) for place, _ in come})]

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def take_surplus(self) -> list[EpochReport]:
        return []

    def take_news(self) -> list[Event]:
        return []

    def shutdown(self) -> None:
        """Who waits for an answer is to ask the next one that owns the run."""
        self.close({"moved": True})

    def drop_answers(self) -> None:
        """The session has failed: what was to be answered may not be in the journal, and is asked again."""
        with self._changed:
            self._out = []

    def close(self, reply: Reply) -> None:
        """From here on this is the answer to everything."""
        with self._changed:
            if self._closed is None:
                self._closed = reply
            for place, late in self._out:
                self._answer(place, late)
            self._out = []
            self._changed.notify_all()

    # For askers ---------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Reply:
        """Do what is asked for, and wait for the answer. {"error": line} for what cannot be."""
        try:
            act = {"ask": self._ask, "report": self._report, "tell": self._report, "beat": self._beat}.get(
                str(request.get("do"))
            )
            if act is None:
                raise ExperimentError("request", request.get("do"), "must be ask, report, tell or beat")
            return act(request)
        except ExperimentError as error:
            return {"error": str(error)}

    def undelivered(self, request: Request, reply: Reply) -> None:
        """The answer to a request has not reached who sent it: a trial that it was to have is free."""
        with self._changed:
            place = self._holding.get(str(reply.get("trial")))
            if request.get("do") == "ask" and place is not None and place.info.token == request.get("token"):
                place.deadline, place.delivered = 0.0, False
                self._wake()

    def _ask(self, request: Request) -> Reply:
        place = place_of(request)
        timeout_s = request.get("timeout_s")
        until = math.inf if timeout_s is None else time.monotonic() + float(timeout_s)
        with self._changed:
            self._asking.append(place)
            self._wake()
            try:
                while place.reply is None and self._closed is None and (place.trial or time.monotonic() < until):
                    self._changed.wait(min(LOOK_S, max(0.0, until - time.monotonic())) if not place.trial else LOOK_S)
                if place.reply is not None:
                    reply, place.reply = place.reply, None
                    place.delivered = True
                    return reply
                return self._closed or {"trial": None, "waiting": True}
            finally:  # a person may have interrupted it
                if not place.delivered:
                    place.over, place.deadline = True, 0.0
                    with contextlib.suppress(ValueError):
                        self._asking.remove(place)

    def _report(self, request: Request) -> Reply:
        trial, token = text_of(request, "trial"), text_of(request, "token")
        copied = self._copied(trial, token, request.get("checkpoint"))  # which may take a while: nobody waits for it
        try:
            return self._told_of(trial, token, {**request, "copied": copied})
        finally:
            if copied is not None:
                shutil.rmtree(copied, ignore_errors=True)

    def _told_of(self, trial: str, token: str, request: Request) -> Reply:
        with self._changed:
            if self._closed is not None:
                return self._closed
            place = self._holding.get(trial)
            held = place is not None and place.info.token != token
            if held or (place is None and self._reserved.is_anothers(trial, token)):
                raise ExperimentError("trial", trial, "is another's: your lease has lapsed, and it was given away")
            if place is None and (trial, token) in self._told:
                return self._after_its_end(request, self._told[trial, token])
            if place is None:  # it was had in an earlier session
                place = place_of(request, wants=trial)
                place.pending = request
                self._asking.append(place)
                self._wake()
            else:
                if place.pending is not None:
                    raise ExperimentError("trial", trial, "waits for an answer already: report from one thread")
                place.heard()
                place.pending = request
                self._take(place, request)
            while place.reply is None and self._closed is None:
                self._changed.wait(LOOK_S)
            reply, place.reply = place.reply, None
            return reply or self._closed or {}

    def _after_its_end(self, request: Request, last: Any) -> Reply:
        again = last is not None and request.get("id") == last  # its answer was lost
        if request["do"] == "report" or again:
            return {"decision": STOP}
        raise ExperimentError("trial", request["trial"], "is over: nothing more can be told of it")

    def _take(self, place: Place, request: Request) -> None:
        """Of who holds the trial: to the driver, or answered at once where it is known already."""
        try:
            outcome = outcome_of(place, request, functools.partial(self._saved, place, request.get("copied")))
        except (ExperimentError, OSError) as error:
            self._answer(place, {"error": str(error)})
            return
        if outcome is None:
            self._answer(place, {"decision": CONTINUE})
            return
        self._come.append((place, outcome))
        self._wake()

    def _copied(self, trial: str, token: str, folder: Any) -> Path | None:
        """A copy of what the trial's asker has saved, beside its checkpoints."""
        if folder is None:
            return None
        source = Path(str(folder))
        if not source.is_dir():
            raise ExperimentError("checkpoint", str(folder), "is no folder")
        if number_of(trial) is None:
            raise ExperimentError("trial", trial, "no such trial in this run")
        with self._changed:
            place = self._holding.get(trial)
            if place is not None and place.info.token == token:
                place.deadline = math.inf  # it is heard of: this is its thread
        scratch = self._store.scratch(trial)
        try:
            shutil.copytree(source, scratch, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            shutil.rmtree(scratch, ignore_errors=True)
            text = f"cannot be copied: {type(error).__name__}: {str(error)[:200]}"
            raise ExperimentError("checkpoint", str(folder), text) from error
        finally:
            with self._changed:
                if place is not None:
                    place.heard()
        return scratch

    def _saved(self, place: Place, copied: Path | None, epoch: int) -> Saved | None:
        if copied is None:
            return None
        assert place.trial is not None
        return Saved(epoch, record=self._store.commit(copied, place.trial, place.generation, epoch))

    def _beat(self, request: Request) -> Reply:
        token = text_of(request, "token")
        with self._changed:
            if self._closed is not None:
                return self._closed
            for place in self._holding.values():
                if place.info.token == token:
                    place.heard()
            self._reserved.heard(token, lease_of(request))
        return {"heard": True}

    # Within -------------------------------------------------------------------------------------------

    def _answer(self, place: Place, reply: Reply) -> None:
        place.reply, place.pending = reply, None
        self._changed.notify_all()

    def _wake(self) -> None:
        self._woken = True
        self._changed.notify_all()

    def _lapsed(self, come: set[int]) -> list[tuple[Place, Lost]]:
        """The places whose asker is gone, or has not been heard of."""
        now, found = time.monotonic(), []
        held = [place for place in self._holding.values() if id(place) not in come]
        dead = self._watch.dead((place, place.info) for place in [*held, *self._asking])
        for place in [*held, *self._asking]:
            if place in dead:
                why = f"{place.info.token} (process {place.info.pid}) is gone"
            elif now > place.deadline:
                why = f"{place.info.token} was not heard of for {place.lease_s:g} s"
            else:
                continue
            if place.trial is not None and not self.ending:
                found.append((place, Lost(why, 1.0 if place.delivered or place.wants else 0.0)))
            self._lapse(place)
        return found

    def _lapse(self, place: Place) -> None:
        place.over = True
        if place in self._asking:
            self._asking.remove(place)
        if place.trial is not None:
            self._holding.pop(place.trial, None)
