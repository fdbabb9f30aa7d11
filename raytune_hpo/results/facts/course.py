"""How a run went on: the best value so far, and how far trials came."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from raytune_hpo.journal.events import Decided, Reported
from raytune_hpo.results.facts.clock import Clock
from raytune_hpo.results.results import Results
from raytune_hpo.states import Decision


def best_so_far(results: Results) -> dict[str, list[dict[str, Any]]]:
    """Each improvement, of trials that may be the winner. trials: by how many were suggested until then, each with the
    best that it reached at last; seconds: by when it was reported."""
    by_trials: list[dict[str, Any]] = []
    by_seconds: list[dict[str, Any]] = []
    better = results.objective.better
    trials = results.ledger.trials
    for number, trial in enumerate(trials.values(), start=1):
        if trial.eligible and trial.best is not None and (not by_trials or better(trial.best, by_trials[-1]["value"])):
            by_trials.append({"trials": number, "trial": trial.id, "value": trial.best})
    clock = Clock(results)
    for step in results.steps:
        now = clock.at(step)
        for event in step.events:
            if not isinstance(event, Reported) or not trials[event.trial].eligible:
                continue
            value = event.metrics.get(results.metric)
            if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
                continue
            if not by_seconds or better(value, by_seconds[-1]["value"]):
                found = {"seconds": now, "trial": event.trial, "epoch": event.epoch, "value": value}
                by_seconds.append(found)
    return {"trials": by_trials, "seconds": by_seconds}


def rungs(results: Results) -> list[dict[str, int]]:
    """How many trials reached each epoch that any was stopped, paused or ended at; how many of them were stopped there
    (also while they were paused, but not by the end of the run), and for how many it was the last."""
    reached = Counter(trial.epoch for trial in results.ledger.trials.values() if trial.epoch)
    stopped = Counter(t.epoch for t in results.ledger.trials.values() if t.stopped_early(results.stop_reason))
    paused: Counter[int] = Counter()
    for event in results.of(Decided):
        paused[event.epoch] += event.decision == Decision.PAUSE
    epochs = sorted({*reached, *(epoch for epoch, n in paused.items() if n)})
    found = []
    for epoch in epochs:
        there = sum(n for own, n in reached.items() if own >= epoch)
        own = {"epoch": epoch, "reached": there, "stopped": stopped[epoch], "paused": paused[epoch]}
        found.append({**own, "last": reached[epoch]})
    return found
