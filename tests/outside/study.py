"""Everything of one's own, and objects of Ray Tune's and Optuna's besides. LAB_STUDY chooses the half."""

import os

import optuna
from lab.listener import Broken, LineAnEvent
from lab.scheduler import PatientASHA
from lab.searcher import HillClimb
from lab.task import Blobs
from lab.trainable import Climber
from ray.tune.logger import TBXLoggerCallback
from ray.tune.schedulers import MedianStoppingRule

from raytune_hpo import Experiment, Float, Int

of_a_task = Experiment(
    name="of_a_task",
    task=Blobs(samples=400),
    space={"lr": Float(1e-3, 1e-1, "log"), "hidden_units": Int(2, 16)},
    metric="validation_balanced",
    searcher={"name": HillClimb, "n_initial": 4},
    scheduler=PatientASHA(spared=3, max_t=12, grace_period=2, reduction_factor=2),
    listeners=[LineAnEvent, TBXLoggerCallback()],
    num_samples=16,
    max_epochs=12,
    seed=4,
)

of_a_class = Experiment(
    name="of_a_class",
    task=Climber,
    space={"x": Float(0.0, 2.0)},
    metric="height",
    mode="max",
    searcher=optuna.samplers.TPESampler(seed=3, n_startup_trials=4),
    scheduler=MedianStoppingRule(grace_period=3, min_samples_required=2),
    listeners=[LineAnEvent(), Broken()],
    num_samples=12,
    max_epochs=12,
    seed=4,
)

experiment = {"task": of_a_task, "class": of_a_class}[os.environ.get("LAB_STUDY", "task")]
