"""A worker's death is noticed, and the trial's error says what it died of."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, Float, report, run
from raytune_hpo.workers import deaths
from raytune_hpo.workers.messages import WorkerInfo

SHARED = {"scheduler": "fifo", "searcher": "random", "max_epochs": 2, "max_failures": 0, "executor": "processes"}
WAYS = ["os._exit(7)", "SIGSEGV", "fork", "lives"]


def dies(config: dict[str, Any]) -> None:
    """Each trial in its own way, those that retry it as well."""
    from raytune_hpo.workers.reporting import trial_id

    way = WAYS[int(trial_id()[1:])]
    print(f"{trial_id()} is here", flush=True)
    if way == "os._exit(7)":
        os._exit(7)
    if way == "SIGSEGV":
        ctypes.string_at(0)
    if way == "fork":  # its child holds what it has open
        if os.fork() == 0:
            time.sleep(20)
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    report({"y": 1.0})


@pytest.mark.usefixtures("ray_session")
def test_c22_the_error_says_what_a_worker_died_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a child of it lives on (C11), which holds its connections."""
    from raytune_hpo.engine import population

    monkeypatch.setattr(population, "LOSSES_ALLOWED", 0)
    made = Experiment(
        name="deaths", task=dies, space={"x": Float(0.0, 1.0)}, metric="y", mode="min", num_samples=len(WAYS), **SHARED
    )
    results = run(made, tmp_path / "run")
    assert results.status == "finished"
    errors = {WAYS[trial.index]: trial.error for trial in results.ledger.trials.values()}
    assert errors == {
        "os._exit(7)": "the worker process called os._exit(7)",
        "SIGSEGV": "the worker process died of SIGSEGV (its stack stands in the trial's log)",
        "fork": "the worker process was killed (SIGKILL: out of memory?)",
        "lives": None,
    }
    for trial in results.ledger.trials.values():
        log = (tmp_path / "run" / f"logs/{trial.id}.log").read_text()
        assert log.startswith(f"{trial.id} is here\n")
    assert "in dies" in (tmp_path / "run/logs/t00001.log").read_text()


def test_c11_a_process_that_is_gone_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Ray believes: what still holds its connections may be anything."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        here = WorkerInfo(socket.gethostname(), process.pid, True, mark=deaths.process_mark(process.pid))
        elsewhere = WorkerInfo("elsewhere", process.pid, True, mark="another's")
        unknown = WorkerInfo(socket.gethostname(), process.pid, True)
        monkeypatch.setattr(deaths, "LOOK_EVERY_S", 0.0)
        watch = deaths.Watch()
        workers = [("here", here), ("elsewhere", elsewhere), ("unknown", unknown), ("starting", None)]
        for _ in range(3):
            assert watch.dead(workers) == []
        process.kill()
        while deaths.process_mark(process.pid) is not None:  # until it is a zombie
            time.sleep(0.001)
        assert watch.dead(workers) == []  # Ray may be about to say so
        assert watch.dead(workers) == ["here"]
    assert deaths.process_mark(os.getpid()) is not None


@pytest.mark.parametrize(("said", "words"), [
    ("Worker exit type: NODE_OUT_OF_MEMORY Worker exit detail: ...", "was killed by Ray, as its machine was out of"),
    ("The actor died because its node has died.", "died with its machine"),
    ("Worker exits unexpectedly. The process receives a SIGTERM.", "received SIGTERM"),
    ("Worker exits with an exit code 9. The process ...", "exited with code 9"),
    ("", "died (killed, out of memory, or its machine was lost)"),
])  # fmt: skip
def test_near_c22_what_ray_says_is_taken_where_there_is_no_trace(said: str, words: str) -> None:
    assert deaths.explained(WorkerInfo("elsewhere", 7, sees_run=False), "t0", said).startswith(words)
