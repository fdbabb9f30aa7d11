"""Replicates: who is trained again, when that is over, and who has won then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, confirm, load_results, resume, run
from raytune_hpo.journal import events
from raytune_hpo.objective import Objective
from raytune_hpo.results.failures import causes
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.replicates import FIRST_REPEAT, MOST_ROUNDS, contenders, due, noise, ranked
from raytune_hpo.search import check_options
from raytune_hpo.states import Outcome
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.simulation import Faults, Simulation, make_experiment

OBJECTIVE = Objective("value", "max")


def ledger(*values: float | None, again: dict[int, list[float | None]] | None = None) -> Ledger:
    """Trials with these values, then rounds of replicates; None: it diverged."""
    made, number = Ledger(OBJECTIVE), 0

    def train(value: float | None, **fields: Any) -> None:
        nonlocal number
        trial_id = f"t{number:05d}"
        number += 1
        made.apply(events.Suggested(trial_id, fields.pop("config", {"x": number}), **fields))
        made.apply(events.Reported(trial_id, 0, 1, {"value": math.nan if value is None else value}, 1.0))
        made.apply(events.Ended(trial_id, Outcome.DIVERGED if value is None else Outcome.COMPLETED, "max_epochs"))

    for value in values:
        train(value)
    rounds = max(map(len, (again or {}).values()), default=0)
    for repeat in range(rounds):
        for parent, found in (again or {}).items():
            if repeat < len(found):
                of = {"origin": events.Origin.REPLICATE, "replicate_of": f"t{parent:05d}", "repeat": repeat + 1}
                train(found[repeat], **of)
    return made


def ids(trials: Any) -> list[str]:
    return [t.id for t in trials]


def asked(made: Ledger, k: int = 3) -> list[str]:
    return due(made.trials.values(), OBJECTIVE, k)


def test_the_best_are_trained_again() -> None:
    assert asked(ledger(0.5, 0.9, None, 0.8, 0.7)) == ["t00001", "t00003", "t00004"]
    assert asked(ledger(0.5, None)) == []  # there is nothing to compare
    assert asked(ledger()) == []


def test_the_best_by_the_mean_wins_and_a_replicate_never_does() -> None:
    made = ledger(0.9, 0.8, 0.7, again={0: [0.6], 1: [0.99]})
    assert made.winner() is made.best_trial is made.trials["t00001"]
    assert ids(ranked(made.trials.values(), OBJECTIVE)) == ["t00001", "t00000", "t00002"]
    assert contenders(made.trials.values())[1].summary == {
        "trials": ["t00004"],
        "values": [0.99],
        "failed": 0,
        "mean": pytest.approx(0.895),
        "std": pytest.approx(0.1344, abs=1e-4),
    }


def test_one_config_is_one_contender() -> None:
    made = ledger(0.5, 0.6)
    for trial in made.trials.values():
        trial.best_config = {"x": 1}
    assert asked(made) == []


def test_a_replicate_that_was_cut_short_does_not_count() -> None:
    made = ledger(0.9, 0.7)
    for number, parent in ((2, "t00000"), (3, "t00001")):
        made.apply(events.Suggested(f"t0000{number}", {}, origin=events.Origin.REPLICATE, replicate_of=parent))
    made.apply(events.Reported("t00002", 0, 1, {"value": 0.1}, 1.0))
    made.apply(events.RunStopped("time budget of 4 s used"))
    for number in (2, 3):
        made.apply(events.Ended(f"t0000{number}", Outcome.STOPPED, "time budget of 4 s used"))
    assert made.best_trial is made.winner() is made.trials["t00000"]


def test_a_trial_that_is_tried_again_after_the_race_runs_in_it() -> None:
    made = ledger(0.9, 0.8, again={0: [0.91], 1: [0.79]})
    made.apply(events.Suggested("t00004", {"x": 9}))
    made.apply(events.Ended("t00004", Outcome.FAILED, "error"))
    made.apply(events.Reopened("t00004"))
    made.apply(events.Reported("t00004", 0, 1, {"value": 0.99}, 1.0))
    made.apply(events.Ended("t00004", Outcome.COMPLETED, "max_epochs"))
    assert asked(made) == ["t00004"]
    assert made.best_trial is made.winner() is made.trials["t00000"]  # as long as nothing else is known of it


def test_until_each_was_trained_again_their_own_values_count() -> None:
    made = ledger(0.9, 0.8, again={0: [0.1]})
    made.apply(events.Suggested("t00003", {}, origin=events.Origin.REPLICATE, replicate_of="t00001", repeat=1))
    assert made.best_trial is made.winner() is made.trials["t00000"]


def test_one_that_fails_on_another_seed_is_no_winner() -> None:
    made = ledger(0.9, 0.8, 0.7, again={0: [None], 1: [0.75], 2: [0.74]})
    assert made.winner() is made.trials["t00001"]
    assert asked(made) == ["t00001", "t00002"]  # which the noise does not keep apart


def test_a_race_goes_on_while_noise_hides_the_best() -> None:
    assert asked(ledger(0.90, 0.89, 0.50, again={0: [0.88], 1: [0.91], 2: [0.52]})) == ["t00001", "t00000"]
    assert asked(ledger(0.90, 0.80, again={0: [0.901], 1: [0.801]})) == []
    close = {0: [0.88, 0.91, 0.9, 0.89], 1: [0.91, 0.89, 0.9, 0.9]}
    assert asked(ledger(0.90, 0.89, again={i: found[:3] for i, found in close.items()})) != []
    assert len(close[0]) == MOST_ROUNDS
    assert asked(ledger(0.90, 0.89, again=close)) == []
    same = ledger(0.9, 0.9, again={0: [0.9], 1: [0.9]})
    assert noise(contenders(same.trials.values())) == 0
    assert len(asked(same)) == 2  # equal ones are not apart


@pytest.mark.parametrize("scheduler", ["fifo", "asha", "hyperband", "freeze_thaw"])
def test_neither_scheduler_nor_search_hears_of_them_and_a_crash_changes_nothing(scheduler: str) -> None:
    fields = {"samples": 15, "epochs": 9, "seed": 1, "searcher": "evolutionary"}
    faults = Faults(raises=0.02, nan=0.01, lost=0.02)
    experiment = make_experiment(scheduler, **fields, replicate=3)
    calm = Simulation(experiment, faults=faults).run()
    plain = Simulation(make_experiment(scheduler, **fields), faults=faults).run()
    check_sound(calm)
    found = list(calm.population.trials.values())
    assert [t.config for t in found[:15]] == [t.config for t in plain.population.trials.values()]
    assert [t.epoch for t in found[:15]] == [t.epoch for t in plain.population.trials.values()]
    assert [t.replicate_of for t in found[15:18]] == ids(ranked(found[:15], OBJECTIVE)[:3])
    assert {t.repeat for t in found[15:18]} == {FIRST_REPEAT}
    assert len(calm.population.search.history) == 15
    for step in (calm.appends // 2, calm.appends - 9, calm.appends - 2):
        crashed = Simulation(experiment, faults=faults, crash_steps={step}).run()
        check_sound(crashed)
        check_same_table(calm, crashed)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"replicate": 1}, "2 or more"),
        ({"replicate": -1}, "replicate"),
        ({"replicate": 2, "scheduler": "pbt"}, "pbt"),
        ({"replicate": 5, "checkpoint": {"keep_trials": 3}}, "keep_trials, 3"),
        ({"replicate": 2, "searcher": "repeat", "start_points": [{"lr": 0.1}]}, "repeat"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ExperimentError, match=says):
        small(**fields)


def small(**fields: Any) -> Experiment:
    from raytune_hpo import Float

    values = {"name": "small", "task": "digits", "space": {"lr": Float(1e-3, 1.0, "log")}, "max_epochs": 3, **fields}
    return Experiment(**{"executor": "inline", "num_samples": 4, "searcher": "random", "scheduler": "fifo", **values})


def test_a_run_of_real_trainings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(small(storage=str(tmp_path), replicate=2))
    again = [t for t in results.ledger.trials.values() if t.replicate_of is not None]
    assert len(again) >= 2
    assert results.best is not None
    assert results.best.trial_id in {t.replicate_of for t in again}
    assert results.best.checkpoint is not None
    assert results.best.test is not None
    own = results.ledger.trials[results.best.trial_id]
    assert all(value != own.best for value in results.best.replicates["values"])  # another seed, another split
    assert load_results(results.run_dir).best == results.best
    assert [row["replicate_of"] for row in results.rows()[4:]] == [t.replicate_of for t in again]
    from raytune_hpo.cli.main import main

    assert main(["best", str(results.run_dir)]) == 0
    assert "again from other seeds: " in capsys.readouterr().out
    assert causes(results) == []  # those that are no winner have not failed
    assert resume(results.run_dir).best == results.best
    confirm(results.run_dir, k=2, seeds=2)  # of seeds of its own: FIRST_REPEAT is above all of them
    assert check_options("repeat", {"repeats": FIRST_REPEAT})
    with pytest.raises(ExperimentError, match="repeats"):
        check_options("repeat", {"repeats": FIRST_REPEAT + 1})
    assert small(replicate=2).as_panda().resolved.replicate == 0


def test_of_a_time_budget_the_rest_is_theirs(tmp_path: Path) -> None:
    results = run(small(storage=str(tmp_path), replicate=2, num_samples=100_000, time_budget_s=4.0, max_concurrent=4))
    assert any(t.replicate_of is not None for t in results.ledger.trials.values())
    assert any("80% of the time" in event.text for event in results.of(events.Noticed))
