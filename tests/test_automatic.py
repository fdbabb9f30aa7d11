"""What "auto" stands for, and what is said of it and of a pairing."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from raytune_hpo import Choice, Experiment, Float, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.experiment import automatic
from raytune_hpo.experiment.automatic import chosen, pairing

SPACE = {"lr": Float(1e-4, 1e-1, "log")}


def made(**fields: Any) -> Experiment:
    return Experiment(**{"name": "auto", "task": "digits", "space": SPACE, **fields})


def names(experiment: Experiment) -> tuple[str, str]:
    return experiment.resolved.searcher.name, experiment.resolved.scheduler.name


def test_the_default_is_auto_and_both_choices_are_on_record() -> None:
    experiment = made()
    assert names(experiment) == ("bayesopt", "freeze_thaw")
    assert chosen(experiment) == ["auto: searcher bayesopt and scheduler freeze_thaw"]
    again = Experiment.from_json(json.loads(json.dumps(experiment.to_json())))
    assert again.resolved.to_json() == experiment.resolved.to_json()
    assert chosen(again) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"searcher": "random"}, ("random", "freeze_thaw")),
        ({"searcher": "coarse_to_fine"}, ("coarse_to_fine", "asha")),
        ({"scheduler": "asha"}, ("bayesopt", "asha")),
        ({"scheduler": "pbt"}, ("random", "pbt")),
        ({"scheduler": {"name": "pb2"}}, ("random", "pb2")),
        ({"scheduler": "panda"}, ("random", "panda")),
        ({"max_epochs": 3, "searcher": "hyperopt"}, ("hyperopt", "fifo")),
        ({"max_epochs": 4}, ("bayesopt", "freeze_thaw")),
        ({"num_samples": 100_000}, ("bayesopt", "freeze_thaw")),
        ({"space": {**SPACE, "hidden_units": Choice(list(range(1, 101)))}}, ("optuna", "freeze_thaw")),
    ],
)
def test_what_it_stands_for(fields: dict[str, Any], expected: tuple[str, str]) -> None:
    assert names(made(**fields)) == expected


def test_without_optuna_it_is_hyperopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert names(made(space={"hidden_units": Choice(list(range(1, 101)))}))[0] == "hyperopt"


def test_a_foreign_searcher_goes_with_asha() -> None:
    from ray.tune.search.hyperopt import HyperOptSearch

    experiment = made(searcher=HyperOptSearch(metric="validation_accuracy", mode="max"))
    assert experiment.resolved.scheduler.name == "asha"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"searcher": "random", "scheduler": {"name": "asha", "grace_period": 1}, "max_epochs": 52},
            "asha judges trials from epoch 1 of 52 on, by the first 2% of a training, and lets 1 in 3 go on",
        ),
        (
            {"max_epochs": 81},
            "freeze_thaw pauses trials from epoch 9 of 81 on, by the first 11% of a training, and lets 1 in 2 go on; "
            "bayesopt learns from all of them",
        ),
        (
            {"searcher": "random", "scheduler": "median", "max_epochs": 20},
            "median judges trials from epoch 2 of 20 on, by the first 10% of a training",
        ),
    ],
)
def test_what_a_pairing_means(fields: dict[str, Any], said: str) -> None:
    assert pairing(made(**fields).resolved) == [said]


@pytest.mark.parametrize("scheduler", ["fifo", "pbt", "hyperband", {"name": "asha", "grace_period": 27}])
def test_where_there_is_nothing_to_say(scheduler: Any) -> None:
    assert pairing(made(searcher="random", scheduler=scheduler).resolved) == []


def test_validate_and_run_say_it(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Experiment, Float\n"
        "experiment = Experiment(name='auto', task='digits', space={'lr': Float(1e-4, 1e-1, 'log')},\n"
        "                        num_samples=3, max_epochs=4, executor='inline')\n"
    )
    assert main(["validate", str(file)]) == 0
    lines = ["auto: searcher bayesopt and scheduler freeze_thaw", "freeze_thaw pauses trials from epoch 1 of 4 on"]
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines)
    assert main(["run", str(file), "--run-dir", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert all(printed.count(line) == 1 for line in lines)
    noticed = [e.text for e in load_results(tmp_path / "run").events if type(e).__name__ == "Noticed"]
    assert any(text.startswith("auto: searcher bayesopt") for text in noticed), "not in the journal"


def test_the_docstring_names_the_bounds() -> None:
    assert automatic.__doc__ is not None
    assert all(name in automatic.__doc__ for name in ("MOST_COLUMNS", "SHORT"))
