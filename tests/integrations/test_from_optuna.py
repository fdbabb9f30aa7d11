"""Optuna objectives as they stand: what they ask for becomes the space, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, from_optuna, load_results, run
from raytune_hpo.integrations.optuna import Trial
from raytune_hpo.journal.events import Amended, Discovered, Reported, Suggested
from raytune_hpo.results.results import Results
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.met import space_of_met
from raytune_hpo.space.parameters import Choice, Float, Int

FILE = """
import time
from raytune_hpo import from_optuna, load_state

class TrialPruned(Exception):
    pass

def objective(trial):
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x = trial.suggest_float("x", 1e-5, 1e-1, log=True)
    y = trial.suggest_float("y", 0, 1, step=0.25) if kind == "b" else 0.3
    layers = [trial.suggest_int(f"u{i}", 4, 128) for i in range(trial.suggest_int("n", 1, 3))]
    for step in range(4):
        time.sleep(0.02)
        trial.report((y - 0.5) ** 2 + abs(x - 0.01) + sum(layers) / 1000 + 1 / (step + 1), step)
        if trial.should_prune():
            raise TrialPruned
    return trial.params["x"]

experiment = from_optuna(objective, n_trials=14, max_epochs=4, searcher={"name": "optuna", "n_initial": 4},
                         executor="inline", storage="runs")
"""


def objective(trial: Any) -> float:
    kind = trial.suggest_categorical("kind", ["a", "b"])
    x: float = trial.suggest_float("x", 0.0, 1.0)
    return x + (trial.suggest_int("n", 1, 5) if kind == "b" else 0)


def experiment(given: Any = objective, **fields: Any) -> Experiment:
    return from_optuna(given, **{"max_epochs": 1, "n_trials": 12, "executor": "inline", **fields})


def table(results: Results) -> list[Any]:
    reports = [(e.trial, e.epoch, e.metrics) for e in results.of(Reported)]
    return [reports, [(t.id, t.config, t.status, t.best) for t in results.ledger.trials.values()]]


def test_what_trials_ask_for_becomes_the_space(tmp_path: Path) -> None:
    results = run(experiment(), tmp_path / "run", quiet=True)
    space = SearchSpace.from_json(results.experiment["space"])
    assert {path: type(p) for path, p in space.parameters.items()} == {"kind": Choice, "x": Float, "n": Int}
    (condition,) = space.parameters["n"].conditions
    assert (condition.parent, condition.op, condition.operand) == ("kind", "==", "b")
    for trial in results.ledger.trials.values():
        assert ("n" in trial.config) == (trial.config["kind"] == "b")
        assert trial.best == trial.config["x"] + trial.config.get("n", 0)
    first = next(results.of(Suggested))
    assert first.config == {}
    assert len(list(results.of(Discovered))) == 12
    assert all(amendment.grown for amendment in results.of(Amended))


@pytest.mark.large
@pytest.mark.usefixtures("ray_session")
def test_trials_in_processes_search_the_same_way(tmp_path: Path) -> None:
    results = run(experiment(executor="processes", max_concurrent=2), tmp_path / "run", quiet=True)
    assert results.counts["completed"] == 12
    assert len(SearchSpace.from_json(results.experiment["space"])) == 3


def test_killed_and_resumed_it_is_the_same_search(tmp_path: Path) -> None:
    (tmp_path / "study.py").write_text(FILE)

    def raytune_hpo(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "raytune_hpo", *arguments, "--quiet"]
        return subprocess.Popen(command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL)

    assert raytune_hpo("run", "study.py", "--run-dir", "whole").wait(120) == 0
    process = raytune_hpo("run", "study.py", "--run-dir", "run")
    journal = tmp_path / "run" / "journal.jsonl"
    for reports in (3, 14, 30):
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b'"report"') < reports:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process = raytune_hpo("resume", "run")
    assert process.wait(120) == 0
    whole, killed = load_results(tmp_path / "whole"), load_results(tmp_path / "run")
    assert killed.ledger.sessions > 1
    assert table(killed) == table(whole)
    assert killed.experiment["space"] == whole.experiment["space"]


def test_an_objective_is_found_again_by_its_name() -> None:
    recorded = experiment().to_json()
    assert recorded["task"]["as"] == "optuna"
    again = Experiment.from_json(recorded)
    assert again.to_json() == recorded
    assert again.resolved.task.__wrapped__ is objective  # type: ignore[union-attr]
    with pytest.raises(ExperimentError, match="must be one of optuna"):
        Experiment.from_json({**recorded, "task": {**recorded["task"], "as": "os"}})


def test_conditions_are_what_tells_those_apart_that_ask() -> None:
    kind, n, u = Choice(["a", "b", "c"]).to_json(), Int(1, 3).to_json(), Float(0.0, 1.0).to_json()
    few: list[Any] = [
        ({"kind": kind, "n": n}, {"kind": "a", "n": 1}),
        ({"kind": kind, "n": n, "u": u}, {"kind": "b", "n": 3, "u": 0.5}),
    ]
    (condition,) = space_of_met(few).parameters["u"].conditions
    assert (condition.parent, condition.op, condition.operand) == ("n", ">=", 3), "the nearest one that was asked for"
    more = [*few, ({"kind": kind, "n": n, "u": u}, {"kind": "c", "n": 1, "u": 0.1})]
    (condition,) = space_of_met(more).parameters["u"].conditions
    assert (condition.parent, condition.op, condition.operand) == ("kind", "in", ["b", "c"])
    none = [*more, ({"kind": kind, "n": n, "u": u}, {"kind": "a", "n": 2, "u": 0.1})]
    assert space_of_met(none).parameters["u"].conditions == ()
    wide = space_of_met([({"u": u}, {"u": 0.5}), ({"u": Float(-1.0, 0.5).to_json()}, {"u": 0.1})])
    assert wide.parameters["u"] == Float(-1.0, 1.0)


def test_a_trial_by_hand() -> None:
    trial = Trial({"x": 0.25, "far": 7.0})
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert 0 <= trial.suggest_float("far", 0, 1) <= 1, "a proposal that is outside of what this trial asks for"
    assert trial.suggest_int("one", 3, 3) == 3
    assert trial.suggest_categorical("same", ["x"]) == "x"
    assert trial.suggest_int("even", 2, 9, step=2) in (2, 4, 6, 8)
    assert 1e-3 <= trial.suggest_loguniform("l", 1e-3, 1.0) <= 1.0
    assert trial.suggest_discrete_uniform("q", 0.0, 1.0, 0.25) in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert trial.number == 0
    assert not trial.should_prune()


def asks(text: str) -> Any:
    def wrong(trial: Any) -> Any:
        return eval(text)

    return wrong


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trial.suggest_float('x', 1, 0)", "must be below high"),
        ("trial.suggest_float('x', -1, 1, log=True)", "log scale needs low > 0"),
        ("trial.suggest_float('a.b', 0, 1)", "text without a dot"),
        ("trial.suggest_categorical('x', [{}, 1])", "must be None, bool, int, float or str"),
        ("[trial.suggest_float('x', 0, 1), trial.suggest_float('x', 0, 2)][0]", "is asked for twice"),
        ("trial.study", "has no equal"),
        ("(1.0, 2.0)", "returned 2 values"),
        ("'x'", "must return a number"),
        ("None", "must return a number, not None"),
        ("trial.suggest_normal('x', 0, 1)", "no attribute 'suggest_normal'"),
    ],
)
def test_what_has_no_equal_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    results = run(experiment(asks(text), n_trials=2, max_failures=0), tmp_path / "run", quiet=True)
    errors = {t.error for t in results.ledger.trials.values()}
    assert len(errors) == 1
    (error,) = errors
    assert expected in str(error)
    assert "\n" not in str(error)


def test_a_name_of_two_kinds_fails_the_trial_that_comes_with_the_second(tmp_path: Path) -> None:
    def kinds(trial: Any) -> float:
        if trial.number == 1:
            return float(trial.suggest_int("x", 1, 3))
        return float(trial.suggest_float("x", 0.0, 1.0))

    results = run(experiment(kinds, n_trials=4, max_failures=0), tmp_path / "run", quiet=True)
    assert [t.status.value for t in results.ledger.trials.values()] == ["completed", "failed", "completed", "completed"]
    assert "another kind of parameter" in str(results.ledger.trials["t00001"].error)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_epochs": None}, "how often a trial calls trial.report"),
        ({"direction": "up"}, "must be one of minimize, maximize"),
        ({"n_trials": 0}, "num_samples"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_wrong_calls(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises((ExperimentError, TypeError), match=expected):
        from_optuna(objective, **{"max_epochs": 3, **fields})
    with pytest.raises(ExperimentError, match="a function of a trial"):
        from_optuna(3, max_epochs=1)  # type: ignore[arg-type]


def test_a_study_says_how_it_would_search() -> None:
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for pruner, scheduler in (
        (optuna.pruners.NopPruner(), "fifo"),
        (optuna.pruners.MedianPruner(), "median"),
        (optuna.pruners.HyperbandPruner(), "hyperband"),
        (optuna.pruners.SuccessiveHalvingPruner(), "asha"),
    ):
        study = optuna.create_study(direction="maximize", pruner=pruner, sampler=optuna.samplers.RandomSampler())
        found = from_optuna(objective, max_epochs=9, study=study).resolved
        assert (found.scheduler.name, found.searcher.name, found.objective.mode) == (scheduler, "random", "max")
    study = optuna.create_study()
    study.optimize(objective, n_trials=2)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert from_optuna(objective, max_epochs=1, study=study).resolved.searcher.name == "optuna"
    assert any("2 trials of the study are left out" in str(w.message) for w in said)
    with pytest.raises(ExperimentError, match="several objectives"):
        from_optuna(objective, max_epochs=1, study=optuna.create_study(directions=["minimize", "maximize"]))
    with pytest.raises(ExperimentError, match="CmaEsSampler"):
        from_optuna(objective, max_epochs=1, study=optuna.create_study(sampler=optuna.samplers.CmaEsSampler()))
    with pytest.raises(ExperimentError, match="ThresholdPruner"):
        from_optuna(objective, max_epochs=1, study=optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0)))
