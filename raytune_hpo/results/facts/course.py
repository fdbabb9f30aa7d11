"""How a run went on: the best value so far, and how far trials came."""

from __future__ import annotations

from collections import Counter
from typing import Any

from raytune_hpo.checks import is_number
from raytune_hpo.journal.events import Decided, Reported
from raytune_hpo.results.facts.clock import Clock
from raytune_hpo.results.results import Results
from raytune_hpo.states import Decision, Status


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
            if is_number(value) and (not by_seconds or better(value, by_seconds[-1]["value"])):
                found = {"seconds": now, "trial": event.trial, "epoch": event.epoch, "value": value}
                by_seconds.append(found)
    return {"trials": by_trials, "seconds": by_seconds}


def rungs(results: Results) -> list[dict[str, int]]:
    """By epoch at which any trial ended or was paused, 0 for those that never reported: how many reached it, how many
    went no further (`last`), and of these how many were stopped early, completed, or failed or diverged. (What the end
    of the run stopped is none of these.)"""
    trials = results.ledger.trials.values()
    last: Counter[int] = Counter(trial.epoch for trial in trials if trial.epoch or trial.finished)
    ended: Counter[tuple[int, str]] = Counter()
    for trial in trials:
        if trial.stopped_early(results.stop_reason):
            ended[trial.epoch, "stopped"] += 1
        elif trial.status == Status.COMPLETED:
            ended[trial.epoch, "completed"] += 1
        elif trial.finished and not trial.status.eligible:
            ended[trial.epoch, "failed"] += 1
    paused = Counter(event.epoch for event in results.of(Decided) if event.decision == Decision.PAUSE)
    found = []
    for epoch in sorted({*last, *paused}):
        own = {"epoch": epoch, "reached": sum(n for at, n in last.items() if at >= epoch), "last": last[epoch]}
        own |= {how: ended[epoch, how] for how in ("stopped", "completed", "failed")}
        found.append({**own, "paused": paused[epoch]})
    return found
