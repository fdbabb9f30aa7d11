"""A run on this machine is closed to the outside: every socket that it listens on is bound to loopback."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_tree import descendants, workers

EXPERIMENT = """
import ray.tune  # the switch that keeps Ray on loopback must work with Ray imported already
import time
from raytune_hpo import Experiment, Float

def train(config):
    for _ in range(100):
        time.sleep(0.2)
        ray.tune.report({"loss": 1.0})

experiment = Experiment(name="ports", task=train, metric="loss", mode="min", space={"x": Float(0.0, 1.0)},
                        searcher="random", scheduler="fifo", num_samples=1, max_epochs=100)
"""
LISTEN = "0A"


def _address(field: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """0100007F:1F90 (IPv4) or four such words (IPv6), each in the machine's byte order."""
    words = bytes.fromhex(field.split(":", maxsplit=1)[0])
    found = ipaddress.ip_address(b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4)))
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def listening(pids: list[int]) -> dict[str, ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses that these processes listen on, by process and port."""
    sockets: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in (Path("/proc") / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets[os.readlink(descriptor)] = pid
    out = {}
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            _, local, _, state, *rest = line.split()
            pid = sockets.get(f"socket:[{rest[5]}]")
            if state == LISTEN and pid is not None:
                out[f"process {pid}, port {int(local.split(':')[1], 16)}"] = _address(local)
    return out


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
@pytest.mark.timeout(90)
def test_a_local_run_listens_on_loopback_alone(tmp_path: Path) -> None:
    file = tmp_path / "experiment.py"
    file.write_text(EXPERIMENT)
    command = [sys.executable, "-m", "raytune_hpo.cli.main", "run", str(file), "--run-dir", str(tmp_path / "run")]
    # A token of its own: Ray would write one into the home directory.
    (tmp_path / "token").write_text("7" * 64)
    environment = os.environ | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (journal := tmp_path / "run" / "journal.jsonl").exists() or '"report"' not in journal.read_text():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.2)
        tree = [process.pid, *descendants(process.pid)]
        found = listening(tree)
        statistics = [
            (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0").count(b"RAY_USAGE_STATS_ENABLED=0")
            for pid in workers(process.pid)
        ]
    finally:
        process.terminate()
        process.communicate()
    assert len(found) >= 3  # the control store and the raylet at least
    outside = {who: str(address) for who, address in found.items() if not address.is_loopback}
    assert not outside
    assert statistics
    assert min(statistics) >= 1
