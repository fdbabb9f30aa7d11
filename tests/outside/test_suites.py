"""The suites of raytune_hpo.testing over what somebody else wrote: a line or three a class."""

from __future__ import annotations

from lab.metric import BalancedAccuracy
from lab.scheduler import PatientASHA
from lab.searcher import HillClimb
from lab.task import Blobs

from raytune_hpo.testing import Case, MetricContract, SchedulerContract, SearcherContract, TrainerContract


class TestHillClimb(SearcherContract):
    case = Case(HillClimb, quick={"n_initial": 2}, tiny={"n_initial": 2})


class TestPatientASHA(SchedulerContract):
    scheduler = PatientASHA(spared=2)


class TestBalancedAccuracy(MetricContract):
    metric = BalancedAccuracy()
    kind = "classification"


def signs():
    task = Blobs()
    return task.trainer(task.load(0), max_epochs=6, device="cpu")


class TestSignTrainer(TrainerContract):
    factory = "test_suites:signs"
    configs = {"plain": {"lr": 0.01}, "wide": {"lr": 0.003, "hidden_units": 32}}  # noqa: RUF012
