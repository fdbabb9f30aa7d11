"""What becomes of a run whose reader leaves, whose disk or terminal is gone, or that shares its process."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, load_results, report, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.engine.interrupt import Interrupt
from raytune_hpo.states import Outcome

# A trial waits after its second epoch for a file named "go" beside the experiment; what it prints is read by nobody.
EXPERIMENT = """
import json, pathlib, tempfile, time
from raytune_hpo import Experiment, Float, get_checkpoint, report

GO = pathlib.Path(__file__).parent / "go"

def train(config):
    for epoch in range(1, 6):
        print("epoch", epoch, "of \\u03b1" * 200)
        (GO.parent / f"at{epoch}").touch()
        while epoch == 3 and not GO.exists():
            time.sleep(0.02)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "epoch").write_text(json.dumps(epoch))
            report({"score": config["x"] * epoch}, checkpoint=folder)

experiment = Experiment(name="unread", task=train, space={"x": Float(0, 1)}, metric="score", mode="max",
                        scheduler="fifo", num_samples=3, max_epochs=5, max_failures=0, executor="inline")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "exp.py"
    made.write_text(EXPERIMENT)
    return made


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "raytune_hpo.cli.main", *map(str, arguments)]


def started(arguments: list[str], file: Path, **options: Any) -> subprocess.Popen[bytes]:
    """A command in a session of its own, once a trial is in its third epoch."""
    process = subprocess.Popen(arguments, start_new_session=True, **options)
    while not (file.parent / "at3").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_c12_a_reader_that_leaves_and_ctrl_c_at_the_same_moment(file: Path, tmp_path: Path) -> None:
    """`run ... | tee log` and Ctrl-C: the reader dies of it, the run saves and says so."""
    run_dir, log = tmp_path / "run", tmp_path / "stderr"
    with log.open("wb") as stderr:
        process = started(command("run", file, "--run-dir", run_dir), file, stdout=subprocess.PIPE, stderr=stderr)
        assert process.stdout is not None
        process.stdout.close()
        os.killpg(process.pid, signal.SIGINT)
        (tmp_path / "go").touch()
        assert process.wait(timeout=40) == 130
    assert log.read_text() == ""
    results = load_results(run_dir)
    assert results.status == "interrupted"
    running = results.ledger.trials["t00000"]
    assert running.resume_from is not None
    assert running.resume_from.epoch == running.epoch >= 3


def test_c13_stdout_on_a_full_disk(file: Path, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("run", file, "--run-dir", tmp_path / "run"), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert load_results(tmp_path / "run").counts["completed"] == 3


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_c12_a_closed_terminal_is_asked_to_save_and_stop(executor: str, file: Path, tmp_path: Path) -> None:
    """SIGHUP reaches every process of the terminal, and twice: from the shell and from the kernel."""
    run_dir = tmp_path / "run"
    arguments = command("run", file, "--run-dir", run_dir, "--set", f"executor={executor}")
    process = started(arguments, file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for stream in (process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    os.killpg(process.pid, signal.SIGHUP)
    while b"stopping" not in (run_dir / "journal.jsonl").read_bytes():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGHUP)
    (tmp_path / "go").touch()
    assert process.wait(timeout=40) == 130
    results = load_results(run_dir)
    assert results.status == "interrupted"
    assert results.counts["failed"] == 0
    assert all(t.losses == 0 for t in results.ledger.trials.values())
    begun = [t for t in results.ledger.trials.values() if t.epoch]
    assert begun
    assert all(t.resume_from is not None and t.resume_from.epoch == t.epoch for t in begun if not t.finished)


def test_near_c12_what_ray_starts_outlasts_the_terminal() -> None:
    """Its workers end some seconds after its raylet, and epochs may take longer than that."""
    blocked = "import signal; print(signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    with Interrupt() as interrupt, interrupt.kept_from_children():
        inside = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    outside = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    assert (inside.stdout, outside.stdout) == ("True\n", "False\n")


def test_near_c12_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
    finally:
        signal.signal(signal.SIGHUP, before)


# Streams of every kind, in this process ----------------------------------------------------------------


class Refuses(io.StringIO):
    """A stream that takes so many characters and then fails."""

    def __init__(self, error: Exception, room: int) -> None:
        super().__init__()
        self.error, self.room = error, room

    def write(self, text: str) -> int:
        if len(self.getvalue()) + len(text) > self.room:
            raise self.error
        return super().write(text)


BROKEN = {
    "pipe": BrokenPipeError(32, "Broken pipe"),
    "terminal": OSError(5, "Input/output error"),
    "full": OSError(28, "No space left on device"),
    "closed": ValueError("I/O operation on closed file"),
}


@pytest.mark.parametrize("which", ["stdout", "stderr"])
@pytest.mark.parametrize("error", BROKEN)
def test_near_c13_a_stream_that_fails_half_way(
    which: str, error: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "go").touch()
    stream = Refuses(BROKEN[error], 300)
    monkeypatch.setattr(sys, which, stream)
    as_json = ["--json"] if which == "stderr" else []
    assert main(["run", str(file), "--run-dir", str(tmp_path / "run"), *as_json]) == 0
    assert load_results(tmp_path / "run").counts["completed"] == 3
    assert getattr(sys, which) is stream


def test_near_c13_an_error_whose_line_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Refuses(BROKEN["pipe"], 0))
    assert main(["run", "no_such_file.py"]) == 2


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_near_b19_no_stream_at_all(which: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "go").touch()
    monkeypatch.setattr(sys, which, None)
    assert main(["run", str(file), "--run-dir", str(tmp_path / "run")]) == 0
    assert main(["trials", str(tmp_path / "run")]) == 0
    assert main(["resume", str(tmp_path / "run"), "--json"]) == 0
    assert main(["best", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_b19_a_stream_of_few_characters(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "exp.py"
    file.write_text(EXPERIMENT.replace('{"x": Float(0, 1)}', '{"x": Float(0, 1), "\u03b1": "\u2713 \u00e4"}'))
    (tmp_path / "go").touch()
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
    for arguments in (
        ["run", str(file), "--run-dir", str(tmp_path / "run")],
        ["trials", str(tmp_path / "run"), "--csv"],
    ):
        assert main(arguments) == 0
    text = raw.getvalue().decode(encoding)
    assert "config.?" in text
    assert "finished in" in text


# Threads --------------------------------------------------------------------------------------------------

ENTERED, LEAVE = threading.Event(), threading.Event()


def holds(config: dict[str, Any]) -> None:
    ENTERED.set()
    assert LEAVE.wait(60)
    report({"score": 1.0})


def quick(config: dict[str, Any]) -> None:
    report({"score": 1.0})


def made(task: Any) -> Experiment:
    space = {"x": Float(0, 1)}
    return Experiment(
        name="one", task=task, space=space, metric="score", mode="max", num_samples=1, max_epochs=1, executor="inline"
    )


@pytest.fixture
def held() -> Iterator[None]:
    ENTERED.clear()
    LEAVE.clear()
    yield
    LEAVE.set()


def test_b19_two_runs_in_two_threads(held: None, tmp_path: Path) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run(made(holds), tmp_path / "first", quiet=True)))
    thread.start()
    assert ENTERED.wait(60)
    with pytest.raises(ExperimentError, match=r"^thread = 'MainThread': another run is going on in this process"):
        run(made(quick), tmp_path / "second", quiet=True)
    assert not (tmp_path / "second").exists()
    with pytest.raises(ExperimentError, match="another run is going on"):
        resume(tmp_path / "first", quiet=True)
    LEAVE.set()
    thread.join(60)
    assert found[0].counts["completed"] == 1
    assert run(made(quick), tmp_path / "second", quiet=True).status == "finished"


def nested(config: dict[str, Any]) -> None:
    run(made(quick), config["folder"], quiet=True)


def test_near_b19_a_run_within_a_trial_of_the_same_process(tmp_path: Path) -> None:
    outer = made(nested).override({"space": {"x": Float(0, 1), "folder": str(tmp_path / "inner")}, "max_failures": 0})
    results = run(outer, tmp_path / "outer", quiet=True)
    (row,) = results.rows()
    assert row["status"] == Outcome.FAILED
    assert "another run is going on in this process" in row["error"]
    assert not (tmp_path / "inner").exists()
