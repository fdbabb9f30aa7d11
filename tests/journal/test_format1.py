"""Runs of format 1, as the versions before the chain wrote them: their tables, and what a new session makes of them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from written_run import RUN_ID, finished_run, seal, written_run

from raytune_hpo import ExperimentError, load_results
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.journal import events
from raytune_hpo.journal.file import read
from raytune_hpo.storage.run_directory import RunDirectory

Old = dict[str, Any]


def suggest(trial: str, lr: float, **more: Any) -> Old:
    return {"event": "suggest", "trial": trial, "config": {"lr": lr, "batch_size": 32}, **more}


def result(
    trial: str, epoch: int, accuracy: float, decision: str = "continue", generation: int = 0, **more: Any
) -> Old:
    metrics = {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}
    return {"event": "result", "trial": trial, "generation": 0, "epoch": epoch, "metrics": metrics,
            "seconds": 0.5, "decision": decision, **more}  # fmt: skip


def record(trial: str, epoch: int, generation: int = 0) -> Old:
    path = f"checkpoints/{trial}/{generation:02d}-{epoch:05d}.1"
    return {"trial": trial, "generation": generation, "epoch": epoch, "path": path, "bytes": 0, "crc32": 0}


def checkpoint(trial: str, epoch: int) -> Old:
    return {"event": "checkpoint", **record(trial, epoch)}


def end(trial: str, status: str, reason: str, **more: Any) -> Old:
    return {"event": "end", "trial": trial, "status": status, "reason": reason, **more}


#: What `finished_run` has, in the words of format 1.
FINISHED: list[Old] = [
    {"event": "session", "number": 1, "pid": 1, "host": "h", "started": "s"},
    suggest("t00000", 0.01),
    suggest("t00001", 0.05),
    suggest("t00002", 0.001),
    suggest("t00003", 0.1),
    result("t00000", 1, 0.8, "stop"),
    end("t00000", "stopped", "scheduler"),
    result("t00001", 1, 0.9),
    checkpoint("t00001", 1),
    result("t00001", 2, 0.95),
    checkpoint("t00001", 2),
    result("t00001", 3, 0.94, "stop"),
    end("t00001", "completed", "max_epochs"),
    result("t00002", 1, math.nan, "stop"),
    end("t00002", "diverged", "diverged"),
    end("t00003", "failed", "error", error="ValueError: no", file="errors/t00003.txt"),
    {"event": "close", "status": "finished"},
]

#: Of each other kind one.
OTHERS: list[Old] = [
    {"event": "session", "number": 1, "pid": 1, "host": "h", "started": "s", "executor": "lanes", "room": True},
    suggest("t0", 0.01, limit=9, note={"round": 0}),
    suggest("t1", 0.02, parent="t0", checkpoint=record("t1", 1), suggested={"lr": 0.03, "batch_size": 32}, repeat=2),
    {"event": "start", "trial": "t0", "epoch": 0, "host": "h"},
    {"event": "lr_range", "trial": "t0", "structure": "{}", "low": 0.001, "high": 0.1},
    {"event": "narrow", "trial": "t0", "config": {"lr": 0.05, "batch_size": 32}},
    {"event": "retry", "lost_worker": True, "epoch": 0, "blame": 0.5, "trial": "t0", "error": "died", "file": None},
    result("t0", 1, 0.5, "exploited", note="care says so"),
    {"event": "perturb", "trial": "t0", "donor": "t1", "donor_epoch": 1, "donor_generation": 0, "epoch": 1,
     "generation": 1, "old_config": {"lr": 0.05, "batch_size": 32}, "new_config": {"lr": 0.06, "batch_size": 32},
     "checkpoint": record("t0", 1, 1), "reason": "exploit", "by": "hand"},
    {"event": "lost_checkpoint", "trial": "t0", "path": "checkpoints/t0/01-00001.1"},
    {"event": "command", "trial": "t0", "id": "1-2", "command": "pause", "outcome": "paused", "applied": True},
    {"event": "stop", "reason": "time budget of 3 s used"},
    {"event": "exhausted"},
]  # fmt: skip


def old_run(path: Path, lines: list[Old]) -> Path:
    run = written_run(path)
    description = json.loads((run / "experiment.json").read_text())
    (run / "experiment.json").write_text(json.dumps({**description, "format": 1}))
    # One event a line and second; NaN as such.
    steps = [{"t": second, "events": [line]} for second, line in enumerate(lines, start=1)]
    (run / "journal.jsonl").write_text("".join(json.dumps(step, separators=(",", ":")) + "\n" for step in steps))
    for line in lines:
        if line["event"] == "checkpoint":
            (run / line["path"]).mkdir(parents=True)
    return run


def tables(run: Path) -> str:
    """With NaN equal to itself, and without the run's place."""
    results = load_results(run)
    best = results.best
    assert best is not None
    best = dataclasses.replace(best, checkpoint=best.checkpoint and best.checkpoint.relative_to(run))
    return repr((results.rows(), best, results.curves.to_dict("records"), results.counts, results.seconds))


def test_a_run_of_format_1_has_the_tables_that_it_had(tmp_path: Path) -> None:
    old, new = old_run(tmp_path / "old", FINISHED), finished_run(tmp_path / "new")
    subject = {"trial": "t00001", "checkpoint": "checkpoints/t00001/00-00002.1", "epoch": 2}
    seal(old, subject, {"test_accuracy": 0.93, "test_loss": 0.1})
    before = (old / "journal.jsonl").read_bytes()
    assert tables(old) == tables(new)
    assert (old / "journal.jsonl").read_bytes() == before, "it was changed by being read"


def test_every_kind_of_event_is_read(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", OTHERS)
    results = load_results(run)
    kinds = {type(event) for event in results.events}
    assert kinds == set(events.KINDS.values()) - {
        events.CheckpointSaved, events.Ended, events.Closed,  # in the run above
        events.Phased, events.Noticed, events.EvidenceGiven,  # format 1 had none
        events.Amended, events.ExecutorChanged, events.DataLoaded, events.Reopened,
        events.Warned, events.Deferred, events.Settled, events.Held, events.Released, events.Promoted, events.Marked,
        events.Discovered,
    }  # fmt: skip
    (decided,) = results.of(events.Decided)
    assert (decided.trial, decided.epoch, decided.decision, decided.note) == ("t0", 1, "exploited", "care says so")
    (perturbed,) = results.of(events.Perturbed)
    assert perturbed.by is events.By.HAND
    assert perturbed.checkpoint == events.CheckpointRecord(**record("t0", 1, 1))
    first, second = results.ledger.trials.values()
    assert (first.limit, first.losses, first.generation, first.checkpoints) == (9, 0, 1, [])
    assert (second.parent, second.repeat, second.narrowed, second.epoch) == ("t0", 2, True, 1)
    assert results.ledger.lr_ranges == {"{}": (0.001, 0.1)}
    assert (results.stop_reason, results.ledger.held) == ("time budget of 3 s used", True)


@pytest.mark.parametrize("lines", [FINISHED, OTHERS], ids=["finished", "others"])
def test_a_new_session_makes_format_2_of_it_and_keeps_the_old_journal(lines: list[Old], tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", lines)
    before, events_before = (run / "journal.jsonl").read_bytes(), load_results(run).events
    reading, journal = open_journal(RunDirectory.open(run))
    journal.append(99.0, [events.SessionOpened(2)])
    journal.close()
    assert (run / "journal.format1.jsonl").read_bytes() == before
    assert json.loads((run / "experiment.json").read_text())["format"] == 2
    again = read(run / "journal.jsonl", RUN_ID)
    assert (again.format, again.damage, len(again.steps)) == (2, None, len(lines) + 1)
    found = [event for step in again.steps for event in step.events]
    assert repr(found) == repr([*events_before, events.SessionOpened(2)])
    assert reading.format == 2
    # Once more: nothing is rewritten, and what was kept stays.
    open_journal(RunDirectory.open(run))[1].close()
    assert (run / "journal.format1.jsonl").read_bytes() == before
    assert len(read(run / "journal.jsonl", RUN_ID).steps) == len(lines) + 1


def test_the_end_of_an_old_journal_may_be_torn_or_damaged(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", FINISHED)
    whole = (run / "journal.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for tail, damage in (
        (b'{"t": 99, "eve', None),
        (b"\0" * 9 + b"\n", "line 18 of journal.jsonl is damaged"),
        (b'{"t": 99, "events": [{"event": "levitate"}]}\n', "line 18 of journal.jsonl is damaged: events[0].event"),
    ):
        (run / "journal.jsonl").write_bytes(whole + tail)
        results = load_results(run)
        assert (results.status, len(results.steps)) == ("finished", len(lines))
        assert (results.damage or "").startswith(damage or "")
        assert (results.damage is None) == (damage is None)
    (run / "journal.jsonl").write_bytes(b"".join([*lines[:3], b"\0\n", *lines[4:]]))
    with pytest.raises(ExperimentError, match=r"journal\.jsonl:4': is damaged"):
        load_results(run)


def test_a_damaged_line_of_an_old_journal_is_set_aside_too(tmp_path: Path) -> None:
    run = old_run(tmp_path / "run", OTHERS)
    with (run / "journal.jsonl").open("ab") as file:
        file.write(b"\0\0\n")
    reading, journal = open_journal(RunDirectory.open(run))
    journal.close()
    assert reading.damage is not None
    (aside,) = run.glob("journal-damaged-*.jsonl")
    assert aside.read_bytes() == b"\0\0\n"
    assert load_results(run).damage is None
    assert len(load_results(run).steps) == len(OTHERS)
