"""Repetitions: what the configs of a run of searcher "repeat" are worth, by each time they were trained.

At which epoch is a repetition judged? At its own best one it would look better than it is: the epoch would be chosen
by the very validation samples it is judged on, as in a search. At its last one it would be judged unlike it is used,
since it is the best epoch whose checkpoint is kept, and a config that overfits late would lose by that alone. So
each repetition is judged at the epoch at which the *other* repetitions of its config are best on average: none
takes part in choosing the epoch it is judged at. (Cross-fitting; the bias it avoids: Cawley & Talbot 2010, "On
over-fitting in model selection and subsequent selection bias in performance evaluation", JMLR 11.) A repetition that
ended early stands at its last value from there on. The values at its best and at its last epoch are kept beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Reported
from raytune_hpo.objective import Mode
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import Config
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.resampling import DEVIATION
from raytune_hpo.training.task import Task
from raytune_hpo.verdicts.comparison import Array, Design


@dataclass(frozen=True)
class Repetition:
    """One training of a config. value: the metric at `epoch`, the one at which it is judged (see the module);
    deviation: over the folds then, None without. best, last: at its own best and last epoch."""

    trial: TrialState
    value: float
    epoch: int
    deviation: float | None
    best: float
    last: float

    def to_json(self) -> dict[str, Any]:
        return {
            "trial": self.trial.id,
            "repeat": self.trial.repeat,
            "metric": self.value,
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.trial.best_epoch,
            "last": self.last,
        }


@dataclass(frozen=True)
class RepeatedConfig:
    """A config and its repetitions, in order; failures: (trial, status) of those that failed or diverged. constant: at
    every epoch the metric was the same in all repetitions, to the last digit; identical: so was all that they reported.
    """

    config: Config
    repetitions: tuple[Repetition, ...]
    failures: tuple[tuple[str, str], ...]
    constant: bool = False
    identical: bool = False

    @property
    def reliable(self) -> bool:
        """Whether it can be compared and chosen: it trained well every time."""
        return not self.failures

    @property
    def values(self) -> Array:
        """[n]"""
        return np.array([r.value for r in self.repetitions])

    @property
    def best_values(self) -> Array:
        """[n] the metric at each repetition's own best epoch, as a search reports it."""
        return np.array([r.best for r in self.repetitions])

    @property
    def last_values(self) -> Array:
        """[n]"""
        return np.array([r.last for r in self.repetitions])

    @property
    def deviations(self) -> Array | None:
        """[n] over the folds; None without folds."""
        found = [r.deviation for r in self.repetitions]
        return None if None in found else np.array(found, dtype=np.float64)

    @property
    def seconds(self) -> float:
        """Of training, the mean of a repetition."""
        return float(np.mean([r.trial.seconds for r in self.repetitions])) if self.repetitions else 0.0


def repeated_configs(results: Results) -> list[RepeatedConfig]:
    """The configs of a finished run of searcher "repeat", in the order they were given."""
    configs = results.experiment["start_points"]
    reports: dict[str, list[dict[str, Any]]] = {}
    for event in results.of(Reported):
        reports.setdefault(event.trial, []).append(event.metrics)
    found = []
    for i, config in enumerate(configs):
        trials = [t for t in results.ledger.trials.values() if t.index % len(configs) == i]
        trained = [t for t in trials if t.finished and t.eligible and t.id in reports]
        failures = tuple((t.id, t.status.value) for t in trials if t not in trained)
        told = [reports[t.id] for t in trained]
        repetitions = _judged(trained, told, results.metric, results.mode)
        constant = _same([[report[results.metric] for report in of_trial] for of_trial in told])
        found.append(RepeatedConfig(config, repetitions, failures, constant, constant and _same(told)))
    return found


def _same(told: list[list[Any]]) -> bool:
    """Whether several trials told the same; as text, in which NaN is NaN and every digit counts."""
    return len(told) > 1 and len({repr(of_trial) for of_trial in told}) == 1


def _judged(
    trials: list[TrialState], reports: list[list[dict[str, Any]]], metric: str, mode: Mode
) -> tuple[Repetition, ...]:
    epochs = judging_epochs([np.array([float(r[metric]) for r in of_trial]) for of_trial in reports], mode)
    found = []
    for trial, of_trial, epoch in zip(trials, reports, epochs, strict=True):
        report = of_trial[epoch - 1]
        deviation = report.get(metric + DEVIATION)
        assert trial.best is not None
        last = float(of_trial[-1][metric])
        found.append(Repetition(trial, float(report[metric]), epoch, deviation, trial.best, last))
    return tuple(found)


def judging_epochs(curves: list[Array], mode: Mode) -> list[int]:
    """The epoch (1-based) at which each of n repetitions is judged; curves: n arrays [epochs it ran].

    A single repetition has no others, and is judged at its last epoch.
    """
    if len(curves) < 2:
        return [len(c) for c in curves]
    longest = max(map(len, curves))
    padded = np.stack([np.append(c, np.full(longest - len(c), c[-1])) for c in curves])  # [n, longest]
    means = (padded.sum(0) - padded) / (len(curves) - 1)  # [n, longest] of the others
    chosen = means.argmax(1) if mode == "max" else means.argmin(1)
    return [min(int(epoch) + 1, len(c)) for epoch, c in zip(chosen, curves, strict=True)]


def design_of(experiment: ResolvedExperiment, data: TrialData | None) -> tuple[Design, str | None]:
    """How repetitions sample `data` (None for a function trainable), and what is to be known of it, if anything."""
    if not isinstance(experiment.task, Task) or data is None:
        notice = "a function trainable sees to its own seeds and data: its intervals hold for what it varies itself"
        return Design(), notice
    n, held_out = len(data.train), len(data.validation)
    metric = experiment.task.metric_reported_as(experiment.objective.metric)
    counted = metric is not None and metric.share
    if experiment.folds is not None:
        size = (n + held_out) // experiment.folds
        return Design(1 / (experiment.folds - 1), size if counted else None, experiment.folds), None
    if experiment.task.exchangeable:
        return Design(held_out / n, held_out if counted else None), None
    notice = "this task's validation samples are chosen, not drawn: the intervals hold for other seeds, not other data"
    return Design(0.0, held_out if counted else None), notice
