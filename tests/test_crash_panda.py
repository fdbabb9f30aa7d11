"""kill -9 in the middle of a panda's folds, resume, and compare with a run that nobody touched; replay its weights."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from process_tree import descendants, kill, workers
from test_crash import start, steps, uninterrupted, wait_for_steps

from raytune_hpo import Results, load_results
from raytune_hpo.cli.main import main

# Both at once: a trial of three models, one on each fold, under automatic care.
SOURCE = """
from raytune_hpo import Experiment, Float

experiment = Experiment(
    name="crash",
    task="digits",
    space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": 16, "dropout": 0.2, "batch_size": 256},
    scheduler={"name": "panda", "nudge_every": 4, "window": 2, "patience": 3},
    start_points=[{"lr": 0.02}],
    folds=3, max_epochs=16, seed=5,
)
"""


def resumed(file: Path, run_dir: Path) -> Results:
    """Run with one kill of each kind at random steps, each after at least one new step."""
    rng = random.Random(7)
    process = start("run", str(file), "--run-dir", str(run_dir), "--json")
    for victim in ("everything", "worker", "driver"):
        assert wait_for_steps(process, run_dir, steps(run_dir) + rng.randint(2, 7)), process.communicate()[1]
        if victim == "worker":
            kill([rng.choice(workers(process.pid))])
            continue
        kill([process.pid, *(descendants(process.pid) if victim == "everything" else [])])
        process.communicate()
        process = start("resume", str(run_dir), "--json")
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["status"] == "finished"
    return load_results(run_dir)


@pytest.mark.timeout(600)
def test_nothing_is_lost_and_the_weights_come_from_the_journal(tmp_path: Path, capsys) -> None:
    file = tmp_path / "crash.py"
    file.write_text(SOURCE)
    calm = uninterrupted(file, tmp_path / "calm", "--executor", "inline")
    killed = resumed(file, tmp_path / "killed")
    assert killed.ledger.sessions == 3
    assert killed.perturbations == calm.perturbations
    assert len(calm.perturbations) >= 3
    columns = calm.curves.columns.drop("seconds")
    assert killed.curves[columns].to_dict("records") == calm.curves[columns].to_dict("records")
    assert {"validation_accuracy", "validation_accuracy_std"} <= set(columns)
    assert killed.best is not None
    assert calm.best is not None
    assert killed.best.test == calm.best.test
    assert main(["replay", str(tmp_path / "killed")]) == 0
    assert "the same weights" in capsys.readouterr().out
