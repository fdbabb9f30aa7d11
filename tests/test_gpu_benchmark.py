"""benchmarks/gpu.py: every part on a CPU, without Ray; and its files are whole whenever it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = REPOSITORY / "benchmarks" / "gpu.py"
sys.path.insert(0, str(PROGRAM.parent))

from gpu_device import Device, Utilisation  # noqa: E402
from gpu_report import PARTS, Report, shown, spread_of  # noqa: E402
from gpu_time import Clock  # noqa: E402

#: What a machine with a GPU need not have.
MISSING = ("ray", "hyperopt", "rich", "optuna", "bayes_opt", "cmaes", "matplotlib", "pytest_timeout", "xdist")
BLOCKED = f"""
import importlib.abc
import sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {MISSING}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
"""
RED = "def test_red() -> None:\n    assert 1 == 2\n\ndef test_green() -> None:\n    pass\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "sitecustomize.py").write_text(BLOCKED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "missing"))
    options = ["--device", "cpu", "--smoke", "--out", str(tmp_path / "out"), "--models", "mlp 64-64-10"]
    return [sys.executable, str(PROGRAM), *options]


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def found(folder: Path) -> tuple[dict[str, Any], str]:
    assert sorted(path.name for path in folder.iterdir()) == ["gpu.json", "gpu.md"]
    return json.loads((folder / "gpu.json").read_text()), (folder / "gpu.md").read_text()


def test_every_part_is_in_both_files(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_red.py").write_text(RED)
    (tmp_path / "test_broken.py").write_text("import ray\n")
    lanes = "tests/training/lanes/test_mixed.py::test_what_lanes_are_padded_to"
    tests = [lanes, str(tmp_path / "test_red.py"), str(tmp_path / "test_broken.py")]
    done = subprocess.run([*command, "--tests", *tests], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    document, text = found(tmp_path / "out")
    assert document["complete"] is True
    assert document["notes"] == []
    assert document["machine"]["torch"]
    assert text.startswith(f"# {document['machine']['name']}\n")
    parts = {name: part["rows"] for name, part in document["parts"].items()}
    assert list(parts) == list(PARTS) == ["tests", "lanes", "processes", "exploit"]

    green, red, broken = parts["tests"]
    assert (green["passed"], green["failed"], green["skipped"]) == (1, 0, 0)
    assert (red["passed"], red["failed"]) == (1, 1)
    assert red["failures"][0]["name"].endswith("::test_red")
    assert red["failures"][0]["line"] == "assert 1 == 2 [test_red.py:2]"
    assert broken["failed"] == 1
    assert "ray" in broken["failures"][0]["line"], "what is said to be missing here is"
    assert broken["note"].startswith("pytest ended with 2")

    assert [row["how"] for row in parts["lanes"]] == ["solo", "L=1", "L=4", "L=4, CUDA graphs"]
    assert [row["processes"] for row in parts["processes"]] == [1, 2]
    for row in [*parts["lanes"], *parts["processes"]]:
        assert row["rate"]["min"] > 0
        assert "note" not in row
        assert (row["memory_mb"], row["utilisation"]) == (None, None)
    assert all(row["gain"] > 0 for row in [*parts["lanes"][1:], *parts["processes"]])
    assert [row["what"] for row in parts["exploit"]] == ["an epoch, nobody comes", "1 copies", "one lane comes"]
    for row in parts["exploit"][1:]:
        assert row["each_ms"]["median"] > 0
        assert row["placement_s"]["median"] > 0

    for part, (title, columns) in PARTS.items():
        at = text.index(f"## {title}")
        table = [line for line in text[at:].split("\n## ")[0].splitlines() if line.startswith("|")]
        assert table[0] == "| " + " | ".join(columns) + " |"
        assert len(table) == 2 + len(parts[part])
        assert {line.count("|") for line in table} == {len(columns) + 1}
    lines = done.stdout.splitlines()
    assert sum(line.split(":")[0] in PARTS for line in lines) == sum(len(rows) for rows in parts.values())
    assert str(tmp_path / "out" / "gpu.json") in lines[-1]
    assert str(tmp_path / "out" / "gpu.md") in lines[-1]


def test_a_signal_leaves_the_rows_so_far_and_no_process(command: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*command, "--parts", "lanes", "processes"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        lines = []
        for line in program.stdout:
            lines.append(line)
            if line.startswith("lanes:") and "CUDA graphs" in line:
                time.sleep(0.5)
                program.send_signal(signal.SIGTERM)
        assert program.wait() == 128 + signal.SIGTERM
    document, text = found(tmp_path / "out")
    assert document["complete"] is False
    assert len(document["parts"]["lanes"]["rows"]) == 4
    assert document["notes"][0].startswith("ended by SIGTERM, in processes after ")
    assert text.count("| mlp 64-64-10 |") >= 3
    assert lines[-1].startswith("wrote ")
    deadline = time.monotonic() + 10
    while is_there(program.pid):
        assert time.monotonic() < deadline, "a process that it had started outlives it"
        time.sleep(0.1)


def test_what_there_is_no_time_for_says_so(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run([*command, "--minutes", "0.15"], capture_output=True, text=True, check=True)
    document, _ = found(tmp_path / "out")
    assert document["notes"] == [f"{part}: skipped: no time left" for part in PARTS]
    assert done.stdout.splitlines()[:-1] == document["notes"]


def test_out_of_memory_ends_the_rows_of_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gpu_lanes

    device = Device("cpu")
    enter = gpu_lanes.Alike.__init__

    def fitting(self: Any, what: Any, device: Device, lanes: int, check: Any, *, graphs: bool) -> None:
        if lanes > 1:
            raise torch.OutOfMemoryError("simulated")
        enter(self, what, device, lanes, check, graphs=graphs)

    monkeypatch.setattr(gpu_lanes.Alike, "__init__", fitting)
    report = Report(tmp_path, device.facts(), {}, time.monotonic())
    clock = Clock(time.monotonic() + 20)
    of_all = (report, device, Utilisation(device), clock, ["mlp 64-64-10"])
    gpu_lanes.lanes_against_solo(*of_all, (1, 4, 8), repeats=1, small=True)
    notes = [row.get("note") for row in report.rows("lanes")]
    assert notes == [None, None, "out of memory", *["not tried: L=4 ran out of memory"] * 2]


def test_how_busy_a_card_is_comes_from_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As where pynvml is missing. No GPU is asked: a program of that name answers."""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nwhile true; do echo 40; echo '[N/A]'; echo 60; sleep 0.1; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="x"))

    def missing() -> int:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    busy, row = Utilisation(Device("cuda")), dict[str, Any]()
    with busy.watched(row):
        time.sleep(0.5)
    busy.end()
    assert busy.source == "nvidia-smi"
    assert 40 < row["utilisation"] < 60


def test_time_that_a_part_leaves_is_the_next_ones() -> None:
    clock = Clock(time.monotonic() + 100)
    left = [round(of_part.left_s) for _, of_part in clock.shared("abc", [1, 1, 2])]
    assert left == [25, 33, 100]
    assert [round(of_part.left_s) for _, of_part in Clock(0.0).shared("ab")] == [0, 0]


def test_cells() -> None:
    assert shown(spread_of([3.0, 1.0, 2.0, 1234.5])) == "2.5 (1..1234)"
    assert shown(spread_of([0.01234])) == "0.0123"
    assert shown("a | b") == "a / b"
