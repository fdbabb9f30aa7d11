"""Requests of other people's processes to a run: as places for trials, and as what a worker would answer."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.workers import deaths
from raytune_hpo.workers.messages import EpochReport, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.pool import Refusal
from raytune_hpo.workers.reservations import UNTIL

Request = Mapping[str, Any]
Reply = dict[str, Any]
LONGEST_LEASE_S = 30 * 86400.0


@dataclass(frozen=True)
class Asker(WorkerInfo):
    """Who asks. token: what it is known by, also to the next process that owns the run; until: of one without a
    process, when its lease ends, in seconds since 1970."""

    token: str = ""
    until: int = 0

    @property
    def name(self) -> str:
        return self.token if self.pid else f"{self.token}{UNTIL}{self.until}"


@dataclass(eq=False)
class Place:
    """One request for a trial, and then that trial. wants: the trial that its asker has had since before this session.
    replies: to the request that waits; pending: that request."""

    info: Asker
    lease_s: float
    wants: str | None = None
    refused: Refusal | None = None
    trial: str | None = None
    leaving: None = None
    generation: int = 0
    epoch: int = 0
    deadline: float = math.inf
    began: float = 0.0
    pending: Request | None = None
    reply: Reply | None = None
    delivered: bool = False  # whether its asker has heard of the trial
    over: bool = False

    def heard(self) -> None:
        self.deadline = time.monotonic() + self.lease_s


def place_of(request: Request, *, wants: str | None = None) -> Place:
    """Raises ExperimentError for a request without a token, or with a lease that is none."""
    given = request.get("pid")
    pid = given if isinstance(given, int) and given > 0 else 0
    mark = deaths.process_mark(pid) if pid else None
    lease_s = lease_of(request)
    token, until = text_of(request, "token"), int(time.time() + lease_s)
    return Place(Asker(socket.gethostname(), pid, True, mark=mark, token=token, until=until), lease_s, wants)


def outcome_of(place: Place, request: Request, saved: Callable[[int], Saved | None]) -> Outcome | None:
    """What a worker would answer; None for a report that was taken before. saved: of an epoch, what came with it.

    Raises ExperimentError for what cannot be of this trial.
    """
    if request.get("error") is not None:
        error = text_of(request, "error")
        return Outcome("raised", error=" ".join(error.split())[:1000], traceback=error)
    metrics = request.get("metrics")
    if request["do"] == "tell" and metrics is None:
        return Outcome("returned")
    if not isinstance(metrics, Mapping) or not metrics:
        raise ExperimentError("metrics", metrics, "must be an object, name: number")
    epoch = request.get("epoch")
    epoch = place.epoch + 1 if epoch is None else epoch
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch not in (place.epoch, place.epoch + 1):
        expected = f"must be {place.epoch + 1}: reports of {place.trial} are counted from 1, one by one"
        raise ExperimentError("epoch", epoch, expected)
    if epoch == place.epoch and request["do"] == "report":
        return None
    kept = saved(epoch)
    seconds, place.began = time.monotonic() - place.began, time.monotonic()
    place.epoch = epoch
    return Outcome("waiting", (EpochReport(epoch, dict(metrics), seconds, kept, done=request["do"] == "tell"),))


def text_of(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise ExperimentError(name, value, "must be text")
    return value


def lease_of(request: Request) -> float:
    value = request.get("lease_s", 60.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST_LEASE_S:
        raise ExperimentError("lease_s", value, "must be seconds, above 0 and at most 30 days")
    return float(value)
