"""Every end has a reason that people and programs can read; only the objective ends a trial for not being finite."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Choice, Experiment, report, run
from raytune_hpo.cli.main import main
from raytune_hpo.results.results import Results

HOW = ["well", "nan at 3", "silent", "raises", "wordy", "infinite"]


def behaves(config: dict[str, Any]) -> None:
    how = config["how"]
    for epoch in range(1, 5):
        if how == "raises" and epoch == 2:
            raise ValueError("no such file: data.csv")
        if how == "wordy":
            raise ValueError("far too much to be told in a column of a table, " * 20)
        if how == "silent":
            return
        value = {"nan at 3": math.nan, "infinite": math.inf}.get(how, 0.5) if epoch == 3 else epoch / 10
        # What was not measured in this epoch is NaN, in PyTorch's and Lightning's habit.
        report({"score": value, "val_loss": math.nan, "aux_loss": math.inf, "train_loss": math.nan})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    made = Experiment(
        name="reasons",
        task=behaves,
        space={"how": Choice(HOW)},
        metric="score",
        mode="max",
        searcher="grid",
        scheduler="fifo",
        max_epochs=4,
        max_failures=0,
        executor="inline",
    )
    return run(made, tmp_path_factory.mktemp("reasons") / "run", quiet=True)


@pytest.fixture(scope="module")
def rows(results: Results) -> dict[str, dict[str, Any]]:
    return {row["config"]["how"]: row for row in results.rows()}


def test_b22_a_metric_beside_the_objective_may_be_nan(rows: dict[str, dict[str, Any]]) -> None:
    assert (rows["well"]["status"], rows["well"]["epochs"]) == ("completed", 4)


def test_near_b22_the_objective_itself_still_decides(rows: dict[str, dict[str, Any]]) -> None:
    assert [(rows[how]["status"], rows[how]["epochs"]) for how in ("nan at 3", "infinite")] == [("diverged", 3)] * 2


def test_b15_a_diverged_trial_says_what_was_not_finite_and_when(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["nan at 3"]["reason"] == rows["nan at 3"]["error"] == "score is nan at epoch 3"
    assert rows["infinite"]["reason"] == "score is inf at epoch 3"


def test_near_b15_a_failed_trial_has_its_error(rows: dict[str, dict[str, Any]]) -> None:
    assert "returned without a report" in rows["silent"]["error"]
    assert rows["raises"]["error"].endswith(", in behaves: ValueError: no such file: data.csv")
    assert all(row["reason"] for row in rows.values())
    assert all(row["error"] for row in rows.values() if row["status"] in ("failed", "diverged"))


def test_b15_the_table_has_a_column_of_reasons(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trials", str(results.run_dir)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    at = head.index("reason"), head.index("epochs")
    found = {line.split("how=")[1]: line[at[0] : at[1]].strip() for line in lines}
    assert found["nan at 3"] == "score is nan at epoch 3"
    assert found["raises"].endswith(", in behaves: ValueError: no such file: data.csv")
    assert found["well"] == "max_epochs"
    assert found["wordy"].endswith("...")
    assert len(found["wordy"]) == 80
    assert main(["trials", str(results.run_dir), "--json"]) == 0
    told = {row["config"]["how"]: row["error"] for row in json.loads(capsys.readouterr().out)["trials"]}
    assert told["wordy"].count("far too much") > 5


def test_near_b15_the_closing_summary_says_why(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", str(results.run_dir)]) == 1  # of a finished run, its results
    out = capsys.readouterr().out
    assert "1 failed, t00002: the trainable returned without a report" in out
    assert "2 diverged" in out
    assert "and 2 other reasons: raytune-hpo trials" in out


def test_near_b22_a_tasks_own_training_loss_decides(tmp_path: Path) -> None:
    """A step that is too long: the model is lost, whatever its accuracy is said to be."""
    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Choice, Experiment\n"
        "experiment = Experiment(name='long', task='digits', space={'lr': Choice([1e20, 1e22]), 'optimizer': 'sgd'},"
        " num_samples=1, max_epochs=2, executor='inline')\n"
    )
    main(["run", str(file), "--run-dir", str(tmp_path / "run"), "--quiet"])
    from raytune_hpo import load_results

    (row,) = load_results(tmp_path / "run").rows()
    assert row["status"] == "diverged"
    assert row["reason"] == "train_loss is nan at epoch 1"
