"""What trials reported by epoch, as far as it counts, and when."""

from __future__ import annotations

from raytune_hpo.journal.events import Ended, Perturbed, Reported, Started
from raytune_hpo.objective import numbers
from raytune_hpo.results.results import Results


def values_by_epoch(results: Results) -> dict[str, dict[int, float]]:
    """Trial -> epoch -> the objective's value, NaN and infinities too, along the line of `reports_by_epoch`."""
    found: dict[str, dict[int, float]] = {}
    for trial, line in reports_by_epoch(results).items():
        values = {epoch: numbers(event.metrics).get(results.metric) for epoch, (_, event) in line.items()}
        found[trial] = {epoch: value for epoch, value in values.items() if value is not None}
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
