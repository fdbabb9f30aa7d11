"""A part of benchmarks/gpu.py: the tests of lanes on the device. Also the plugin of pytest that notes what they find.

pytest runs in processes of its own, several at a time where there are cores, without this repository's settings: they
need pytest-timeout, and make errors of warnings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from gpu_report import Report
    from gpu_time import Clock

REPOSITORY = Path(__file__).resolve().parents[1]
NOTED = "RAYTUNE_HPO_NOTED_TESTS"  # the file that this process's tests are noted in
LANES = "tests/training/lanes"
#: The longest first. None of them needs Ray.
FILES = (
    f"{LANES}/test_structures.py",
    f"{LANES}/test_own_lanes.py",
    f"{LANES}/test_equality.py",
    f"{LANES}/test_mixed.py",
    f"{LANES}/test_lanes_apart.py",
    f"{LANES}/test_devices.py",
    f"{LANES}/test_half_precision.py",
    "tests/training/test_recurrent.py",
    "tests/training/test_trainer.py::test_mixed_precision_on_a_gpu",
    "tests/integrations/test_checkpointed.py::test_on_a_gpu",
)
FEW = (
    f"{LANES}/test_equality.py::test_a_placement_that_does_not_fit_takes_fewer",
    f"{LANES}/test_mixed.py::test_its_numbers_do_not_depend_on_its_neighbours_to_the_bit",
    "tests/training/test_trainer.py::test_mixed_precision_on_a_gpu",
)


# In pytest ------------------------------------------------------------------------------------------


def _noted(**facts: Any) -> None:
    if NOTED in os.environ:
        with Path(os.environ[NOTED]).open("a") as file:
            file.write(json.dumps(facts) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _noted(name=nodeid, outcome="begun", line="")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        _noted(name=report.nodeid, outcome=report.outcome, line=_first_line(report))


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _noted(name=report.nodeid, outcome="failed", line=_first_line(report))


def _first_line(report: Any) -> str:
    if report.outcome != "failed":
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        said = " / ".join(line.strip() for line in crash.message.splitlines()[:2])  # a config; what was not equal
        return f"{said[:300]} [{Path(crash.path).name}:{crash.lineno}]"
    lines = report.longreprtext.strip().splitlines() or [""]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return str((errors or lines)[-1])[:300]


# In the benchmark -----------------------------------------------------------------------------------


class _Running:
    """pytest over a file or a test of one."""

    def __init__(self, which: str, device: str, folder: Path) -> None:
        self.which, self._began = which, time.monotonic()
        name = which.replace("/", "_").replace(":", "_")
        self._notes, self._output = folder / f"{name}.jsonl", folder / f"{name}.txt"
        paths = [REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "contracts", REPOSITORY / "benchmarks"]
        given = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*map(str, paths), *([given] if given else [])]),
            "OMP_NUM_THREADS": "1",
            "RAYTUNE_HPO_TEST_DEVICE": device,
            NOTED: str(self._notes),
        }
        command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={REPOSITORY}", which]
        options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "gpu_tests"]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [*command, *options], cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def ask_to_end(self) -> None:
        if not self.has_ended():
            self._process.terminate()

    def end(self) -> None:
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def row(self, *, late: bool) -> dict[str, Any]:
        text = self._notes.read_text() if self._notes.exists() else ""
        noted = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
        counts = {kind: sum(n["outcome"] == kind for n in noted) for kind in ("passed", "failed", "skipped")}
        failures = [{"name": n["name"].split("/")[-1], "line": n["line"]} for n in noted if n["outcome"] == "failed"]
        row: dict[str, Any] = {"file": self.which.removeprefix(f"{LANES}/"), **counts, "failures": failures}
        row["seconds"] = round(time.monotonic() - self._began, 1)
        last = noted[-1]["name"].split("::", 1)[-1] if noted else "its imports"
        if late:
            row["note"] = f"no time left; it was at {last}"
        elif self._process.returncode not in (0, 1):
            lines = [line for line in self._output.read_text().splitlines() if line.strip()]
            said = lines[-1].replace(str(REPOSITORY), ".")[:200] if lines else ""
            row["note"] = f"pytest ended with {self._process.returncode} at {last}: {said}"
        return row


def tests_on_the_device(report: Report, device: str, clock: Clock, which: Sequence[str], at_once: int) -> None:
    """A row of each file as it ends. at_once: so many run side by side."""
    waiting, running = list(which), list[_Running]()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < at_once and clock.left_s > 0:
                    running.append(_Running(waiting.pop(0), device, Path(folder)))
                for one in _ended(running):
                    report.add("tests", one.row(late=False))
                if clock.left_s <= 0:
                    _end(running)
                    for one in running:
                        report.add("tests", one.row(late=True))
                    for name in waiting:
                        report.add("tests", {"file": name.removeprefix(f"{LANES}/"), "note": "skipped: no time left"})
                    return
                time.sleep(0.1)
        finally:
            _end(running)


def _end(running: Sequence[_Running]) -> None:
    for one in running:
        one.ask_to_end()
    for one in running:
        one.end()


def _ended(running: list[_Running]) -> Iterator[_Running]:
    for one in list(running):
        if one.has_ended():
            running.remove(one)
            yield one
