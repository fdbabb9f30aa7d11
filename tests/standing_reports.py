"""What a run's reports say by epoch, worked out from its events alone."""

from __future__ import annotations

from raytune_hpo import Results
from raytune_hpo.journal.events import Reported


def standing(results: Results) -> dict[str, dict[str, dict[int, float]]]:
    """Trial -> metric -> epoch -> value, of the reports that no later one, of their epoch or one before, replaced."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for event in results.of(Reported):
        curves = found.setdefault(event.trial, {})
        for values in curves.values():
            for epoch in [epoch for epoch in values if epoch >= event.epoch]:
                del values[epoch]
        for tag, value in event.metrics.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                curves.setdefault(tag, {})[event.epoch] = float(value)
    return found
