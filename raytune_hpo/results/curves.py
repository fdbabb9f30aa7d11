"""What trials reported by epoch, as far as it counts, and when."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from raytune_hpo.journal.events import Ended, Perturbed, Reported, Started
from raytune_hpo.results.results import Results


def values_by_epoch(results: Results) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> the objective's value, NaN and infinities too, of the trial's last generation."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    generations: dict[str, int] = {}
    for event in results.of(Reported):
        if generations.get(event.trial) != event.generation:
            generations[event.trial] = event.generation
            found[event.trial] = {}
        value = event.metrics.get(results.metric)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[event.trial][event.epoch] = float(value)
    return found


def reports_by_epoch(results: Results) -> dict[str, dict[int, tuple[float, Reported]]]:
    """Trial -> epoch -> (when, in seconds since 1970, the report): the line of a trial. Where it was set back to a
    checkpoint (PBT, a panda), its reports take the place of those that it had made of these epochs and of later ones.
    """
    found: dict[str, dict[int, tuple[float, Reported]]] = {trial: {} for trial in results.ledger.trials}
    for step in results.steps:
        for event in step.events:
            if isinstance(event, Perturbed):
                line = found[event.trial]
                found[event.trial] = {epoch: one for epoch, one in line.items() if epoch <= event.donor_epoch}
            elif isinstance(event, Reported):
                found[event.trial][event.epoch] = step.at, event
    return found


def times(results: Results) -> dict[str, tuple[float | None, float | None]]:
    """Trial -> (when it first began, when it ended), in seconds since 1970; None where it has not."""
    found: dict[str, tuple[float | None, float | None]] = dict.fromkeys(results.ledger.trials, (None, None))
    for step in results.steps:
        for event in step.events:
            if isinstance(event, Started):
                found[event.trial] = (found[event.trial][0] or step.at, None)
            elif isinstance(event, Ended):
                found[event.trial] = (found[event.trial][0] or step.at, step.at)
    return found


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those of the values that are numbers, NaN and infinities too."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
