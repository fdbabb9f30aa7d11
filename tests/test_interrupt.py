"""Ctrl-C, SIGTERM, two processes on one run: the whole command, as a user meets it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raytune_hpo import load_results
from raytune_hpo.journal.events import SessionOpened, Started

# A trial waits after its fifth epoch for a file named "go" beside the experiment: no test is a race.
EXPERIMENT = """
import json, pathlib, tempfile, time
from ray import tune
from raytune_hpo import Experiment, Float

GO = pathlib.Path(__file__).parent / "go"

def train(config):
    epoch = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            epoch = json.loads((pathlib.Path(folder) / "state.json").read_text())
    while epoch < 30:
        epoch += 1
        time.sleep(0.05)
        while epoch == 5 and not GO.exists():
            time.sleep(0.05)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "state.json").write_text(json.dumps(epoch))
            tune.report({"score": config["x"] * epoch}, checkpoint=tune.Checkpoint.from_directory(folder))

experiment = Experiment(name="interrupted", task=train, space={"x": Float(0, 1)}, metric="score", mode="max",
                        scheduler="fifo", num_samples=4, max_epochs=30)
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "raytune_hpo.cli.main", *map(str, arguments)]


def start(*arguments: object) -> subprocess.Popen[str]:
    # A session of its own, as a terminal gives: signals sent to it must not reach pytest.
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_results(run_dir: Path, process: subprocess.Popen[str], lines: int) -> None:
    journal = run_dir / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    file = tmp_path / "experiment.py"
    file.write_text(EXPERIMENT)
    return file


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_saves_and_resume_goes_on(experiment: Path, tmp_path: Path, number: int) -> None:
    run_dir = tmp_path / "run"
    (tmp_path / "go").touch()
    process = start("run", experiment, "--run-dir", run_dir)
    wait_for_results(run_dir, process, 12)
    os.kill(process.pid, number)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    assert f"raytune-hpo resume {run_dir}" in stdout
    before = load_results(run_dir)
    assert before.status == "interrupted"
    reached = {t.id: t.epoch for t in before.ledger.trials.values()}
    assert any(reached.values())
    # What ran is saved at the epoch that it had reached.
    assert all(
        t.resume_from is not None and t.resume_from.epoch == t.epoch for t in before.ledger.live.values() if t.epoch
    )
    if number == signal.SIGTERM:  # which differs in nothing from here on
        return

    done = subprocess.run(command("resume", run_dir, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "finished"
    after = load_results(run_dir)
    first_starts: dict[str, int] = {}
    sessions = 0
    for event in after.events:
        sessions += isinstance(event, SessionOpened)
        if isinstance(event, Started) and sessions == 2:
            first_starts.setdefault(event.trial, event.epoch)
    assert first_starts == {t: reached.get(t, 0) for t in first_starts}
    assert list(after.trials.epochs) == [30] * 4


def test_second_interrupt_stops_at_once(experiment: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start("run", experiment, "--run-dir", run_dir, "--set", "max_epochs=31")
    wait_for_results(run_dir, process, 4)
    os.kill(process.pid, signal.SIGINT)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_only_one_process_has_a_run(experiment: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start("run", experiment, "--run-dir", run_dir, "--executor", "inline")
    wait_for_results(run_dir, process, 4)
    for arguments in (("resume", run_dir), ("run", experiment, "--run-dir", run_dir)):
        second = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert len(second.stderr.strip().splitlines()) == 1
        if arguments[0] == "resume":
            assert f"in use by process {process.pid}" in second.stderr
        else:
            assert "exists already" in second.stderr
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (tmp_path / "go").touch()
    done = subprocess.run(command("resume", run_dir, "--quiet"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Of a finished run, resume shows the results again and starts nothing.
    again = subprocess.run(command("resume", run_dir, "--json"), capture_output=True, text=True, check=False)
    assert json.loads(again.stdout)["counts"]["completed"] == 4
    assert load_results(run_dir).ledger.sessions == 2
