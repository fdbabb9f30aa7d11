"""Why trials of a run failed or diverged: one group for one cause."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import Status


@dataclass(frozen=True)
class Cause:
    """trials: in the order of suggestion. text: what the first of them ended with; file: of its traceback, within the
    run directory, None where there is none."""

    status: Status
    text: str
    file: str | None
    trials: tuple[TrialState, ...]


def causes(results: Results) -> list[Cause]:
    """The most frequent first. One cause is the same place in the code, whatever the message says of the trial; or the
    same metric, at whatever epoch."""
    found: dict[tuple[str, str], list[TrialState]] = {}
    for trial in results.ledger.trials.values():
        if trial.finished and not trial.status.eligible:
            text = trial.error or trial.reason or ""
            found.setdefault((trial.status, trial.error_file or text.partition(" at epoch ")[0]), []).append(trial)
    made = [
        Cause(trials[0].status, trials[0].error or trials[0].reason or "", trials[0].error_file, tuple(trials))
        for trials in found.values()
    ]
    return sorted(made, key=lambda cause: -len(cause.trials))
