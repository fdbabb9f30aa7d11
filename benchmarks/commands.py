"""How long a command to a running run of lanes is answered after, with a short journal and one of 30,000 lines.

    python benchmarks/commands.py [--commands 100]

The run is real: digits as lanes in a process of Ray's. The long journal has lines of notices besides its own.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from raytune_hpo.engine.commanding import amend, give
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.journal.events import Closed, Noticed, SessionOpened
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.run_directory import RunDirectory

EXPERIMENT = """
from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="commanded", task="digits", space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64)},
    searcher="random", scheduler="fifo", num_samples=2, max_epochs=27, executor="lanes",
)
"""
LINES = 30_000


def started(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "raytune_hpo", *arguments, "--quiet"]
    return subprocess.Popen(command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)


def latencies(folder: Path, lines: int, commands: int) -> list[float]:
    (folder / "commanded.py").write_text(EXPERIMENT)
    run = folder / "run"
    assert started(folder, "run", "commanded.py", "--run-dir", "run").wait(300) == 0
    amend(run, {"num_samples": 100_000})
    directory = RunDirectory.open(run)
    directory.lock()
    _, journal = open_journal(directory)
    journal.append(1.0, [SessionOpened(2)])
    for number in range(lines):
        journal.append(1.0, [Noticed(f"line {number}")])
    journal.append(1.0, [Closed(RunStatus.INTERRUPTED)])
    journal.close()
    directory.unlock()
    before = directory.journal_path.stat().st_size
    process = started(folder, "resume", "run")
    while b'"report"' not in directory.journal_path.read_bytes()[before:]:
        assert process.poll() is None
        time.sleep(0.2)
    rng, found = random.Random(0), []
    for number in range(commands):
        time.sleep(rng.uniform(0.0, 0.3))
        began = time.monotonic()
        give(run, "mark", 60.0, trial="t0", tags=[f"n{number}"])
        found.append(time.monotonic() - began)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=100)
    options = parser.parse_args()
    for lines in (0, LINES):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            found = latencies(Path(folder), lines, options.commands)
        p50, p99, most = (float(np.quantile(found, q)) for q in (0.5, 0.99, 1.0))
        print(f"{lines:>6} lines more: p50 {p50:.3f} s, p99 {p99:.3f} s, at most {most:.3f} s of {len(found)}")


if __name__ == "__main__":
    main()
