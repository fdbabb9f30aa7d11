"""Programs as people have them, before, with plain Ray Tune and with ours: how many lines that takes, and that ours is
killed three times and ends as if it had not been.

    make integrations ARGS="-m large -k killed -s"
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import random
import re
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

from raytune_hpo import load_results

HERE = Path(__file__).with_name("programs")
NEEDED = {"plain": "torch", "lightning": "lightning", "gpt2": "transformers", "bert": "transformers"}
COMMAND = Path(sysconfig.get_path("scripts")) / "raytune-hpo"


def training(program: str, kind: str) -> list[str]:
    """The program up to what says what is searched, without blank lines and the import that this needs."""
    lines = (HERE / f"{program}_{kind}.py").read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if re.match(r"train\(\{|experiment = |if __name__", line))
    return [line for line in lines[:end] if line.strip() and not line.startswith("from raytune_hpo import")]


def new_lines(program: str, kind: str) -> int:
    """Lines that were added or changed."""
    found = difflib.ndiff(training(program, "before"), training(program, kind))
    return sum(line.startswith("+ ") for line in found)


@pytest.mark.parametrize("program", NEEDED)
def test_at_most_five_lines_change(program):
    ours, ray = new_lines(program, "ours"), new_lines(program, "ray")
    print(f"{program}: {len(training(program, 'before'))} lines; changed with plain Ray Tune {ray}, with ours {ours}")
    assert ours <= 5 < ray


SCHEDULERS = {
    "asha": ["--set", "scheduler=asha", "--set", "max_concurrent=1"],
    "pbt": [
        *("--set", 'scheduler={"name": "pbt", "interval": 2, "mutate": ["lr"]}'),
        *("--set", "max_concurrent=1", "--set", "num_samples=4"),
    ],
}


def table(run_dir: Path) -> list[tuple[object, ...]]:
    """All that is to be the same: trials, their configs, epochs and ends, and every metric of every epoch."""
    results = load_results(run_dir)
    curves = results.curves.drop(columns=[c for c in ("seconds", "time", "worker", "session") if c in results.curves])
    trials = [(t.id, tuple(t.config.items()), t.status.value, t.epoch, t.best) for t in results.ledger.trials.values()]
    return [*trials, *curves.itertuples(index=False, name=None)]


@pytest.mark.large
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("program", NEEDED)
def test_killed_three_times_it_ends_as_if_it_had_not_been(program, scheduler, tmp_path):
    if importlib.util.find_spec(NEEDED[program]) is None:
        pytest.skip(f"needs {NEEDED[program]}")
    file = tmp_path / f"{program}_program.py"
    file.write_text((HERE / f"{program}_ours.py").read_text())
    begin = [COMMAND, "run", file, "--quiet", *SCHEDULERS[scheduler], "--run-dir"]
    started = time.monotonic()
    subprocess.run([*begin, tmp_path / "whole"], check=True, cwd=tmp_path)
    took = time.monotonic() - started

    draw, command, kills = random.Random(program + scheduler), [*begin, tmp_path / "killed"], 0
    while kills < 3:
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
        time.sleep(draw.uniform(0.5, 0.8) * took)
        if process.poll() is not None and (tmp_path / "killed").exists():
            break
        _kill_all(process)
        kills += 1
        command = [COMMAND, "resume", tmp_path / "killed", "--quiet"]
    subprocess.run([COMMAND, "resume", tmp_path / "killed", "--quiet"], check=True, cwd=tmp_path)
    whole, killed = table(tmp_path / "whole"), table(tmp_path / "killed")
    assert str(killed) == str(whole)
    print(f"{program}, {scheduler}: killed {kills} times, {len(whole)} rows the same", file=sys.stderr)


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """kill -9 of the driver; what it had started goes with it."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(2)
