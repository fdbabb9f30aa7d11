"""No wait without a limit: a trial that never reports, a worker that has died unseen."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, Float, report, run
from raytune_hpo.engine import driver
from raytune_hpo.journal.events import Noticed
from raytune_hpo.tasks.digits import Digits


def experiment(task: Any, **fields: Any) -> Experiment:
    values: dict[str, Any] = {"scheduler": "fifo", "searcher": "random", "num_samples": 4, "max_epochs": 3, **fields}
    return Experiment(name="limits", task=task, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", **values)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "GRACE_S", 0.3)


@pytest.mark.usefixtures("short")
def test_c10_a_trial_that_never_reports_outlasts_no_budget(tmp_path: Path) -> None:
    """What it had reported counts, and the run goes to its end, in this process, and says that a thread goes on."""
    over = threading.Event()

    def silent(config: dict[str, Any]) -> None:
        report({"y": 0.5})
        time.sleep(0.05)
        report({"y": 0.25})
        os.environ["LEFT_BY_A_TRIAL"] = "1"
        over.wait(600)

    directory = os.getcwd()
    results = run(experiment(silent, time_budget_s=0.2, executor="inline", num_samples=3), tmp_path / "run")
    over.set()
    assert (results.status, results.stop_reason) == ("finished", "time budget of 0.2 s used")
    (trial,) = results.ledger.trials.values()
    assert (trial.status, trial.epoch, trial.best) == ("stopped", 2, 0.25)
    said = [event.text for event in results.of(Noticed)]
    assert said[0].endswith("after the run was stopped, it is given up")
    assert said[1].endswith("its code cannot be ended, and goes on in this process")
    assert (os.getcwd(), os.environ.get("LEFT_BY_A_TRIAL")) == (directory, None)


@pytest.mark.usefixtures("ray_session", "short")
def test_near_c10_nor_a_target(tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"

    def train(config: dict[str, Any]) -> None:
        from raytune_hpo.workers.reporting import trial_id

        time.sleep(0.05)
        report({"y": 0.5})
        if trial_id() == "t00001":
            hanging.touch()
            time.sleep(600)
        while not hanging.exists():
            time.sleep(0.01)
        report({"y": 0.0})

    made = experiment(train, stop={"target": 0.1}, executor="processes", num_samples=2)
    results = run(made, tmp_path / "run")
    assert (results.status, results.stop_reason) == ("finished", "target 0.1 reached")
    assert [trial.epoch for trial in results.ledger.trials.values()] == [2, 1]
    assert results.ledger.trials["t00001"].status == "stopped"


OVER = threading.Event()


@dataclass(frozen=True)
class Hanging(Digits):
    def build_model(self, config: Mapping[str, Any]) -> Any:
        OVER.wait(600)
        return super().build_model(config)


@pytest.mark.usefixtures("short")
def test_near_c10_lanes_that_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytune_hpo.workers.executors.configs_to_try", lambda experiment: [])
    space = {"lr": Float(1e-3, 1e-1, "log")}
    made = Experiment(
        name="limits", task=Hanging(), space=space, executor="inline", num_samples=2, max_epochs=2, time_budget_s=0.2
    )
    results = run(made, tmp_path / "run")
    OVER.set()
    assert results.status == "finished"
    assert set(results.trials["status"]) == {"stopped"}


@pytest.mark.usefixtures("short")
def test_near_c10_a_long_epoch_is_not_cut_short(tmp_path: Path) -> None:
    """A run that is stopped waits for running epochs as long as such epochs take."""

    def train(config: dict[str, Any]) -> None:
        for _ in range(9):
            time.sleep(0.5)
            report({"y": 0.5})

    results = run(
        experiment(train, time_budget_s=0.7, executor="inline", num_samples=1, max_epochs=9), tmp_path / "run"
    )
    (trial,) = results.ledger.trials.values()
    assert (trial.status, trial.epoch) == ("stopped", 2)
    assert list(results.of(Noticed)) == []
