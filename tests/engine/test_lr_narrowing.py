"""lr_range="auto" in runs of the real driver in virtual time: one test a structure, and crashes in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raytune_hpo import Choice, Experiment, ExperimentError, Float
from raytune_hpo.engine.lr_narrowing import placed
from raytune_hpo.journal.events import Suggested
from raytune_hpo.testing import simulation
from raytune_hpo.testing.fake_pool import FakePool
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.simulation import Simulation
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome
from raytune_hpo.workers.pool import Slot

RANGES = {"sgd": (1e-2, 1e-1), "adam": (1e-4, 1e-3)}
tests_done: list[str] = []


class TestingPool(FakePool):
    """Its workers answer range tests as a worker does: with one report."""

    __test__ = False

    def start(self, slot: Slot, assignment: Assignment) -> None:
        if not assignment.range_test:
            super().start(slot, assignment)
            return
        slot.trial = assignment.trial
        self._at[id(slot)] = (assignment, 0)
        optimizer = assignment.config["optimizer"]
        tests_done.append(optimizer)
        low, high = RANGES[optimizer]
        self._answer(slot, Outcome("waiting", (EpochReport(1, {"low": low, "high": high}, 0.1, None),)), ("test",))


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "FakePool", TestingPool)
    tests_done.clear()


def experiment(**fields: Any) -> Experiment:
    return Experiment(
        name="narrowed",
        task="digits",
        space={"lr": Float(1e-5, 1.0, "log"), "optimizer": Choice(["sgd", "adam"])},
        **{"num_samples": 12, "max_epochs": 4, "lr_range": "auto", "scheduler": "fifo", **fields},
    )


def value(config: dict[str, Any], epoch: int) -> float:
    return epoch * config["lr"]


def run(exp: Experiment, **more: Any) -> Simulation:
    sim = Simulation(exp, value=value, **more).run()
    check_sound(sim)
    return sim


def test_one_test_a_structure_and_every_rate_in_its_range() -> None:
    sim = run(experiment())
    assert sorted(tests_done) == ["adam", "sgd"]
    for trial in sim.trials:
        low, high = RANGES[trial.config["optimizer"]]
        assert low <= trial.config["lr"] <= high
    raw = [e.config["lr"] for e in sim.of(Suggested)]
    same = [t for t in range(12) if sim.trials[t].config["optimizer"] == "sgd"]
    # The order within a structure is the searcher's own.
    assert sorted(same, key=lambda i: raw[i]) == sorted(same, key=lambda i: sim.trials[i].config["lr"])


@pytest.mark.parametrize("scheduler", ["fifo", "asha", {"name": "hyperband", "reduction_factor": 2}])
def test_a_crash_at_any_step_changes_nothing(scheduler: Any) -> None:
    exp = experiment(scheduler=scheduler)
    calm = run(exp)
    for step in range(1, calm.appends, 4):
        check_same_table(calm, run(exp, crash_steps={step}))


def test_parallel_workers_test_a_structure_at_most_once_each() -> None:
    sim = run(experiment(), workers=4)
    assert set(tests_done) == {"sgd", "adam"}
    assert all(
        RANGES[t.config["optimizer"]][0] <= t.config["lr"] <= RANGES[t.config["optimizer"]][1] for t in sim.trials
    )


def test_a_rate_keeps_its_place_and_stays_in_the_space() -> None:
    space = Float(1e-4, 1.0, "log")
    assert placed(space, 1e-2, 1e-3, 1e-1) == pytest.approx(1e-2)
    assert placed(space, 1e-4, 1e-3, 1e-1) == pytest.approx(1e-3)
    assert placed(space, 1e-4, 1e-6, 1e-1) == pytest.approx(1e-4)  # the range reaches beyond the space
    assert placed(space, 0.5, 2.0, 9.0) == 0.5  # nothing in common


def test_it_needs_a_task_and_a_rate() -> None:
    with pytest.raises(ExperimentError, match="lr_range"):
        experiment(lr_range="always")
    with pytest.raises(ExperimentError, match="lr as a Float"):
        replace(experiment(), space={"dropout": Float(0.0, 0.5)})


def test_a_run_that_is_stopped_during_a_range_test_ends() -> None:
    for budget in (0.01, 0.2, 0.5, 1.0, 2.0):
        sim = run(experiment(time_budget_s=budget), workers=3)
        assert sim.population.ledger.stop_reason is not None
