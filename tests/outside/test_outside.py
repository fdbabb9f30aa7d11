"""A searcher, a scheduler, a metric, a trainer, listeners and a class Trainable of somebody else's, from one experiment
file, through kill -9 and resume."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_tree import descendants, kill

from raytune_hpo import events, follow, load_results
from raytune_hpo.results.results import Results

HERE = Path(__file__).parent
KILLS = 1  # each study once; tests/test_crash.py has many


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raytune_hpo", *arguments]


def steps(run_dir: Path) -> int:
    journal = run_dir / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def run_with_kills(half: str, run_dir: Path, rng: random.Random) -> str:
    """Run to the end with KILLS kills of the driver and everything below it. The last session's stderr."""
    environment = {**os.environ, "LAB_STUDY": half}
    arguments = ["run", str(HERE / "study.py"), "--run-dir", str(run_dir), "--json"]
    for kills_left in range(KILLS, -1, -1):
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        wanted = steps(run_dir) + rng.randint(4, 14)
        while kills_left and steps(run_dir) < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        if kills_left:
            kill([process.pid, *descendants(process.pid)])
        stdout, stderr = process.communicate()
        arguments = ["resume", str(run_dir), "--json"]
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["status"] == "finished"
    return stderr


def check_every_event_once(run_dir: Path, results: Results) -> None:
    lines = (run_dir / "events.txt").read_text().splitlines()
    assert lines == [
        f"{step.first + i} {step.number} {event.KIND}" for step in results.steps for i, event in enumerate(step.events)
    ]
    assert results.ledger.sessions == 1 + KILLS


@pytest.mark.timeout(400)
def test_a_task_of_ones_own_with_everything_of_ones_own(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_with_kills("task", run_dir, random.Random(1))
    results = load_results(run_dir)
    check_every_event_once(run_dir, results)
    recorded = results.experiment
    assert recorded["searcher"] == {"name": "hill_climb", "from": {"import": "lab.searcher:HillClimb"}, "n_initial": 4}
    assert recorded["scheduler"] == {"name": "foreign", "class": "lab.scheduler:PatientASHA"}
    assert len(results.trials) == 16
    assert results.counts["stopped"] > 0
    assert {t.status for t in results.ledger.trials.values()} <= {"completed", "stopped"}
    assert all(results.ledger.trials[f"t0000{i}"].epoch == 12 for i in range(3)), "the spared ones were not spared"
    assert results.best is not None
    assert results.best.test is not None
    assert 0 <= results.best.test["test_balanced"] <= 1
    written = sorted((run_dir / "listeners" / "TBXLoggerCallback").glob("t*/events.out.tfevents.*"))
    assert {path.parent.name for path in written} == {f"t{i:05d}" for i in range(16)}
    assert not [e.text for e in results.of(events.Noticed) if "mismatch" in e.text or "otherwise" in e.text]


@pytest.mark.timeout(400)
def test_a_class_trainable_under_objects_of_other_libraries(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_with_kills("class", run_dir, random.Random(2))
    results = load_results(run_dir)
    check_every_event_once(run_dir, results)
    assert results.experiment["scheduler"]["class"].endswith(":MedianStoppingRule")
    assert results.experiment["searcher"]["class"].endswith(":TPESampler")
    for trial in results.ledger.trials.values():
        x = trial.config["x"]
        assert trial.metrics["height"] == pytest.approx(trial.epoch * x * (2 - x)), "it did not go on from where it was"
    curves = results.curves
    assert all(list(c.epoch) == list(range(1, len(c) + 1)) for _, c in curves.groupby("trial_id"))
    notices = [e.text for e in results.of(events.Noticed)]
    failed = "listener Broken failed and is switched off: RuntimeError: the sink is gone"
    assert 1 <= notices.count(failed) <= 1 + KILLS, "reported once a session"


def test_an_export_is_the_same_class_over_a_finished_run(tmp_path: Path) -> None:
    from written_run import finished_run

    sys.path.insert(0, str(HERE))
    from lab.listener import LineAnEvent

    run_dir = finished_run(tmp_path / "run")
    follow(run_dir, LineAnEvent)
    once = (run_dir / "events.txt").read_text()
    assert once.count("\n") == len(load_results(run_dir).events)
    follow(run_dir, LineAnEvent)
    assert (run_dir / "events.txt").read_text() == once


def test_only_public_names_are_imported() -> None:
    for file in (*HERE.glob("lab/*.py"), HERE / "study.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("raytune_hpo"):
                assert node.module == "raytune_hpo", f"{file.name} imports from {node.module}"
