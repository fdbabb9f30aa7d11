"""fresh_workers: what a trial does to its process reaches no other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, report, run
from raytune_hpo.journal.events import SessionOpened, Started


def leaves_something(config: dict[str, Any]) -> None:
    import builtins

    before = getattr(builtins, "left", 0)
    builtins.left = before + 1  # type: ignore[attr-defined]
    report({"y": float(before)})


def experiment(**fields: Any) -> Experiment:
    values: dict[str, Any] = {"num_samples": 2, "max_epochs": 1, "scheduler": "fifo", "searcher": "random", **fields}
    return Experiment(
        name="fresh", task=leaves_something, space={"x": Float(0.0, 1.0)}, metric="y", mode="min",
        fresh_workers=True, **values,
    )  # fmt: skip


@pytest.mark.usefixtures("ray_session")
def test_b12_each_trial_has_a_process_of_its_own(tmp_path: Path) -> None:
    results = run(experiment(), tmp_path / "run")
    assert [event.executor for event in results.of(SessionOpened)] == ["processes"]
    pids = [event.pid for event in results.of(Started)]
    assert len(pids) == len(set(pids)) == 2
    assert os.getpid() not in pids
    assert {trial.best for trial in results.ledger.trials.values()} == {0.0}
    assert Experiment.from_json(experiment().to_json(), given={"task": leaves_something}).fresh_workers


@pytest.mark.parametrize("executor", ["inline", "lanes"])
def test_b12_is_refused_where_processes_are_shared(executor: str) -> None:
    with pytest.raises(ExperimentError, match="fresh_workers = True: gives each trial a process of its own"):
        experiment(executor=executor)


def test_near_b12_a_task_that_could_be_lanes_takes_processes() -> None:
    made = Experiment(name="fresh", task="digits", space={"lr": Float(0.01, 0.1)}, fresh_workers=True)
    assert made.resolved.lanes_refusal == "fresh_workers asks for a process a trial"


def test_near_b12_a_wrong_value_is_named() -> None:
    with pytest.raises(ExperimentError, match="fresh_workers = 'yes'"):
        Experiment(name="fresh", task="digits", space={"lr": Float(0.01, 0.1)}, fresh_workers="yes")  # type: ignore[arg-type]
