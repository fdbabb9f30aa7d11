"""Failed trials are tried again by `retry`, and everything that is replayed stays exact over it."""

from __future__ import annotations

from typing import Any

import pytest

from raytune_hpo import events
from raytune_hpo.testing.schedulers import check, check_same_table
from raytune_hpo.testing.simulation import Faults, Simulation, make_experiment

#: Each trial fails for good sooner or later in about a third of the cases.
FAILING = Faults(raises=0.12, lost=0.05, damaged=0.05)
SCHEDULERS: list[Any] = ["fifo", "asha", {"name": "asha", "brackets": 3}, "hyperband", "median", "freeze_thaw"]
SCHEDULERS += [{"name": "pbt", "interval": 2}, {"name": "pb2", "interval": 2}]


def simulation(scheduler: Any, seed: int, samples: int = 10, **given: Any) -> Simulation:
    experiment = make_experiment(scheduler, samples=samples, epochs=9, seed=seed, max_failures=0)
    return Simulation(experiment, faults=FAILING, retries=2, **given)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=str)
def test_b5_failed_trials_run_again_under_every_scheduler(scheduler: Any) -> None:
    reopened = rescued = 0
    for seed in range(3):
        sim = check(simulation(scheduler, seed, workers=1 + seed % 3).run())
        again = {e.trial for e in sim.of(events.Reopened)}
        reopened += len(again)
        rescued += sum(sim.population.trials[trial].eligible for trial in again)
    assert reopened > 5
    assert rescued > 3


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "freeze_thaw", {"name": "pbt", "interval": 2}], ids=str)
def test_b5_a_kill_at_any_step_of_a_retry_changes_nothing(scheduler: Any) -> None:
    calm = check(simulation(scheduler, 3, 5).run())
    lines = [i for i, line in enumerate(calm.lines) if b'"event":"reopen"' in line]
    assert lines
    sessions = 0
    for step in range(2 * lines[0] - 2, calm.appends, 7):
        sim = check(simulation(scheduler, 3, 5, crash_steps={step}).run())
        sessions += sim.sessions > calm.sessions
        check_same_table(sim, calm)
    assert sessions > 1
