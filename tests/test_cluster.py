"""Two nodes on this machine: trials on both, one node lost half-way, no run directory on one, and nobody uninvited."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from process_tree import descendants, kill

from raytune_hpo import Results, load_results
from raytune_hpo.journal.events import CheckpointSaved, Started

TRIALS = 8
EPOCHS = 10

EXPERIMENT = f"""
import json, os, tempfile, time
from pathlib import Path
from ray import tune
from raytune_hpo import Experiment, Float

def train(config):
    done = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            done = json.loads((Path(folder) / "state.json").read_text())
    for epoch in range(done + 1, {EPOCHS} + 1):
        time.sleep(0.15)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "state.json").write_text(json.dumps(epoch))
            metrics = {{"loss": config["x"] / epoch, "trained": epoch, "node": int(os.environ["NODE_NUMBER"])}}
            tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))

experiment = Experiment(
    name="cluster", task=train, metric="loss", mode="min", space={{"x": Float(1.0, 2.0)}},
    searcher="random", scheduler="fifo", num_samples={TRIALS}, max_epochs={EPOCHS}, seed=1,
)
"""

pytestmark = pytest.mark.timeout(90)


@dataclass
class Cluster:
    """Two nodes of one core each: 0 is the head, 1 the second."""

    address: str
    environment: dict[str, str]
    processes: list[subprocess.Popen[str]]
    raylets: list[int]

    def run(self, file: Path, run_dir: Path, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "raytune_hpo.cli.main", "run", str(file), "--run-dir", str(run_dir), "--json"]
        return subprocess.Popen(
            [*command, "--address", self.address],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill_second(self) -> None:
        """SIGKILL to all of it at once, as when its machine goes."""
        kill([self.raylets[1], *descendants(self.processes[1].pid), self.processes[1].pid])


@contextlib.contextmanager
def cluster(folder: Path, *, size: int = 2, before_second: tuple[str, ...] = ()) -> Iterator[Cluster]:
    """before_second: a command that starts the second node's process."""
    token = folder / "token"
    token.write_text("5" * 64)
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    script = Path(__file__).with_name("ray_node.py")
    out = Cluster("head", environment, [], [])
    try:
        for number, before in enumerate([(), before_second][:size]):
            with (folder / f"node{number}.txt").open("w") as stderr:
                process = subprocess.Popen(
                    [*before, sys.executable, str(script), out.address, str(number)],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                )
            out.processes.append(process)
            assert process.stdout is not None
            answer = process.stdout.readline().split()
            assert len(answer) == 2, (folder / f"node{number}.txt").read_text()
            out.address = answer[0]
            out.raylets.append(int(answer[1]))
        yield out
    finally:
        for process in reversed(out.processes):
            below = descendants(process.pid)
            process.communicate()  # closes its stdin: it ends
            kill(below)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "experiment.py"
    path.write_text(EXPERIMENT)
    return path


def wait_until_half_way(process: subprocess.Popen[str], run_dir: Path) -> None:
    """Until a trial is in mid-run on the second node, with a checkpoint."""
    while process.poll() is None:
        time.sleep(0.15)
        if (run_dir / "journal.jsonl").exists():
            curves = load_results(run_dir).curves
            last = curves.groupby("trial_id").tail(1) if len(curves) else curves
            if len(curves) >= 20 and ((last["node"] == 1) & last["epoch"].between(3, EPOCHS - 4)).any():
                return
    raise AssertionError(process.communicate()[1])


def check_finished(process: subprocess.Popen[str], run_dir: Path) -> Results:
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    results = load_results(run_dir)
    assert results.status == "finished"
    assert results.counts["completed"] == TRIALS
    assert set(results.curves["node"]) == {0, 1}
    assert (results.curves["trained"] == results.curves["epoch"]).all()
    saved: dict[str, int] = {}
    for event in results.events:
        if isinstance(event, CheckpointSaved):
            saved[event.trial] = event.checkpoint.epoch
        if isinstance(event, Started):
            assert event.epoch == saved.get(event.trial, 0), event
    for trial_id, curve in results.curves.groupby("trial_id"):
        assert list(curve.epoch) == list(range(1, EPOCHS + 1)), trial_id
    return results


def test_a_node_is_lost_and_no_work_with_it(file: Path, tmp_path: Path) -> None:
    with cluster(tmp_path) as nodes:
        process = nodes.run(file, tmp_path / "run")
        wait_until_half_way(process, tmp_path / "run")
        nodes.kill_second()
        results = check_finished(process, tmp_path / "run")
    continued = [e for e in results.of(Started) if e.epoch > 0]
    assert len(continued) == 1
    moved = results.curves[results.curves.trial_id == continued[0].trial]
    assert list(moved.node) == [1] * continued[0].epoch + [0] * (EPOCHS - continued[0].epoch)


def private_mounts() -> list[str]:
    """The command that starts a process with mounts of its own, empty where this system allows none."""
    if shutil.which("unshare") is None:
        return []
    command = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    possible = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return command if possible.returncode == 0 else []


needs_mounts = pytest.mark.skipif(not private_mounts(), reason="needs a mount namespace")


@needs_mounts
def test_checkpoints_travel_where_no_file_system_is_shared(file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    hide = (*private_mounts(), "sh", "-c", f'mount -t tmpfs none "{runs}" && exec "$@"', "sh")
    with cluster(tmp_path, before_second=hide) as nodes:
        process = nodes.run(file, runs / "run")
        wait_until_half_way(process, runs / "run")
        nodes.kill_second()
        results = check_finished(process, runs / "run")
    for row in results.rows():
        assert list((runs / "run" / "checkpoints" / row["trial_id"]).rglob("state.json"))


def test_a_driver_without_the_token_is_refused(file: Path, tmp_path: Path) -> None:
    with cluster(tmp_path, size=1) as nodes:
        process = nodes.run(file, tmp_path / "run", RAY_AUTH_MODE="disabled")
        stdout, stderr = process.communicate()
    assert process.returncode == 2, stderr
    assert stdout == ""
    assert "RAY_AUTH_TOKEN_PATH" in stderr
    assert len(stderr.splitlines()) == 1, stderr
    assert not (tmp_path / "run").exists()
