"""Tune hyperparameters of PyTorch models at population scale, on Ray, without losing work.

from raytune_hpo import Choice, Experiment, Float, Int, run

results = run(Experiment(name="first", task="digits", space={"lr": Float(1e-4, 1e-1, "log")}))
print(results.best)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError, RaytuneHpoError, TrialError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment_file import load_experiment
from raytune_hpo.parameters import Choice, Float, Int
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun
from raytune_hpo.space import SearchSpace
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.metrics import Accuracy, Metric, RootMeanSquaredError
from raytune_hpo.training.task import Split, Splits, Task

if TYPE_CHECKING:
    from raytune_hpo.execution.confirm import confirm
    from raytune_hpo.execution.retest import retest
    from raytune_hpo.execution.run import resume, run
    from raytune_hpo.results.results import Results, load_results

__all__ = [
    "Accuracy",
    "Checkpointing",
    "Choice",
    "EarlyStopping",
    "Experiment",
    "ExperimentError",
    "Float",
    "Hypergradient",
    "Int",
    "Metric",
    "RaytuneHpoError",
    "Resources",
    "Results",
    "RootMeanSquaredError",
    "SearchSpace",
    "Split",
    "Splits",
    "StopRun",
    "Task",
    "TrialError",
    "confirm",
    "load_experiment",
    "load_results",
    "resume",
    "retest",
    "run",
]

_LAZY = {
    "confirm": "execution.confirm",
    "retest": "execution.retest",
    "run": "execution.run",
    "resume": "execution.run",
    "Results": "results.results",
    "load_results": "results.results",
}


def __getattr__(name: str) -> Any:
    # Imported at first use, so that an experiment file can be validated in a fraction of a second.
    if name in _LAZY:
        import importlib

        return getattr(importlib.import_module(f"raytune_hpo.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
