"""A run whose trials fail alike stops, says why, and can be tried again once the cause is mended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Int, confirm, events, load_results, resume, retry, run
from raytune_hpo.cli.main import main
from raytune_hpo.results.sealed_test import openings

EXPERIMENT = """
import json, pathlib, tempfile
from raytune_hpo import Experiment, Float, get_checkpoint, report

HERE = pathlib.Path(__file__).parent

def train(config):
    epoch, checkpoint = 0, get_checkpoint()
    if checkpoint:
        epoch = json.loads((pathlib.Path(checkpoint.path) / "epoch").read_text())
    (HERE / "data").read_text()
    while epoch < 3:
        epoch += 1
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "epoch").write_text(json.dumps(epoch))
            report({"score": config["x"] * epoch}, checkpoint=folder)

experiment = Experiment(name="alike", task=train, space={"x": Float(0, 1)}, metric="score", mode="max",
                        scheduler="fifo", num_samples=8, max_epochs=3, executor="inline")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "exp.py"
    made.write_text(EXPERIMENT)
    return made


def test_b16_trials_that_fail_alike_stop_the_run(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    assert main(["run", str(file), "--run-dir", str(run_dir)]) == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("stopped: ")]
    assert "3 trials in a row failed: exp.py, line 11, in train: FileNotFoundError" in line
    assert f"raytune-hpo retry {run_dir}" in line
    assert f"raytune-hpo resume {run_dir}" in line
    results = load_results(run_dir)
    assert (results.status, results.counts["failed"], len(results.ledger.trials)) == ("interrupted", 3, 3)
    assert results.close_reason in line
    (closed,) = results.of(events.Closed)
    assert closed.reason == results.close_reason

    # A new session begins a new row: the same again, with others.
    assert main(["resume", str(run_dir), "--json"]) == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert (document["counts"]["failed"], document["status"]) == (6, "interrupted")
    assert "3 trials in a row" in document["close_reason"]
    assert "raytune-hpo retry" in captured.err

    # Nothing is mended: those that are tried again stop it once more.
    assert main(["retry", str(run_dir), "--quiet"]) == 1
    assert load_results(run_dir).counts["failed"] == 3
    assert load_results(run_dir).counts["pending"] == 3

    (tmp_path / "data").touch()
    assert main(["retry", str(run_dir), "t00001"]) == 1  # two have failed still
    assert load_results(run_dir).counts == {**dict.fromkeys(results.counts, 0), "completed": 6, "failed": 2}
    assert main(["retry", str(run_dir)]) == 0
    done = load_results(run_dir)
    assert (done.status, done.counts["completed"], done.close_reason) == ("finished", 8, None)
    assert {row["failures"] for row in done.rows()} == {0}
    assert all(row["error"] is None for row in done.rows())


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (["t00099"], "no such trial in this run; there are t00000 to t00007"),
        (["t00000"], "is completed"),
        ([], "no fail"),
    ],
)
def test_b5_what_has_not_failed_is_not_tried_again(
    trials: list[str], expected: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").touch()
    run_dir = tmp_path / "run"
    assert main(["run", str(file), "--run-dir", str(run_dir), "--quiet"]) == 0
    before = (run_dir / "journal.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["retry", str(run_dir), *trials]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert expected in err
    assert len(err.splitlines()) == 1
    assert (run_dir / "journal.jsonl").read_bytes() == before


# From Python, with functions of this file ---------------------------------------------------------------

BROKEN: set[str] = set()
"""The kinds of trial that fail now; read by `trains`, which runs in this process."""


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    BROKEN.clear()
    yield
    BROKEN.clear()


def trains(config: dict[str, Any]) -> Iterator[dict[str, float]]:
    n = config["n"]
    if "all" in BROKEN:
        raise ValueError(f"number {n} cannot be read")
    if "places" in BROKEN and n % 2:
        raise ValueError("odd")
    if "places" in BROKEN:
        raise ValueError("even")
    if "memory" in BROKEN:
        raise MemoryError(f"number {n}")
    if "late" in BROKEN and n % 2:
        yield {"value": 0.5}
        raise ValueError(f"number {n}, late")
    if "silent" in BROKEN:
        return
    for epoch in range(1, 4):
        yield {"value": n * epoch / 10}


def made(**fields: Any) -> Experiment:
    usual: dict[str, Any] = {"num_samples": 7, "max_epochs": 3, "max_failures": 0, "scheduler": "fifo"}
    search = {"searcher": {"name": "grid", "points": 7}, "space": {"n": Int(0, 6)}, "metric": "value", "mode": "max"}
    return Experiment(name="alike", task=trains, executor="inline", **{**usual, **search, **fields})


@pytest.mark.parametrize(
    ("broken", "fields", "trials"),
    [
        ("all", {}, 3),
        ("all", {"fail_fast": 5}, 5),
        ("all", {"fail_fast": 1}, 1),
        ("all", {"fail_fast": None}, 7),
        ("all", {"max_failures": 1}, 3),
        ("silent", {}, 3),  # no traceback: the same text
        ("places", {}, 7),  # in this row no two are alike
        ("memory", {}, 7),  # may be their configs' fault
        ("late", {}, 7),  # others report in between
    ],
)
def test_near_b16_what_counts_as_alike(broken: str, fields: dict[str, Any], trials: int, tmp_path: Path) -> None:
    BROKEN.add(broken)
    results = run(made(**fields), tmp_path / "run", quiet=True)
    assert len(results.ledger.trials) == trials
    assert (results.close_reason is not None) == (results.status == "interrupted") == (trials < 7)


def test_near_b16_where_nothing_is_left_the_run_is_over(tmp_path: Path) -> None:
    BROKEN.add("all")
    results = run(made(num_samples=3), tmp_path / "run", quiet=True)
    assert (results.status, results.close_reason, results.counts["failed"]) == ("finished", None, 3)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "3"])
def test_near_b16_the_field_is_checked(value: Any) -> None:
    with pytest.raises(ExperimentError, match=r"fail_fast = .*must be an integer of at least 1"):
        made(fail_fast=value)


def test_near_b16_confirm_stops_too(tmp_path: Path) -> None:
    run(made(), tmp_path / "run", quiet=True)
    BROKEN.add("all")
    with pytest.raises(
        ExperimentError, match=r"repetitions = .*3 trials in a row failed: .*in trains: ValueError.*retry"
    ):
        confirm(tmp_path / "run", 4, 2, task=trains, quiet=True)
    BROKEN.clear()
    retry(tmp_path / "run" / "confirm", task=trains, quiet=True)
    assert confirm(tmp_path / "run", 4, 2, task=trains, quiet=True) is not None


def test_near_b5_a_retried_trial_may_become_the_winner_and_goes_on_where_it_was(tmp_path: Path) -> None:
    BROKEN.add("late")
    first = run(made(), tmp_path / "run", quiet=True)
    assert first.best is not None
    assert (first.counts["failed"], first.best.trial_id) == (3, "t00006")
    BROKEN.clear()
    again = retry(tmp_path / "run", "t00005", task=trains, quiet=True)
    assert again.counts["failed"] == 2
    row = again.rows()[5]
    assert (row["status"], row["epochs"], row["best"]) == ("completed", 3, 1.5)
    read = load_results(tmp_path / "run")
    assert read.rows() == again.rows()
    assert resume(tmp_path / "run", task=trains, quiet=True).rows() == again.rows()


def test_near_b5_a_stopped_runs_trials_are_not_continued(tmp_path: Path) -> None:
    BROKEN.add("late")
    run(made(stop={"target": 0.9}), tmp_path / "run", quiet=True)
    with pytest.raises(ExperimentError, match=r"was stopped \(target 0.9 reached\)"):
        retry(tmp_path / "run", task=trains, quiet=True)


def test_b5_the_test_split_is_opened_once(tmp_path: Path) -> None:
    os.environ["BROKEN_TASK"] = "1"
    try:
        file = tmp_path / "exp.py"
        file.write_text(TASK)
        assert main(["run", str(file), "--run-dir", str(tmp_path / "run"), "--quiet"]) == 1
    finally:
        del os.environ["BROKEN_TASK"]
    (before,) = openings(tmp_path / "run")
    assert main(["retry", str(tmp_path / "run"), "--quiet"]) == 0
    results = load_results(tmp_path / "run")
    assert results.counts["completed"] == 3
    assert openings(tmp_path / "run") == [before]


TASK = """
import os
from raytune_hpo import Choice, Digits, Experiment

class Breaks(Digits):
    def build_model(self, config):
        if "BROKEN_TASK" in os.environ and config["hidden_units"] != 8:
            raise ValueError("broken")
        return super().build_model(config)

experiment = Experiment(name="breaks", task=Breaks(), space={"hidden_units": Choice([8, 16, 32])}, searcher="grid",
                        scheduler="fifo", max_epochs=1, executor="inline")
"""
