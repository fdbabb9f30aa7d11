"""What a trial does after its last report, and while it unwinds: it is done, in every executor, and blames no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, Float, report, run
from raytune_hpo.journal.events import Noticed
from raytune_hpo.results.results import Results
from raytune_hpo.testing.schedulers import check
from raytune_hpo.testing.simulation import Faults, Simulation, make_experiment
from raytune_hpo.workers import function_session

EXECUTORS = ["inline", "processes"]


def experiment(task: Any, **fields: Any) -> Experiment:
    values: dict[str, Any] = {"scheduler": "fifo", "searcher": "random", "num_samples": 4, "max_epochs": 3, **fields}
    return Experiment(name="unwinding", task=task, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", **values)


def marks(folder: Path) -> Callable[[str], None]:
    """Leaves a file for every (trial, place) that was come to."""

    def mark(place: str) -> None:
        from raytune_hpo.workers.reporting import trial_id

        (folder / f"{trial_id()} {place}").touch()

    return mark


def marked(folder: Path, place: str) -> set[str]:
    return {file.name.split()[0] for file in folder.iterdir() if file.name.endswith(f" {place}")}


def notices(results: Results) -> list[str]:
    return [event.text for event in results.of(Noticed)]


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("executor", EXECUTORS)
def test_b9_what_follows_the_last_report_is_done(executor: str, tmp_path: Path) -> None:
    folder = tmp_path / "marks"
    folder.mkdir()
    mark = marks(folder)

    def train(config: dict[str, Any]) -> None:
        try:
            for _ in range(3):
                report({"y": config["x"]})
            mark("after")
        finally:
            time.sleep(0.05)  # as files are closed that take a moment
            mark("finally")

    results = run(experiment(train, executor=executor), tmp_path / "run")
    everyone = set(results.ledger.trials)
    assert len(everyone) == 4
    assert marked(folder, "after") == marked(folder, "finally") == everyone
    assert notices(results) == []


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("executor", EXECUTORS)
def test_near_b9_one_that_is_stopped_is_unwound(executor: str, tmp_path: Path) -> None:
    """And a report beyond the last epoch unwinds a completed one."""
    folder = tmp_path / "marks"
    folder.mkdir()
    mark = marks(folder)

    def train(config: dict[str, Any]) -> None:
        try:
            for epoch in range(1, 100):
                if epoch == 4:
                    mark("fourth")
                report({"y": epoch})
            mark("after")
        finally:
            mark("finally")

    early = {"patience": 1, "min_delta": 0.0}
    results = run(experiment(train, executor=executor, early_stopping=early), tmp_path / "stopped")
    assert set(results.trials["status"]) == {"stopped"}
    assert marked(folder, "finally") == set(results.ledger.trials)
    assert marked(folder, "fourth") == set()
    results = run(experiment(train, executor="inline"), tmp_path / "completed")
    assert set(results.trials["status"]) == {"completed"}
    assert marked(folder, "fourth") == set(results.ledger.trials)
    assert marked(folder, "after") == set()


def test_near_b9_an_error_after_the_last_report_is_said_and_fails_no_trial(tmp_path: Path) -> None:
    def train(config: dict[str, Any]) -> None:
        report({"y": config["x"]})
        raise OSError("no room for the plot")

    results = run(experiment(train, executor="inline", max_epochs=1), tmp_path / "run")
    assert set(results.trials["status"]) == {"completed"}
    for n, notice in enumerate(sorted(notices(results))):
        assert notice.startswith(f"t0000{n}: after its last report: test_unwinding.py, line ")
        assert notice.endswith(", in train: OSError: no room for the plot")
    assert len(notices(results)) == 4


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("executor", EXECUTORS)
def test_b3_a_trial_that_is_slow_to_unwind_blames_no_other(
    executor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials that follow wait, or go elsewhere; the slow one is given up after its grace, and that is said."""
    monkeypatch.setattr(function_session, "STOP_TIMEOUT_S", 0.5)

    def train(config: dict[str, Any]) -> None:
        from raytune_hpo.workers.reporting import trial_id

        try:
            for epoch in range(1, 100):
                report({"y": epoch})
        finally:
            if trial_id() == "t00001":
                time.sleep(3.0)

    early = {"patience": 1, "min_delta": 0.0}
    results = run(experiment(train, executor=executor, early_stopping=early, max_epochs=9), tmp_path / "run")
    assert results.status == "finished"
    assert set(results.trials["status"]) == {"stopped"}
    assert list(results.trials["failures"]) == [0] * 4
    assert {trial.losses for trial in results.ledger.trials.values()} == {0}
    (said,) = notices(results)
    assert said.startswith("t00001: its function has not ended 0.5 s after its last report: ")
    assert said.endswith("its process was ended" if executor == "processes" else "beside the trials that follow")


@pytest.mark.parametrize(
    "scheduler", ["fifo", "asha", "hyperband", "freeze_thaw", {"name": "pbt", "interval": 2}], ids=str
)
def test_near_b3_a_trial_that_waits_for_another_worker_is_as_it_was(scheduler: Any) -> None:
    calm = check(Simulation(make_experiment(scheduler, samples=9, epochs=9), workers=3).run())
    sim = check(
        Simulation(
            make_experiment(scheduler, samples=9, epochs=9), workers=3, faults=Faults(occupied=0.5), crash_steps={9, 20}
        ).run()
    )
    assert {t.failures for t in sim.trials} == {0.0}
    assert {t.status for t in sim.trials} <= {t.status for t in calm.trials}
