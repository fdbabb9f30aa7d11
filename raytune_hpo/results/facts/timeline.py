"""Where the wall time went: what the driver and each worker did, and when."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from raytune_hpo.journal import events
from raytune_hpo.results.facts.clock import Clock
from raytune_hpo.results.results import Results
from raytune_hpo.states import Decision

DRIVER = "driver"
TRAINING = "training"
BEFORE = "before it began"  # a worker: while the driver starts
#: Spans of one worker; with more, those that are near each other are one.
SPANS = 400


@dataclass
class _Worker:
    """began: of each trial that it has. spans: (began, ended, trials) of training."""

    began: dict[str, float] = field(default_factory=dict)
    spans: list[tuple[float, float, str]] = field(default_factory=list)
    phases: list[tuple[float, float, str]] = field(default_factory=list)


def timeline(results: Results) -> dict[str, Any]:
    """workers: of each its spans [began, ended, what, trials]; shares: seconds by what all workers did, and what
    part of their time that is, "idle" among them; wall_s: of all sessions, their start-up included, the time between
    them left out; most: trials at the same time."""
    workers: dict[str, _Worker] = defaultdict(_Worker)
    of: dict[str, str] = {}  # a trial's worker
    clock = Clock(results)
    most = 0
    for step in results.steps:
        before, now = clock.before, clock.at(step)
        for event in step.events:
            match event:
                case events.Phased():
                    span = clock.seconds(event.began), clock.seconds(event.ended), event.name
                    workers[event.worker or DRIVER].phases.append(span)
                case events.Started():
                    _leave(workers, of, event.trial, now)
                    of[event.trial] = event.worker or DRIVER
                    workers[of[event.trial]].began[event.trial] = now
                case events.Ended() | events.Retried() | events.Deferred() | events.Perturbed() | events.RangeTested():
                    _leave(workers, of, event.trial, now)
                case events.Decided() if event.decision == Decision.PAUSE:
                    _leave(workers, of, event.trial, now)
                case events.Commanded(trial=str(trial)) if event.applied and event.command == "pause":
                    _leave(workers, of, trial, now)
                case events.SessionOpened() | events.Closed():
                    # Of a session that was killed the last sign of life is the end.
                    for trial in list(of):
                        _leave(workers, of, trial, before if isinstance(event, events.SessionOpened) else now)
        most = max(most, len(of))
    for trial in list(of):
        _leave(workers, of, trial, clock.before)
    return _told(workers, clock.before, most, [*clock.opened_at, clock.before])


def _leave(workers: dict[str, _Worker], of: dict[str, str], trial: str, now: float) -> None:
    worker = of.pop(trial, None)
    if worker is not None:
        began = workers[worker].began.pop(trial)
        workers[worker].spans.append((began, max(began, now), trial))


def _told(workers: dict[str, _Worker], wall_s: float, most: int, sessions: list[float]) -> dict[str, Any]:
    """sessions: when each began, and when the last ended."""
    made: list[dict[str, Any]] = []
    shares: dict[str, float] = defaultdict(float)
    training = whole = 0.0
    for name in sorted(workers, key=lambda name: (name != DRIVER, name)):
        worker = workers[name]
        merged = _merged(worker.spans, wall_s)
        busy = sum(ended - began for began, ended, _ in _merged(worker.spans, 0.0, together=True))
        training += busy
        spans: list[list[Any]] = [[began, ended, what, None] for began, ended, what in worker.phases]
        spans += [[began, ended, TRAINING, who] for began, ended, who in merged]
        spans.sort(key=lambda span: span[:2])
        trials = len({trial for *_, trial in worker.spans})
        made.append({"worker": name, "busy_s": round(busy, 3), "trials": trials, "spans": spans})
        if not worker.spans:
            continue
        # A worker is of one session: until that has an end it is paid for.
        first = spans[0][0]
        began = max((start for start in sessions if start <= first), default=0.0)
        whole += next((start for start in sessions if start > first), wall_s) - began
        shares[BEFORE] += first - began
        shares[TRAINING] += busy
        for start, ended, what in worker.phases:
            shares[what] += ended - start
    shares["idle"] = max(0.0, whole - sum(shares.values()))
    listed = [
        {"what": what, "seconds": round(seconds, 3), "share": seconds / whole if whole else None}
        for what, seconds in sorted(shares.items(), key=lambda item: -item[1])
    ]
    return {
        "wall_s": wall_s,
        "training_s": round(training, 3),
        "most": most,
        "workers": made,
        "shares": listed if whole else [],
    }


def _merged(
    spans: list[tuple[float, float, str]], wall_s: float, *, together: bool = False
) -> list[tuple[float, float, Any]]:
    """Spans as they are where few and one after the other; else those that overlap, or nearly touch, as one, with the
    number of trials in place of the trial."""
    ordered = sorted(spans)
    apart = all(b[0] >= a[1] - 1e-3 for a, b in itertools.pairwise(ordered))
    if apart and len(ordered) <= SPANS and not together:
        return list(ordered)
    near = wall_s / SPANS if len(ordered) > SPANS else 0.0
    found: list[list[Any]] = []
    for began, ended, trial in ordered:
        if found and began <= found[-1][1] + near:
            found[-1][1] = max(found[-1][1], ended)
            found[-1][2].add(trial)
        else:
            found.append([began, ended, {trial}])
    return [(began, ended, len(trials) if len(trials) > 1 else next(iter(trials))) for began, ended, trials in found]
