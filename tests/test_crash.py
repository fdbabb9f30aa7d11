"""kill -9 at random moments, resume, and compare with a run that nobody touched.

The victims: the driver, a worker, or the driver and everything of Ray below it at once. The moments are
drawn in steps of the journal, so that the test does not depend on how fast the machine is.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from process_tree import descendants, kill, workers

from raytune_hpo import Results, load_results
from raytune_hpo.journal.events import CheckpointSaved, Ended, SessionOpened, Started, Suggested

TRIALS = 24
ALL = os.environ.get("CRASH_KILLS") == "all"  # 25 kills instead of 9: minutes more

# The trainer on real data, under fifo and random: every metric must come out as if nothing had happened.
DIGITS = """
from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="crash",
    task="digits",
    space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64, "power_of_two"), "dropout": Float(0.0, 0.5),
           "batch_size": 256},
    searcher="random", scheduler="fifo", num_samples=24, max_epochs=12, seed=5, executor="processes",
)
"""

# The same trainer as lanes of two arrays: more and longer trials, since a step of the journal holds many reports.
LANES = """
from raytune_hpo import Choice, Experiment, Float, Int

experiment = Experiment(
    name="crash",
    task="digits",
    space={{"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64, "power_of_two"), "dropout": Float(0.0, 0.5),
           "hidden_layers": Int(1, 3), "batch_size": Int(32, 256, "power_of_two"), "batch_norm": Choice([False, True]),
           "optimizer": Choice(["sgd", "adam", "rmsprop"]), "activation": Choice(["relu", "tanh"])}},
    searcher="random", scheduler="fifo", num_samples={trials}, max_epochs={epochs}, seed=5, executor="lanes",
    checkpoint={{"every": 5}},
)
"""

# Few and short rounds, each with the best trial of the one before carried on: 5 trials of 1, of 2 and of 4 epochs.
ROUNDS = """
from raytune_hpo import Experiment, Float, Int

experiment = Experiment(
    name="crash",
    task="digits",
    space={"lr": Float(1e-4, 1e-1, "log"), "hidden_units": Int(8, 64, "power_of_two"), "dropout": Float(0.0, 0.5),
           "batch_size": 64},
    searcher={"name": "coarse_to_fine", "rounds": 3, "samples": 5, "quantile": 0.6}, scheduler="fifo", max_epochs=4,
    seed=5, executor="processes", max_concurrent=1,
)
"""

# A function of the user's with checkpoints of its own, under asha. It needs no torch: workers start sooner.
FUNCTION = """
import json, math, pathlib, tempfile, time

from ray import tune

from raytune_hpo import Experiment, Float


def train(config):
    epoch, total = 0, 0.0
    checkpoint = tune.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as folder:
            epoch, total = json.loads((pathlib.Path(folder) / "state.json").read_text())
    while epoch < 20:
        epoch += 1
        total += math.sin(config["x"] * epoch) + config["x"]
        time.sleep(0.01)
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "state.json").write_text(json.dumps([epoch, total]))
            tune.report({"score": total / epoch, "total": total},
                        checkpoint=tune.Checkpoint.from_directory(folder))


experiment = Experiment(
    name="crash", task=train, space={"x": Float(0.0, 1.0)}, metric="score", mode="max",
    searcher="random", scheduler="asha", num_samples=24, max_epochs=20, seed=5,
)
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "raytune_hpo.cli.main", *arguments]


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps(run_dir: Path) -> int:
    journal = run_dir / "journal.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for_steps(process: subprocess.Popen[str], run_dir: Path, wanted: int) -> bool:
    """Until the journal has `wanted` lines; False if the process has ended before."""
    while steps(run_dir) < wanted:
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    return process.poll() is None


def run_with_kills(file: Path, run_dir: Path, rng: random.Random, kills: int, most_steps: int) -> dict[str, int]:
    """Run to the end, with `kills` kills on the way. Answers how many of each kind there were."""
    counts = {"driver": 0, "worker": 0, "everything": 0}
    victims: list[str] = []
    arguments = ["run", str(file), "--run-dir", str(run_dir), "--json"]
    process = start(*arguments)
    while sum(counts.values()) < kills:
        if not wait_for_steps(process, run_dir, steps(run_dir) + rng.randint(1, most_steps)):
            assert process.returncode == 0, process.communicate()[1]
            raise AssertionError(f"the run ended after {sum(counts.values())} kills: give it more work")
        victims = victims or rng.sample(list(counts), len(counts))
        victim = victims[-1]
        if victim == "worker":
            found = workers(process.pid)
            if not found:
                continue
            kill([rng.choice(found)])
        else:
            kill([process.pid, *(descendants(process.pid) if victim == "everything" else [])])
            process.communicate()
            process = start("resume", str(run_dir), "--json")
        counts[victims.pop()] += 1
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["status"] == "finished"
    return counts


def uninterrupted(file: Path, run_dir: Path, *more: str) -> Results:
    """more: options, as --executor inline, which starts sooner and trains functions and folds the same."""
    done = subprocess.run(
        command("run", str(file), "--run-dir", str(run_dir), "--json", *more), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return load_results(run_dir)


def metrics(results: Results) -> pd.DataFrame:
    """Every metric by trial and epoch."""
    return results.curves.drop(columns=["seconds"]).set_index(["trial_id", "epoch"]).sort_index()


def check_nothing_lost_or_doubled(results: Results, trials: int) -> None:
    rows = results.trials
    assert list(rows.trial_id) == [f"t{i:05d}" for i in range(trials)]
    assert results.status == "finished"
    assert set(rows.status) <= {"completed", "stopped"}
    assert (rows.failures == 0).all()
    adopted = {e.trial: e.checkpoint.epoch for e in results.of(Suggested) if e.checkpoint is not None}
    for trial_id, curve in results.curves.groupby("trial_id"):
        first = 1 + adopted.get(str(trial_id), 0)
        assert list(curve.epoch) == list(range(first, first + len(curve))), trial_id
    saved: dict[str, int] = dict(adopted)
    for event in results.events:
        if isinstance(event, CheckpointSaved):
            saved[event.trial] = event.checkpoint.epoch
        if isinstance(event, Started):
            # From its newest checkpoint, never from zero once there was one.
            assert event.epoch == saved.get(event.trial, 0), event


def crash(
    source: str, folder: Path, kills: int, most_steps: int, trials: int = TRIALS, calmly: tuple[str, ...] = ()
) -> tuple[Results, Results]:
    """The same experiment without kills, with the options `calmly`, and with them."""
    file = folder / "crash.py"
    file.write_text(source)
    calm = uninterrupted(file, folder / "calm", *calmly)
    counts = run_with_kills(file, folder / "killed", random.Random(source), kills, most_steps)
    killed = load_results(folder / "killed")
    print(f"kills: {counts}; sessions: {killed.ledger.sessions}; metrics: {len(killed.curves)} rows")
    check_nothing_lost_or_doubled(calm, trials)
    check_nothing_lost_or_doubled(killed, trials)
    assert min(counts.values()) >= 1
    assert killed.ledger.sessions == 1 + counts["driver"] + counts["everything"]
    configs: list[dict[str, Any]] = [row["config"] for row in killed.rows()]
    assert configs == [row["config"] for row in calm.rows()]
    return calm, killed


@pytest.mark.skipif(not ALL, reason="CRASH_KILLS=all: the rounds' test below has the same trainer, killed likewise")
@pytest.mark.timeout(600)
def test_fifo_with_kills_gives_identical_metrics(tmp_path: Path) -> None:
    calm, killed = crash(DIGITS, tmp_path, kills=9, most_steps=25)
    pd.testing.assert_frame_equal(metrics(killed), metrics(calm), check_exact=True)
    assert killed.best is not None
    assert calm.best is not None
    assert killed.best.test == calm.best.test


@pytest.mark.timeout(1800 if ALL else 600)
def test_lanes_with_kills_give_identical_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    trials, epochs, kills = (300, 60, 25) if ALL else (40, 20, 3)
    source = LANES.format(trials=trials, epochs=epochs)
    calm, killed = crash(source, tmp_path, kills, most_steps=8, trials=trials)
    pd.testing.assert_frame_equal(metrics(killed), metrics(calm), check_exact=True)
    assert killed.best is not None
    assert calm.best is not None
    assert killed.best.test == calm.best.test
    assert {e.executor for e in killed.of(SessionOpened)} == {"lanes"}


@pytest.mark.timeout(600)
def test_asha_with_kills_loses_and_repeats_nothing(tmp_path: Path) -> None:
    calm, killed = crash(FUNCTION, tmp_path, kills=16 if ALL else 3, most_steps=9, calmly=("--executor", "inline"))
    # Which trials ASHA stops depends on who reports first; what a trial reports does not.
    both = metrics(killed).merge(metrics(calm), left_index=True, right_index=True, suffixes=("", "_calm"))
    assert len(both) >= TRIALS
    for name in ("score", "total"):
        pd.testing.assert_series_equal(both[name], both[f"{name}_calm"], check_names=False, check_exact=True)


@pytest.mark.timeout(600)
def test_coarse_to_fine_with_kills_gives_identical_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    calm, killed = crash(ROUNDS, tmp_path, kills=3, most_steps=12, trials=15)
    pd.testing.assert_frame_equal(metrics(killed), metrics(calm), check_exact=True)
    assert len({str(r["box"]) for r in killed.rounds}) == 3, "the boxes are all one"
    assert killed.rounds == calm.rounds
    plans = [[(t.limit, t.parent, t.note) for t in r.ledger.trials.values()] for r in (killed, calm)]
    assert plans[0] == plans[1]
    assert [t.parent for t in killed.ledger.trials.values()].count(None) == 13
    assert any(ended % 5 for ended in ended_at_sessions(killed)), "no kill was in mid-round"
    assert killed.best is not None
    assert calm.best is not None
    assert killed.best.test == calm.best.test


def ended_at_sessions(results: Results) -> list[int]:
    """How many trials had ended when each session after the first one opened."""
    ended, found = 0, []
    for event in results.events:
        ended += isinstance(event, Ended)
        if isinstance(event, SessionOpened) and event.number > 1:
            found.append(ended)
    return found
