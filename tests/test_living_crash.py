"""kill -9 of runs that three people command at the same time: nothing is lost or done twice, and all are answered."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from process_tree import descendants, kill, workers

from raytune_hpo import load_results
from raytune_hpo.journal.events import Amended, Commanded, EvidenceGiven, Marked, Reported, Settled, Suggested

EXPERIMENT = """
from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="living", task="digits", space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64)},
    searcher="evolutionary", scheduler="SCHEDULER", num_samples=16, max_epochs=9, seed=5, executor="EXECUTOR",
)
"""
PEOPLE = 3


def start(folder: Path) -> subprocess.Popen[bytes]:
    verb = (
        ["resume", "run"] if (folder / "run" / "experiment.json").exists() else ["run", "living.py", "--run-dir", "run"]
    )
    command = [sys.executable, "-m", "raytune_hpo", *verb, "--quiet"]
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)


def campaign(folder: Path, executor: str, scheduler: str, kills: int, seed: int) -> dict[str, Any]:
    """What was found, after so many kills."""
    rng = random.Random(seed)
    (folder / "living.py").write_text(EXPERIMENT.replace("EXECUTOR", executor).replace("SCHEDULER", scheduler))
    process, people = start(folder), []
    deadline = time.monotonic() + 120
    while not (folder / "run" / "journal.jsonl").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    script = str(Path(__file__).with_name("commanding_person.py"))
    for person in range(PEOPLE):
        command = [sys.executable, script, str(folder / "run"), str(seed + person), str(folder / f"log{person}")]
        people.append(subprocess.Popen(command))
    victims: Counter[str] = Counter()
    try:
        while sum(victims.values()) < kills:
            time.sleep(rng.uniform(0.5, 3.0) if executor == "inline" else rng.uniform(2.0, 11.0))
            if process.poll() is not None:
                process = start(folder)
                continue
            victim = rng.choice(["driver", "array", "everything"])
            below, arrays = descendants(process.pid), workers(process.pid)
            if victim == "array" and arrays:
                kill([rng.choice(arrays)])
            else:
                victim = "everything" if victim == "array" else victim
                kill([process.pid] if victim == "driver" else [process.pid, *below])
                process.wait()
                kill(below)  # what Ray has left
            victims[victim] += 1
    finally:
        for person in people:
            person.terminate()
            person.wait()
    for _ in range(20):
        if process.poll() is None:
            assert process.wait(240) in (0, 1), (folder / "output").read_text()[-3000:]
        results = load_results(folder / "run")
        if results.status == "finished" and not list((folder / "run" / "commands").glob("*.json")):
            break
        process = start(folder)
    return {"victims": dict(victims), **checked(folder)}


def checked(folder: Path) -> dict[str, Any]:
    results = load_results(folder / "run")
    assert results.status == "finished", (folder / "output").read_text()[-3000:]
    notes = [json.loads(line) for n in range(PEOPLE) for line in (folder / f"log{n}").read_text().splitlines()]
    sent = [note["sent"] for note in notes if "sent" in note]
    taken = Counter(event.id for event in results.of(Commanded))
    assert max(taken.values()) == 1, "a command was taken twice"
    assert set(sent) <= taken.keys(), "a command was lost"
    done = Counter(event.command for event in results.of(Commanded) if event.applied)
    origins = Counter(event.origin.value for event in results.of(Suggested))
    assert origins["cloned"] == done["clone"]
    assert origins["enqueued"] == done["enqueue"]
    assert len(list(results.of(EvidenceGiven))) == done["import"]
    assert origins["search"] == results.experiment["num_samples"]
    amendments = list(results.of(Amended))
    assert len(amendments) == done["amend"]
    assert len(list(results.of(Marked))) == done["mark"]
    assert results.experiment["num_samples"] == 16 + sum("num_samples" in a.changes for a in amendments)
    assert results.experiment["max_epochs"] == 9 + sum("max_epochs" in a.changes for a in amendments)
    assert len(list(results.of(Settled))) >= min(1, len(amendments))
    reports = Counter((e.trial, e.generation, e.epoch) for e in results.of(Reported))
    assert max(reports.values()) == 1, "a report was taken twice"
    assert all(trial.finished for trial in results.ledger.trials.values())
    assert results.counts["failed"] == 0
    # What a person was told is what is so.
    told = Counter(note["command"] for note in notes if note.get("applied") and note["outcome"] is not None)
    assert all(told[name] <= done[name] for name in told), (told, done)
    answered = sorted(note["seconds"] for note in notes if note.get("outcome") is not None)
    return {
        "commands": len(taken),
        "applied": dict(done),
        "trials": len(results.ledger.trials),
        "sessions": results.ledger.sessions,
        "seconds of an answer, median": answered[len(answered) // 2],
        "unanswered in time": sum("command" in note and note["outcome"] is None for note in notes),
    }


@pytest.mark.parametrize(("executor", "scheduler"), [("inline", "asha")])
def test_a_run_that_is_commanded_and_killed(tmp_path: Path, executor: str, scheduler: str) -> None:
    campaign(tmp_path, executor, scheduler, kills=5, seed=1)


@pytest.mark.large
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("executor", "scheduler"), [("inline", "asha"), ("lanes", "asha"), ("processes", "fifo")])
def test_a_run_that_is_commanded_and_killed_often(tmp_path: Path, executor: str, scheduler: str) -> None:
    found = campaign(tmp_path, executor, scheduler, int(os.environ.get("LIVING_KILLS", "17")), seed=7)
    print(json.dumps(found))
