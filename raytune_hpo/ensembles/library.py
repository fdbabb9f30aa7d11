"""The library: a run's kept checkpoints, each with its config and its predictions on the validation split.

With `folds`, a checkpoint holds k models, and each sample is predicted by the one that was not trained on it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from raytune_hpo.ensembles.selection import figures, is_finite, metrics_of, per_sample
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.journal.events import CheckpointRecord, Perturbed, Suggested
from raytune_hpo.objective import Objective
from raytune_hpo.results.results import Results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import Config
from raytune_hpo.storage.checkpoints import CheckpointStore, exists
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.data import Array, TrialData
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from torch import nn

MAX_CANDIDATES = 200
MAX_PREDICTIONS_BYTES = 2**31
"""Of all candidates on the validation split together: the best that fit are looked at."""


@dataclass(frozen=True)
class Candidate:
    """A sound checkpoint. config: the one it was trained with. score: the metric that its trial reported then.

    predictions: on the validation data, [n, C] class probabilities or [n, d] outputs; validation: their metrics.
    """

    trial: TrialState
    record: CheckpointRecord
    config: Config
    score: float
    predictions: Array
    validation: dict[str, float]

    def rank(self, objective: Objective) -> tuple[tuple[float, int], float, int]:
        """A key that sorts the best trial's best checkpoint first, of equal ones the oldest."""
        return self.trial.rank(objective), worst_last(self.score, objective), self.trial.checkpoints.index(self.record)


class Library:
    """The checkpoints of one run, whose lock the caller holds; experiment: its own. notices: what was passed over, and
    why.

    Raises ExperimentError for a run of a function trainable.
    """

    def __init__(self, directory: RunDirectory, results: Results, experiment: ResolvedExperiment) -> None:
        if not isinstance(experiment.task, Task):
            expected = "is a function trainable, whose checkpoints only it can read; this needs a Task"
            raise ExperimentError("task", results.experiment["task"], expected)
        self.directory = directory
        self.results = results
        self.experiment = experiment
        self.task: Task = experiment.task
        self.metrics = metrics_of(self.task)
        self.notices: list[str] = []
        self._store = CheckpointStore(directory.path, 0)
        self._configs = {(e.trial, 0): e.config for e in results.of(Suggested)}
        for e in results.of(Perturbed):  # a donor's weights come with a config of their own
            self._configs[e.trial, e.generation] = e.new_config

    def all(self) -> Iterator[CheckpointRecord]:
        """Every whole checkpoint, the best trials' first and of a trial the best first."""
        for trial in self._trials():
            yield from self._best_first(trial)

    def best_of_trials(self) -> Iterator[CheckpointRecord]:
        """The best whole checkpoint of each trial, the best trials first."""
        for trial in self._trials():
            found = self._best_first(trial)
            if not found:
                self.notices.append(f"{trial.id} has no sound checkpoint: passed over")
            yield from found[:1]

    def newest_of_winner(self) -> Iterator[CheckpointRecord]:
        for trial in self._trials()[:1]:
            yield from reversed(self._whole(trial))

    def load(
        self, records: Iterator[CheckpointRecord], limit: int | None, headway: Headway = UNSEEN
    ) -> tuple[list[Candidate], Array]:
        """The first `limit` (None: all) that load and predict finite values; and the validation data's targets, as of
        `predictions`; empty where none does."""
        recipe = self.experiment.recipe()
        headway.begin("loading the data")
        parts = recipe.data(recipe.load())
        headway.begin("checkpoints that predict", self._at_most(limit))
        found: list[Candidate] = []
        y = np.zeros(0)
        held_bytes = 0
        for record in records:
            if len(found) == MAX_CANDIDATES or held_bytes > MAX_PREDICTIONS_BYTES:
                self.notices.append(f"only the {len(found)} best checkpoints were looked at")
                break
            config = self._configs[record.trial, record.generation]
            try:
                predictions, y = self._predictions(record, config, parts)
            except TrialError as error:
                self.notices.append(f"{record.path} cannot be used: {error}")
                continue
            finally:
                headway.made()
            if not is_finite(predictions):
                self.notices.append(f"{record.path} predicts values that are not finite: passed over")
                continue
            held_bytes += predictions.nbytes
            metrics = figures(per_sample(predictions, y, self.metrics), self.metrics)
            trial = self.results.ledger.trials[record.trial]
            score = trial.scores.get(record.path, math.nan)
            found.append(Candidate(trial, record, config, score, predictions, metrics))
            if len(found) == limit:
                break
        return found, y

    def _at_most(self, limit: int | None) -> int:
        """How many checkpoints `load` looks at, if none is passed over."""
        trials = self.results.ledger.trials.values()
        there = (c for t in trials if t.eligible for c in t.checkpoints if exists(self.directory.path, c))
        return sum(1 for _ in itertools.islice(there, MAX_CANDIDATES if limit is None else limit))

    def model(self, record: CheckpointRecord, config: Config) -> nn.Module:
        """The checkpoint as one model, on the CPU in eval mode. Raises TrialError."""
        from raytune_hpo.training.ensemble_model import model_of

        return model_of(self.task, self.task.resolved(config), self._state(record))

    def _trials(self) -> list[TrialState]:
        trials = []
        for trial in self.results.top(len(self.results.ledger.trials)):
            if trial.repeat is None:
                trials.append(trial)
            else:  # its training data hold validation samples of the others
                self.notices.append(f"{trial.id} is a repetition on another split: passed over")
        return trials

    def _whole(self, trial: TrialState) -> list[CheckpointRecord]:
        """Those that are there and whole, oldest first. (Most are gone by the rules of retention, which is no news.)"""
        whole = []
        for record in trial.checkpoints:
            if self._store.intact(record):
                whole.append(record)
            elif exists(self.directory.path, record):
                self.notices.append(f"{record.path} is damaged: passed over")
        return whole

    def _best_first(self, trial: TrialState) -> list[CheckpointRecord]:
        objective = self.experiment.objective
        return sorted(self._whole(trial), key=lambda r: worst_last(trial.scores.get(r.path, math.nan), objective))

    def _predictions(self, record: CheckpointRecord, config: Config, parts: list[TrialData]) -> tuple[Array, Array]:
        from raytune_hpo.training.ensemble_model import model_of, predictions

        state = self._state(record)
        folds = state.get("folds", [state])
        if len(folds) != len(parts):
            raise TrialError(f"it holds {len(folds)} models where the experiment has {len(parts)} folds")
        models = [model_of(self.task, self.task.resolved(config), fold).to(device()) for fold in folds]
        found = [predictions(m, p.validation, self.task, p.statistics) for m, p in zip(models, parts, strict=True)]
        return np.concatenate([predicted for predicted, _ in found]), np.concatenate([y for _, y in found])

    def _state(self, record: CheckpointRecord) -> dict[str, Any]:
        from raytune_hpo.training.checkpoint import load_state

        return load_state(self.directory.path / record.path)


def worst_last(score: float, objective: Objective) -> float:
    """A key that sorts the best score first, NaN last."""
    return objective.loss(score) if math.isfinite(score) else math.inf


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
