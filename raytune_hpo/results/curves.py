"""The objective of each trial by epoch, as far as it counts."""

from __future__ import annotations

from collections import defaultdict

from raytune_hpo.journal.events import Reported
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
