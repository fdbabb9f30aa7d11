"""The run directory: one process at a time, no file half written, no run overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from raytune_hpo import ExperimentError
from raytune_hpo.storage.run_directory import RunDirectory, git_commit, versions

EXPERIMENT = {
    "name": "x",
    "num_samples": 1,
    "max_epochs": 1,
    "resources": {"cpus": 1.0, "gpus": 0.0},
    "metric": "loss",
    "mode": "min",
    "space": {"parameters": {}, "constants": {}},
    "task": {"builtin": "digits"},
    "seed": 0,
}
EXPERIMENT |= {"searcher": {"name": "random"}, "scheduler": {"name": "fifo"}}
HOLD = """
import sys, time
from pathlib import Path
from raytune_hpo.storage.run_directory import RunDirectory
run = RunDirectory.open(sys.argv[1])
run.lock()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    made = RunDirectory.create(tmp_path / "run", EXPERIMENT, None)
    yield made
    made.unlock()


def test_a_new_run_has_its_layout_and_its_description(run, tmp_path):
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoints", "errors", "experiment.json", "lock"]
    described = RunDirectory.open(run.path).description()
    assert described["experiment"] == EXPERIMENT
    assert described["versions"] == versions()
    assert len(described["run_id"]) == 16
    assert {"python", "ray", "torch"} <= set(described["versions"])


def test_the_experiment_file_is_copied(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\n")
    run = RunDirectory.create(tmp_path / "run", EXPERIMENT, tmp_path / "mine.py")
    assert (run.source / "mine.py").read_text() == "x = 1\n"
    run.unlock()


def test_a_second_process_is_refused_by_the_pid_of_the_first_until_that_is_killed(run):
    run.unlock()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "locked\n"
        for _ in range(2):
            with pytest.raises(ExperimentError, match=f"in use by process {holder.pid} on "):
                run.lock()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        run.lock()
        with pytest.raises(ExperimentError, match=f"in use by process {os.getpid()} on "):
            RunDirectory.open(run.path).lock()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def test_unlocking_frees_the_run(run):
    run.unlock()
    run.unlock()
    other = RunDirectory.open(run.path)
    other.lock()
    other.unlock()


def test_create_refuses_whatever_is_there_and_leaves_it_alone(run, tmp_path):
    before = run.description_path.read_bytes()
    with pytest.raises(ExperimentError, match=r"exists already.*resume"):
        RunDirectory.create(run.path, {}, None)
    assert run.description_path.read_bytes() == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("full", "file"):
        with pytest.raises(ExperimentError, match="exists already"):
            RunDirectory.create(tmp_path / name, EXPERIMENT, None)
    assert (tmp_path / "full" / "precious").read_text() == "x"
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", EXPERIMENT, None).unlock()


def test_check_new_creates_nothing(tmp_path, monkeypatch):
    RunDirectory.check_new(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ExperimentError, match="must be a folder"):
        RunDirectory.check_new(tmp_path / "file" / "run")
    with pytest.raises(ExperimentError, match="cannot be used"):
        RunDirectory.check_new(tmp_path / ("x" * 300))
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a user without the right; root has every right
    with pytest.raises(ExperimentError, match="can be written to"):
        RunDirectory.check_new(tmp_path / "run")


def test_new_paths_do_not_repeat(tmp_path):
    seen = set()
    for _ in range(5):
        path = RunDirectory.new_path(str(tmp_path), "name")
        assert path.parent == tmp_path
        assert path not in seen
        seen.add(path)
        path.mkdir()


def test_open_wants_a_run(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ExperimentError, match="holds no run"):
            RunDirectory.open(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "damaged"),
        ('{"format": 1', "damaged"),
        ('{"format": 99}', "reads formats up to 2"),
        ("[]", "is damaged"),
        ('{"format": 1, "experiment": {}}', "damaged: fields are missing"),
    ],
)
def test_a_damaged_description_is_one_error(run, text, message):
    run.description_path.write_text(text)
    with pytest.raises(ExperimentError, match=message):
        RunDirectory.open(run.path).description()


def test_failures_of_the_same_lines_of_code_are_kept_once(run):
    def traceback(line, message):
        return f'Traceback (most recent call last):\n  File "x.py", line {line}, in train\nValueError: {message}\n'

    first = run.write_error("t00001", traceback(3, "one"))
    assert run.write_error("t00002", traceback(3, "two")) == first
    other = run.write_error("t00003", traceback(4, "one"))
    assert other != first
    assert (run.path / first).read_text() == "first seen in t00001\n\n" + traceback(3, "one")
    assert sorted(f"errors/{p.name}" for p in (run.path / "errors").iterdir()) == sorted([first, other])


def test_git_commit(tmp_path):
    assert git_commit(tmp_path / "missing") is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert git_commit(tmp_path) is None
    git("init")
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "-m", "one")
    clean = git_commit(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "a").write_text("b")
    assert git_commit(tmp_path) == clean + "+changes"


def test_the_description_is_json_a_person_can_read(run):
    text = run.description_path.read_text()
    assert text.count("\n") > 10
    assert json.loads(text)["format"] == 2
