"""benchmarks/startup.py: a timeline has what the journal says and what was seen from outside, on one clock."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from written_run import end, result, suggest, written_run

from raytune_hpo import events, load_results
from raytune_hpo.states import RunStatus

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gantt  # noqa: E402
import startup  # noqa: E402
import timeline  # noqa: E402
import whole_process  # noqa: E402
from whole_process import Process, Program  # noqa: E402

BUSY = "import time\nwhile time.process_time() < 0.2: pass"
FAMILY = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}]); {BUSY}"


@pytest.fixture
def made(tmp_path: Path) -> timeline.Timeline:
    run_dir = written_run(
        tmp_path / "run",
        (events.SessionOpened(1), events.Phased("ray", 90.0, 94.0), events.Phased("imports", 94.0, 94.5)),
        suggest("t0"),
        (
            events.Started("t0", 0),
            events.Phased("imports", 91.0, 93.5, "host-12"),
            events.Phased("a < b", 90.5, 91, "h-7"),
        ),
        result("t0", 1, 0.5),
        result("t0", 2, 0.75),
        (end("t0", "completed", "max_epochs"), events.Closed(RunStatus.FINISHED)),
    )
    assert len(load_results(run_dir).steps) == 6
    read = timeline.read_run(run_dir)
    began = 1_000.0
    assert list(read["moments"].values()) == sorted(read["moments"].values())
    read["moments"] = {name: began + 20 + i for i, name in enumerate(read["moments"])}
    read["phases"] = [(w, name, a - 90 + began, b - 90 + began) for w, name, a, b in read["phases"]]
    processes = (
        Process(5, "python", (began, began + 30), 2.0),
        Process(12, "ray::Worker", (began + 1, began + 29), 0.5),
    )
    return timeline.timeline(Program(began, began + 30, began + 31, processes, ""), read)


def test_a_timeline_is_in_seconds_from_exec(made: timeline.Timeline) -> None:
    assert list(made.moments) == list(timeline.MOMENTS)
    assert list(made.moments.values()) == [20, 21, 22, 23, 24, 30, 31]
    assert timeline.Phase("driver", "ray", 0.0, 4.0) in made.phases
    assert timeline.Phase("worker 2", "imports", 1.0, 3.5) in made.phases  # the second to start
    assert [(p.process, p.cpu_s) for p in made.processes] == [("driver", 2.0), ("worker 2", 0.5)]
    assert (made.cpu_s, made.best) == (2.5, 0.75)


def test_the_picture_is_xml_with_every_phase_and_moment(made: timeline.Timeline) -> None:
    made = replace(made, phases=(*made.phases, timeline.Phase("driver", "too short to see", 1.0, 1.001)))
    text = " ".join(ElementTree.fromstring(gantt.picture(made, "a & b")).itertext())
    assert "a & b" in text
    assert "a < b 0.50" in text
    assert "too short" not in text
    for name in (*timeline.MOMENTS, "ray 4.00", "imports 2.50", "worker 1"):
        assert name in text


def test_rows_are_printed(made: timeline.Timeline) -> None:
    rows = dict(startup.phase_rows({"this": [made, made], "other": []}))
    assert rows["driver, ray"] == ["0.00 to 4.00: 4.00 (4.00..4.00)", "-"]
    assert startup.ratios([made], [11.0])[:2] == [
        ("first report / import torch, ray.tune", "2.00"),
        ("prompt - last report", "7.00"),
    ]


def test_a_program_is_measured_with_what_it_starts() -> None:
    before = time.time()
    program = whole_process.run_program([sys.executable, "-c", FAMILY])
    assert before <= program.began < program.ended <= program.gone <= time.time()
    assert program.processes[0].cpu_s >= 0.19  # of the program itself all, of what it starts up to a sample
    assert program.cpu_s >= 0.25


def test_a_program_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match=r"exit code 3\n.*it broke"):
        whole_process.run_program([sys.executable, "-c", "import sys; print('it broke', file=sys.stderr); sys.exit(3)"])


def test_this_checkout_is_what_runs() -> None:
    program = whole_process.run_program(
        [sys.executable, "-c", "import os, raytune_hpo; print(raytune_hpo.__file__, os.listdir())"]
    )
    assert program.stdout.split() == [str(BENCHMARKS.parent / "raytune_hpo" / "__init__.py"), "[]"]
