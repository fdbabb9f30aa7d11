"""Tune hyperparameters of PyTorch models at population scale, on Ray, without losing work.

from raytune_hpo import Choice, Experiment, Float, Int, run

results = run(Experiment(name="first", task="digits", space={"lr": Float(1e-4, 1e-1, "log")}))
print(results.best)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError, RaytuneHpoError, TrialError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.file import load_experiment
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.objective import Objective
from raytune_hpo.options import option
from raytune_hpo.schedulers import Scheduler, SchedulerOptions
from raytune_hpo.search import SearchAlgorithm, SearchOptions
from raytune_hpo.settings import Checkpointing, Hypergradient, Resources, StopRun
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.training.data import Batch, Split, Splits, Stream, TrialData
from raytune_hpo.training.early_stopping import EarlyStopping
from raytune_hpo.training.hyperparameters import Hyperparameter
from raytune_hpo.training.metrics import (
    AUROC,
    F1,
    R2,
    Accuracy,
    BinaryCrossEntropy,
    CalibrationError,
    CrossEntropy,
    Dice,
    IoU,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Perplexity,
    RootMeanSquaredError,
    TopK,
    Whole,
    WholeMetric,
)
from raytune_hpo.training.padding import pad_collate, padded
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.asking import AskedTrial, OpenRun, open_run
    from raytune_hpo.cli.arguments import parse_changes
    from raytune_hpo.cli.main import run_file
    from raytune_hpo.display.screen import resume, retry, run
    from raytune_hpo.display.verdict_screen import confirm, retest
    from raytune_hpo.engine.commanding import Answer, amend, enqueue, import_trials
    from raytune_hpo.integrations.checkpointed import checkpointed as checkpointed  # (likewise: they need torch)
    from raytune_hpo.integrations.optuna import from_optuna
    from raytune_hpo.integrations.ray_tune import from_ray
    from raytune_hpo.journal import events
    from raytune_hpo.listeners.following import follow
    from raytune_hpo.results.predictor import Predictor as Predictor  # (not of `import *`: it needs torch)
    from raytune_hpo.results.predictor import load_model as load_model
    from raytune_hpo.results.results import Results, load_results
    from raytune_hpo.tasks import CaliforniaHousing, Cifar10, Diabetes, Digits, LinearExtrapolation, Mnist, MnistCnn
    from raytune_hpo.training.checkpoint import (
        load_state as load_state,
    )  # these three not of `import *`: they need torch
    from raytune_hpo.training.evaluation import evaluate as evaluate
    from raytune_hpo.training.trainer import Trainer as Trainer
    from raytune_hpo.workers.reporting import get_checkpoint, report, trial_dir, trial_seed

__all__ = [
    "AUROC",
    "F1",
    "R2",
    "Accuracy",
    "Answer",
    "AskedTrial",
    "Batch",
    "BinaryCrossEntropy",
    "CalibrationError",
    "CaliforniaHousing",
    "Checkpointing",
    "Choice",
    "Cifar10",
    "CrossEntropy",
    "Diabetes",
    "Dice",
    "Digits",
    "EarlyStopping",
    "Experiment",
    "ExperimentError",
    "Float",
    "Hypergradient",
    "Hyperparameter",
    "Int",
    "IoU",
    "LinearExtrapolation",
    "Listener",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Mnist",
    "MnistCnn",
    "Objective",
    "OpenRun",
    "Perplexity",
    "RaytuneHpoError",
    "Resources",
    "Results",
    "RootMeanSquaredError",
    "RunView",
    "Scheduler",
    "SchedulerOptions",
    "SearchAlgorithm",
    "SearchOptions",
    "SearchSpace",
    "Split",
    "Splits",
    "StopRun",
    "Stream",
    "Task",
    "TopK",
    "TrialData",
    "TrialError",
    "Whole",
    "WholeMetric",
    "amend",
    "confirm",
    "enqueue",
    "events",
    "follow",
    "from_optuna",
    "from_ray",
    "get_checkpoint",
    "import_trials",
    "load_experiment",
    "load_results",
    "open_run",
    "option",
    "pad_collate",
    "padded",
    "parse_changes",
    "report",
    "resume",
    "retest",
    "retry",
    "run",
    "run_file",
    "trial_dir",
    "trial_seed",
]

#: Imported at first use, so that an experiment file can be validated in a fraction of a second.
_LAZY = {
    "AskedTrial": "asking",
    "OpenRun": "asking",
    "open_run": "asking",
    "Answer": "engine.commanding",
    "amend": "engine.commanding",
    "enqueue": "engine.commanding",
    "import_trials": "engine.commanding",
    "checkpointed": "integrations.checkpointed",
    "confirm": "display.verdict_screen",
    "evaluate": "training.evaluation",
    "from_optuna": "integrations.optuna",
    "from_ray": "integrations.ray_tune",
    "follow": "listeners.following",
    "get_checkpoint": "workers.reporting",
    "load_model": "results.predictor",
    "load_results": "results.results",
    "load_state": "training.checkpoint",
    "parse_changes": "cli.arguments",
    "Predictor": "results.predictor",
    "report": "workers.reporting",
    "resume": "display.screen",
    "Results": "results.results",
    "retest": "display.verdict_screen",
    "retry": "display.screen",
    "run": "display.screen",
    "run_file": "cli.main",
    "Trainer": "training.trainer",
    "trial_dir": "workers.reporting",
    "trial_seed": "workers.reporting",
}

_TASKS = ("CaliforniaHousing", "Cifar10", "Diabetes", "Digits", "LinearExtrapolation", "Mnist", "MnistCnn")


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("raytune-hpo")
    if name == "events":
        return importlib.import_module("raytune_hpo.journal.events")
    if name in _TASKS:
        return getattr(importlib.import_module("raytune_hpo.tasks"), name)
    if name in _LAZY:
        return getattr(importlib.import_module(f"raytune_hpo.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
