"""A user's metrics may have any names: they overwrite no column of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from raytune_hpo import Experiment, ExperimentError, Int, report, run
from raytune_hpo.cli.main import main
from raytune_hpo.results.results import Results, as_columns

#: What users report beside the objective.
OURS = ("trial_id", "generation", "epoch", "seconds", "decision")
NAMES = (*OURS, "best", "status", "config.n", "metric.epoch", "config")


def trains(config: dict[str, Any]) -> None:
    for epoch in range(1, 4):
        report({"score": config["n"] + epoch, **{name: 1000.0 + i for i, name in enumerate(NAMES)}})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    made = Experiment(
        name="columns",
        task=trains,
        space={"n": Int(0, 1), "status": "constant", "best": 3},
        metric="score",
        mode="max",
        searcher="grid",
        scheduler="fifo",
        max_epochs=3,
        executor="inline",
    )
    return run(made, tmp_path_factory.mktemp("columns") / "run", quiet=True)


def test_a9_our_columns_of_the_curves_stay_ours(results: Results) -> None:
    curves = results.curves
    assert list(curves["trial_id"]) == ["t00000"] * 3 + ["t00001"] * 3
    assert list(curves["epoch"]) == [1, 2, 3] * 2
    assert list(curves["generation"]) == [0] * 6
    assert list(curves["decision"]) == ["continue", "continue", "complete"] * 2
    assert (curves["seconds"] < 60).all()


def test_a9_the_users_metrics_are_columns_beside_them(results: Results) -> None:
    curves = results.curves
    for i, name in enumerate(NAMES):
        column = f"metric.{name}" if name in OURS or name == "metric.epoch" else name
        assert list(curves[column]) == [1000.0 + i] * 6, name
    assert len(curves.columns) == 5 + 1 + len(NAMES)


def test_near_a9_the_trials_have_no_metrics_of_these_names(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trials", str(results.run_dir), "--csv"]) == 0
    (tmp_path / "trials.csv").write_text(capsys.readouterr().out)
    read = pd.read_csv(tmp_path / "trials.csv")
    assert list(read["status"]) == ["completed"] * 2
    assert list(read["best"]) == [3.0, 4.0]
    assert list(read["config.n"]) == [0, 1]
    assert list(read["config.best"]) == [3, 3]
    assert list(read["config.status"]) == ["constant"] * 2


def test_near_a9_no_two_metrics_share_a_column() -> None:
    names = [f"{'metric.' * n}{name}" for n in range(3) for name in ("epoch", "seconds", "loss")]
    assert len(as_columns(dict.fromkeys(names))) == len(names)
    assert as_columns({"loss": 1, "metric.loss": 2}) == {"loss": 1, "metric.loss": 2}


def test_near_a9_an_objective_of_such_a_name(tmp_path: Path) -> None:
    """It is compared by its own value, not by our epoch or time."""

    def slow(config: dict[str, Any]) -> None:
        for epoch in range(1, 4):
            report({"seconds": 100.0 - config["n"], "epoch": 7 * epoch})

    made = Experiment(
        name="objective", task=slow, space={"n": Int(0, 1)}, metric="seconds", mode="min", searcher="grid",
        max_epochs=3, executor="inline",
    )  # fmt: skip
    results = run(made, tmp_path / "run", quiet=True)
    assert results.best is not None
    assert (results.best.trial_id, results.best.metric) == ("t00001", 99.0)
    assert set(results.curves["metric.seconds"]) == {99.0, 100.0}


@pytest.mark.parametrize("name", ["epoch", "training_iteration"])
def test_near_a9_the_objective_is_not_the_time_it_is_compared_by(name: str) -> None:
    with pytest.raises(ExperimentError, match=f"metric = '{name}': is what schedulers count reports by"):
        Experiment(name="x", task=trains, space={"n": Int(0, 1)}, metric=name, mode="max")
