"""lr_range="auto": a range test for every structure, before the first trial of it trains.

    a trial's first start, its structure unknown -> the worker does the range test -> event lr_range
    a trial's first start, its structure known   -> event narrow: its lr moves into that range

A structure is what changes the model's shape or the optimizer. The searcher's lr says where in the range a
trial's lr lies, in the space's own scale: what it learns of one structure holds for another, whose range
lies elsewhere. The config that is journaled, trained and reported is the narrowed one.
"""

from __future__ import annotations

import json
from typing import Any

from raytune_hpo.engine.population import Population
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Narrowed, RangeTested
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Float
from raytune_hpo.training.task import Task

LR = "lr"


def structure(experiment: ResolvedExperiment, config: Config) -> str:
    """The part of a config that a learning rate must suit, as a text that is equal for equal structures."""
    assert isinstance(experiment.task, Task)
    keys = experiment.task.structural_hyperparameters()
    return json.dumps({key: config[key] for key in sorted(keys) if key in config})


def needs_test(population: Population, trial: TrialState) -> bool:
    """Whether the trial must wait for a range test of its structure."""
    if population.experiment.lr_range is None or _placed(trial):
        return False
    return structure(population.experiment, trial.config) not in population.ledger.lr_ranges


def _placed(trial: TrialState) -> bool:
    """Whether its lr is where it belongs already."""
    return trial.narrowed or trial.replicate_of is not None or trial.resume_from is not None


def take_test(population: Population, trial: TrialState, report: dict[str, Any]) -> None:
    """Note what a range test found. report: `low` and `high`, of lr."""
    key = structure(population.experiment, trial.config)
    population.do(RangeTested(trial.id, key, float(report["low"]), float(report["high"])))
    population.end_waiting()  # the run may have been stopped during the test


def narrow(population: Population, trial: TrialState) -> None:
    """Move a trial's lr into the range of its structure, once."""
    experiment = population.experiment
    if experiment.lr_range is None or _placed(trial):
        return
    low, high = population.ledger.lr_ranges[structure(experiment, trial.config)]
    config = {**trial.config, LR: placed(experiment.space.parameters[LR], trial.config[LR], low, high)}
    population.do(Narrowed(trial.id, config))


def placed(parameter: Any, value: float, low: float, high: float) -> float:
    """The value in [low, high] at the place that `value` has in `parameter`, never outside the parameter.

    A range that misses the parameter's altogether changes nothing.
    """
    assert isinstance(parameter, Float)
    low, high = max(low, parameter.low), min(high, parameter.high)
    if low > high:
        return value
    start, end = parameter.to_unit(low), parameter.to_unit(high)
    return min(max(float(parameter.from_unit(start + (end - start) * parameter.to_unit(value))), low), high)
