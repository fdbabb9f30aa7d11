"""Costs, rungs and times of a report where a run did not go the usual way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from written_run import RUN_ID, end, result, suggest, written_run

from raytune_hpo import load_results
from raytune_hpo.journal.events import (
    Closed,
    Commanded,
    Event,
    Executor,
    Phased,
    RangeTested,
    RunStopped,
    SessionOpened,
    Started,
)
from raytune_hpo.journal.file import Journal
from raytune_hpo.pages.document import document
from raytune_hpo.results.facts import facts
from raytune_hpo.states import RunStatus

STARTED = "2026-01-01T00:00:00+0000"


def session(number: int = 1, executor: Executor = Executor.PROCESSES) -> SessionOpened:
    return SessionOpened(number, 1, "host", STARTED, executor)


def timed(path: Path, *steps: tuple[float, list[Event]], **experiment: Any) -> dict[str, Any]:
    """The facts of a run whose steps were written at these seconds of the clock."""
    made = written_run(path, **experiment)
    (made / "journal.jsonl").unlink()
    clock = iter([1000.0 + at for at, _ in steps])
    journal = Journal(made / "journal.jsonl", RUN_ID, clock=lambda: next(clock))
    for at, events in steps:
        journal.append(at, events)
    journal.close()
    return facts(load_results(made))


def seconds(found: dict[str, Any]) -> dict[str, float]:
    return {own["what"]: own["seconds"] for own in found["timeline"]["shares"]}


def test_what_the_end_of_a_run_stopped_is_not_spared(tmp_path: Path) -> None:
    why = "time budget of 4 s used"
    lines: list[Any] = [session(), suggest("t00000"), suggest("t00001"), suggest("t00002")]
    lines += [result("t00000", 1, 0.5, "stop"), end("t00000", "stopped", "asha"), result("t00001", 2, 0.6)]
    lines += [RunStopped(why), end("t00001", "stopped", why), end("t00002", "stopped", why), Closed(RunStatus.FINISHED)]
    found = document(load_results(written_run(tmp_path / "run", *lines, max_epochs=9)))
    assert found["cost"]["saved"] == 8
    assert "spared 8 of 10 epochs" in next(own["text"] for own in found["summary"] if own["topic"] == "What it cost")
    rungs = [(own["epoch"], own["stopped"], own["last"]) for own in found["rungs"]]
    assert rungs == [(0, 0, 1), (1, 1, 1), (2, 0, 1)]


def test_what_was_stopped_while_it_was_paused_was_stopped_at_that_rung(tmp_path: Path) -> None:
    lines: list[Any] = [session(), suggest("t00000"), suggest("t00001")]
    lines += [result("t00000", 1, 0.5, "pause"), result("t00001", 1, 0.6, "pause")]
    lines += [end("t00000", "stopped", "hyperband"), result("t00001", 3, 0.7, "complete")]
    lines += [end("t00001", "completed", "max_epochs")]
    found = facts(load_results(written_run(tmp_path / "run", *lines)))
    assert found["rungs"][0] == {
        "epoch": 1,
        "reached": 2,
        "last": 1,
        "stopped": 1,
        "completed": 0,
        "failed": 0,
        "paused": 2,
    }


@pytest.mark.parametrize(("executor", "gpus"), [(Executor.PROCESSES, 0.25), (Executor.LANES, 1)])
def test_an_array_of_lanes_has_its_gpu_to_itself(tmp_path: Path, executor: Executor, gpus: float) -> None:
    steps = [
        (0.0, [session(executor=executor)]),
        (0.0, [suggest("t00000"), Started("t00000", 0, "host", "host-1")]),
        (3600.0, [*result("t00000", 1, 0.5, "complete"), end("t00000", "completed", "max_epochs")]),
    ]
    cost = timed(tmp_path / "run", *steps, resources={"cpus": 2.0, "gpus": 0.25})["cost"]
    assert (cost["cpu_hours"], cost["gpu_hours"]) == (2, gpus)


def test_a_session_of_one_line_does_not_bring_in_the_time_before_it(tmp_path: Path) -> None:
    found = timed(
        tmp_path / "run",
        (0, [session(), suggest("t00000"), Started("t00000", 0, "host", "host-1")]),
        (10, [*result("t00000", 1, 0.5)]),
        (500, [session(2)]),  # killed while it started
        (900, [session(3)]),
        (901, [Started("t00000", 1, "host", "host-2")]),
        (905, [*result("t00000", 2, 0.6, "complete"), end("t00000", "completed", "max_epochs")]),
    )
    assert found["cost"]["wall_s"] == 15
    assert found["cost"]["training_s"] == 14


def test_a_trial_that_waits_does_not_train(tmp_path: Path) -> None:
    found = timed(
        tmp_path / "run",
        (0, [session(), suggest("t00000"), Started("t00000", 0, "host", "host-1")]),
        (3, [RangeTested("t00000", "s", 0.001, 0.1)]),
        (10, [Started("t00000", 0, "host", "host-1")]),
        (12, [*result("t00000", 1, 0.5), Commanded("t00000", "c1", "pause", True, "paused")]),
        (100, [Commanded("t00000", "c2", "resume", True, "goes on")]),
        (101, [Started("t00000", 1, "host", "host-1")]),
        (105, [*result("t00000", 2, 0.5, "complete"), end("t00000", "completed", "max_epochs")]),
    )
    assert found["cost"]["training_s"] == 3 + 2 + 4
    assert seconds(found) == {"idle": 96, "training": 9, "before it began": 0}


def test_both_axes_of_time_have_the_same_clock(tmp_path: Path) -> None:
    """The improvement stands at the same second of the best so far and of the timeline, start-up included."""
    found = timed(
        tmp_path / "run",
        (0, [session(), Phased("process", 980.0, 1000.0)]),
        (1, [suggest("t00000"), Started("t00000", 0, "host", "host-1")]),
        (5, [*result("t00000", 1, 0.5, "complete"), end("t00000", "completed", "max_epochs")]),
    )
    assert found["best_so_far"]["seconds"][0]["seconds"] == found["timeline"]["workers"][1]["spans"][0][1] == 25


def test_a_run_of_format_1_has_its_seconds_of_running(tmp_path: Path) -> None:
    import shutil

    run = shutil.copytree(Path(__file__).parents[1] / "data" / "format1" / "pbt", tmp_path / "run")
    results = load_results(run)
    found = facts(results)
    assert found["cost"]["wall_s"] == pytest.approx(results.seconds, abs=0.1)
    assert found["cost"]["training_s"] > 0


@pytest.mark.parametrize("far", [1e308, -1e308])
def test_times_beyond_all_measure_are_no_error(tmp_path: Path, far: float) -> None:
    steps = [
        (0.0, [session(), suggest("t00000"), Phased("process", far, abs(far), "w"), Phased("x", far, far)]),
        (1.0, [Started("t00000", 0, "host", "w")]),
        (2.0, [*result("t00000", 1, 0.5)]),
    ]
    timed(tmp_path / "run", *steps)
    from raytune_hpo.pages.page import parts

    parts([document(load_results(tmp_path / "run"))])
