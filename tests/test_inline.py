"""executor="inline": a run in one process. No Ray, no port, a debugger that works, and nothing lost by kill -9."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from event_files import check_same_curves
from process_tree import descendants, kill
from test_crash import ALL, check_nothing_lost_or_doubled, command, metrics, start, uninterrupted, wait_for_steps

from raytune_hpo import Experiment, ExperimentError, Float, load_results, report, resume, run
from raytune_hpo.journal.events import SessionOpened
from raytune_hpo.tasks import task_by_name
from raytune_hpo.workers import executors

# A learning search and a scheduler that stops trials: one trial after the other, all of the table is the same.
ONE_BY_ONE = """
import json, math, pathlib, tempfile

from raytune_hpo import Experiment, Float, get_checkpoint, report


def train(config):
    epoch, total = 0, 0.0
    start = get_checkpoint()
    if start is not None:
        epoch, total = json.loads((start / "state.json").read_text())
    while epoch < 9:
        epoch += 1
        total += math.sin(config["x"] * epoch) + config["x"]
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "state.json").write_text(json.dumps([epoch, total]))
            report({"score": total / epoch, "total": total}, checkpoint=folder)


experiment = Experiment(
    name="crash", task=train, space={"x": Float(0.0, 1.0)}, metric="score", mode="max",
    searcher="bayesopt", scheduler="asha", num_samples=60, max_epochs=9, seed=5, executor="inline",
    listeners=["tensorboard"],
)
"""

LANES = """
from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="crash",
    task="digits",
    space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64, "power_of_two"), "dropout": Float(0.0, 0.5),
           "batch_size": 64},
    searcher="random", scheduler="fifo", num_samples=40, max_epochs=20, seed=5, executor="inline",
    checkpoint={"every": 5}, listeners=["tensorboard"],
)
"""


@pytest.mark.timeout(900 if ALL else 200)
@pytest.mark.parametrize(("source", "trials", "executor"), [(ONE_BY_ONE, 60, "inline"), (LANES, 40, "inline lanes")])
def test_kill_9_loses_and_changes_nothing(source: str, trials: int, executor: str, tmp_path: Path) -> None:
    kills, rng = (20 if ALL else 3), random.Random(source)
    file = tmp_path / "crash.py"
    file.write_text(source)
    calm = uninterrupted(file, tmp_path / "calm")
    path = tmp_path / "killed"
    most = len(calm.steps) // (kills + 2)
    process = start("run", str(file), "--run-dir", str(path), "--json")
    for _ in range(kills):
        lines = (path / "journal.jsonl").read_bytes().count(b"\n") if path.exists() else 0
        assert wait_for_steps(process, path, lines + rng.randint(1, most)), process.communicate()[1]
        assert descendants(process.pid) == []
        kill([process.pid])
        process.communicate()
        process = start("resume", str(path), "--json")
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["status"] == "finished"
    killed = load_results(path)
    for results in (calm, killed):
        check_nothing_lost_or_doubled(results, trials)
        check_same_curves(results, results.run_dir / "listeners" / "tensorboard")
        assert {e.executor for e in results.of(SessionOpened)} == {executor}
    assert killed.ledger.sessions == 1 + kills
    pd.testing.assert_frame_equal(metrics(killed), metrics(calm), check_exact=True)
    assert [row["config"] for row in killed.rows()] == [row["config"] for row in calm.rows()]
    assert killed.best is not None
    assert calm.best is not None
    assert (killed.best.trial_id, killed.best.test) == (calm.best.trial_id, calm.best.test)


# What it does not do -----------------------------------------------------------------------------------

#: Prints, in the listener's thread at the first report, what this process has imported and which ports it listens on.
WATCHED = """
import json, os, sys
from pathlib import Path
from raytune_hpo import Experiment, Float, Listener, events, report, run

def listening():
    inodes = {os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.exists() or f.is_symlink()}
    tables = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/self/net/{name}").readlines()[1:]]
    return [row[1] for row in tables if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]

class First(Listener):
    def event(self, number, event, step):
        if isinstance(event, events.Reported) and not seen:
            seen.update(modules=sorted(sys.modules), ports=listening())

def function(config):
    for epoch in range(3):
        report({"y": (config["x"] - 2) ** 2})

seen = {}
FIELDS = json.loads(sys.argv[1])
FIELDS["task"] = function if FIELDS.get("task") is None else FIELDS["task"]
space = {"x": Float(-10, 10)} if FIELDS["task"] is function else {"lr": Float(1e-3, 1e-1, "log"), "batch_size": 256}
results = run(Experiment(name="watched", space=space, **FIELDS), sys.argv[2], listeners=[First()])
assert results.status == "finished"
print(json.dumps({**seen, "after": sorted(sys.modules), "ports_after": listening()}))
"""

#: What nothing but its use may import, on the way to the first report.
HEAVY = {"ray", "hyperopt", "scipy", "pandas", "sklearn", "optuna", "matplotlib", "torchvision", "networkx", "pyarrow"}


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"metric": "y", "mode": "min", "searcher": "random", "scheduler": "asha"}, set()),
        ({"metric": "y", "mode": "min", "searcher": "hyperopt", "scheduler": "fifo"}, set()),
        ({"task": "digits", "searcher": "hyperopt", "scheduler": "asha", "executor": "auto"}, {"torch"}),
        ({"task": "diabetes", "searcher": "random", "scheduler": "median"}, {"torch"}),
    ],
)
def test_nothing_is_imported_that_is_not_used_and_no_port_is_open(
    fields: dict[str, object], allowed: set[str], tmp_path: Path
) -> None:
    if "task" in fields:
        task_by_name(fields["task"]).load(0)  # the cache of its arrays is made by scikit-learn
    given = {"num_samples": 3, "max_epochs": 3, "executor": "inline", **fields}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(given), str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["ports"] == seen["ports_after"] == []
    assert {name.partition(".")[0] for name in seen["modules"]} & (HEAVY | {"torch"}) == allowed
    assert "torch._dynamo" not in seen["modules"]


# A debugger --------------------------------------------------------------------------------------------

DEBUGGED = {
    "function": """
from raytune_hpo import Experiment, Float, report

def train(config):
    marker = "in the function"
    breakpoint()
    report({"y": config["x"]})

experiment = Experiment(name="debugged", task=train, space={"x": Float(0.0, 1.0)}, metric="y", mode="min",
                        searcher="random", scheduler="fifo", num_samples=2, max_epochs=2, executor="inline")
""",
    "build_model": """
from dataclasses import dataclass
from raytune_hpo import Digits, Experiment, Float

@dataclass(frozen=True)
class Debugged(Digits):
    def build_model(self, config):
        marker = "in the function"
        breakpoint()
        return super().build_model(config)

experiment = Experiment(name="debugged", task=Debugged(), space={"lr": Float(0.01, 0.1), "batch_size": 256},
                        searcher="random", scheduler="fifo", num_samples=2, max_epochs=2, executor="inline")
""",
}


class Terminal:
    """A program that has a terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self.side = pty.fork()
        if self.pid == 0:
            os.execvp(sys.executable, command(*arguments))
        self.said = self.all = ""

    def until(self, wanted: str, timeout_s: float = 60.0) -> str:
        """What it has printed since the last call, up to `wanted`."""
        self.wait_for(wanted, timeout_s=timeout_s)
        found, _, self.said = self.said.partition(wanted)
        return found

    def wait_for(self, *wanted: str, timeout_s: float = 60.0) -> None:
        """Until it has printed one of them."""
        deadline = time.monotonic() + timeout_s
        while not any(text in self.said for text in wanted):
            assert time.monotonic() < deadline, f"no {wanted!r} in {self.said!r}"
            if not select.select([self.side], [], [], 1.0)[0]:
                continue
            try:
                data = os.read(self.side, 4096)
            except OSError:
                data = b""
            assert data, f"it ended without {wanted!r}: {self.said!r}"
            self.said += data.decode(errors="replace")
            self.all += data.decode(errors="replace")

    def type(self, line: str) -> None:
        os.write(self.side, f"{line}\n".encode())

    def code(self) -> int:
        """Of its exit."""
        try:
            while os.read(self.side, 4096):
                pass
        except OSError:  # EIO: the other side is closed
            pass
        os.close(self.side)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("where", DEBUGGED)
def test_a_breakpoint_has_the_terminal(where: str, tmp_path: Path) -> None:
    file = tmp_path / "debugged.py"
    file.write_text(DEBUGGED[where])
    terminal = Terminal("run", str(file), "--run-dir", str(tmp_path / "run"))
    stops = 0
    while "raytune-hpo best" not in terminal.said:  # a model is built for the test of the winner as well
        terminal.until("(Pdb) ")
        terminal.type("p marker, 6 * 7")
        assert "('in the function', 42)" in terminal.until("(Pdb) ")
        terminal.type("c")
        terminal.wait_for("(Pdb) ", "raytune-hpo best")
        stops += 1
    assert stops >= 2
    assert not re.search(r"\x1b\[\d*[AFK]", terminal.all), "a bar was drawn over the debugger"
    assert terminal.code() == 0
    assert list(load_results(tmp_path / "run").trials.status) == ["completed", "completed"]


@pytest.mark.parametrize("where", DEBUGGED)
def test_leaving_the_debugger_stops_the_run_and_fails_no_trial(where: str, tmp_path: Path) -> None:
    file = tmp_path / "debugged.py"
    file.write_text(DEBUGGED[where])
    terminal = Terminal("run", str(file), "--run-dir", str(tmp_path / "run"))
    terminal.until("(Pdb) ")
    terminal.type("q")
    terminal.until("the debugger was left")
    assert terminal.code() == 130
    results = load_results(tmp_path / "run")
    assert results.status == "interrupted"
    assert set(results.trials.status) == {"pending"}
    assert (results.trials.failures == 0).all()


# In somebody's own process -----------------------------------------------------------------------------


def quadratic(**fields: object) -> Experiment:
    def function(config: dict[str, float]) -> None:
        report({"y": (config["x"] - 2) ** 2})

    values: dict[str, object] = {"searcher": "random", "scheduler": "fifo", "num_samples": 5, "max_epochs": 1, **fields}
    values.setdefault("task", function)
    return Experiment(
        name="quadratic", space={"x": Float(-10, 10)}, metric="y", mode="min", executor="inline", **values
    )


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    import rich.style  # noqa: F401  (which draws a number when it is imported)

    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    expected = torch.rand(1).item(), np.random.random(), random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    threads, paths = torch.get_num_threads(), list(sys.path)
    experiment = Experiment(
        name="own",
        task="digits",
        space={"lr": Float(1e-3, 1e-1, "log"), "batch_size": 256},
        num_samples=2,
        max_epochs=2,
        executor="inline",
    )
    assert run(experiment, tmp_path / "run").status == "finished"
    assert (torch.rand(1).item(), np.random.random(), random.random()) == expected
    assert (torch.get_num_threads(), sys.path) == (threads, paths)
    assert [t.name for t in threading.enumerate() if "inline" in t.name] == []


def test_what_a_function_closes_over_is_the_callers(tmp_path: Path) -> None:
    """No copy: what cannot be pickled is no matter."""
    lock, heard = threading.Lock(), []

    def function(config: dict[str, float]) -> None:
        with lock:
            heard.append(config["x"])
        report({"y": config["x"]})

    results = run(quadratic(task=function), tmp_path / "run")
    assert [trial.config["x"] for trial in results.ledger.trials.values()] == heard


def test_errors_are_retried_and_others_go_on(tmp_path: Path) -> None:
    tried: list[float] = []

    def function(config: dict[str, float]) -> None:
        tried.append(config["x"])
        if len(tried) in (2, 5):
            raise SystemExit("asked for")
        report({"y": config["x"]})

    results = run(quadratic(task=function, max_failures=1), tmp_path / "run")
    assert list(results.trials.status) == ["completed"] * 5
    assert len(tried) == 7


def test_it_does_not_go_with_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"executor = 'inline': .*--address"):
        run(quadratic(), tmp_path / "run", address="127.0.0.1:1")
    assert not (tmp_path / "run").exists()


# The choice --------------------------------------------------------------------------------------------

KILLED_BY_ITSELF = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from raytune_hpo import Digits, Experiment, Float

@dataclass(frozen=True)
class Killing(Digits):
    marker: str = ""
    when: str = "tried"
    def build_model(self, config):
        trying = (Path(self.marker).parent / "run" / "trying").exists()
        if trying == (self.when == "tried") and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build_model(config)

experiment = Experiment(name="killed", task=Killing(marker=MARKER, when=WHEN),
                        space={"lr": Float(0.01, 0.1), "batch_size": 256},
                        searcher="random", scheduler="fifo", num_samples=2, max_epochs=2, resources={"cpus": 2})
"""


@pytest.mark.parametrize("when", ["tried", "trained"])
@pytest.mark.usefixtures("ray_session")
def test_code_that_kills_its_process_goes_on_in_workers(when: str, tmp_path: Path) -> None:
    file = tmp_path / "killed.py"
    file.write_text(KILLED_BY_ITSELF.replace("MARKER", repr(str(tmp_path / "marker"))).replace("WHEN", repr(when)))
    done = subprocess.run(
        command("run", str(file), "--run-dir", str(tmp_path / "run")), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "run" / executors.TRYING).exists() == (when == "tried")
    results = resume(tmp_path / "run")
    assert results.status == "finished"
    assert not [e for e in list(results.of(SessionOpened))[-1:] if e.executor.is_inline]
    assert list(results.trials.status) == ["completed", "completed"]


def test_what_the_code_prints_is_kept_off_the_json(tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(DEBUGGED["function"].replace("breakpoint()", 'print("loud")'))
    done = subprocess.run(
        command("run", str(file), "--run-dir", str(tmp_path / "run"), "--json"),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["status"] == "finished"
    assert done.stderr.count("loud") == 2


def test_a_function_that_does_not_return_is_given_up(tmp_path: Path) -> None:
    """After the grace that any running epoch has, and no longer."""
    file = tmp_path / "hanging.py"
    file.write_text(
        DEBUGGED["function"].replace("breakpoint()", 'print("here", flush=True)\n    import time; time.sleep(600)')
    )
    terminal = Terminal("run", str(file), "--run-dir", str(tmp_path / "run"))
    terminal.until("here")
    os.kill(terminal.pid, signal.SIGINT)
    terminal.until("interrupted in")
    assert terminal.code() == 130
    assert set(load_results(tmp_path / "run").trials.status) == {"pending"}
