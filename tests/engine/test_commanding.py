"""Commands to real runs: of which a process has none, and of which one has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, Int, amend, enqueue, load_results, resume, run
from raytune_hpo.cli.main import main
from raytune_hpo.engine.commanding import give
from raytune_hpo.journal.events import Amended, Commanded, Reported, Settled, Suggested
from raytune_hpo.results.results import Results
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.verdicts.replay import replay

FILE = """
import time
from raytune_hpo import *

def train(config):
    start = get_checkpoint()
    first = int((start / "epoch").read_text()) if start is not None else 0
    for epoch in range(first, 100):
        time.sleep(config["seconds"])
        folder = trial_dir() / f"made-{epoch}"
        folder.mkdir(exist_ok=True)
        (folder / "epoch").write_text(str(epoch + 1))
        report({"loss": config["x"] / (epoch + 1)}, checkpoint=folder)

experiment = Experiment(
    name="live", task=train, space={"x": Float(0.1, 1.0), "seconds": 0.05}, metric="loss", mode="min",
    searcher="random", scheduler="fifo", num_samples=4, max_epochs=40, executor="EXECUTOR", max_concurrent=2,
)
"""


def digits(folder: Path, samples: int, searcher: Any = "random") -> Experiment:
    return Experiment(
        name="digits",
        task="digits",
        space={"lr": Float(1e-3, 1e-1, "log"), "hidden_units": Int(8, 32)},
        searcher=searcher,
        scheduler="fifo",
        num_samples=samples,
        max_epochs=2,
        executor="inline",
        max_concurrent=3,
        storage=str(folder),
    )


def table(results: Results) -> list[Any]:
    """Everything but times."""
    reports = [(e.trial, e.epoch, e.metrics) for e in results.of(Reported)]
    trials = [(t.id, t.config, t.status, t.best, t.best_epoch) for t in results.ledger.trials.values()]
    return [sorted(reports, key=lambda r: r[:2]), trials]


@pytest.mark.parametrize("searcher", ["random", {"name": "random", "sampler": "sobol"}, {"name": "grid", "points": 4}])
def test_an_extended_run_is_the_run_of_the_sum_to_the_bit(tmp_path: Path, searcher: Any) -> None:
    whole = run(digits(tmp_path, 8, searcher), tmp_path / "whole", quiet=True)
    run(digits(tmp_path, 4, searcher), tmp_path / "run", quiet=True)
    answer = amend(tmp_path / "run", {"num_samples": "+4"})
    assert (answer.outcome, answer.is_running) == ("amended: num_samples 4 -> 8", False)
    assert load_results(tmp_path / "run").status == "interrupted"
    extended = resume(tmp_path / "run", quiet=True)
    assert table(extended) == table(whole)
    assert extended.experiment["num_samples"] == 8
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["begun_with"]["num_samples"] == 4


def test_lanes_train_on_to_more_epochs_with_the_rate_of_the_longer_schedule(tmp_path: Path) -> None:
    space = {"lr": Float(1e-3, 1e-1, "log"), "lr_schedule": "cosine"}
    run(digits(tmp_path, 3).override({"space": space}), tmp_path / "run", quiet=True)
    answer = amend(tmp_path / "run", {"max_epochs": 4})
    assert "learning-rate schedules are of 4 epochs for what is trained from here on" in str(answer.outcome)
    results = resume(tmp_path / "run", quiet=True)
    assert {t.epoch for t in results.ledger.trials.values()} == {4}
    rates = [e.metrics["lr"] for e in results.of(Reported) if e.trial == "t00000"]
    assert [rate / rates[0] for rate in rates] == pytest.approx([1, 0.5, 0.5, 0.5 * (1 - 0.5**0.5)], rel=1e-4)
    again = replay(results, "t00000")
    assert [(s.first, s.last, s.max_epochs) for s in again.segments] == [(0, 2, 2), (2, 4, 4)]
    assert again.differing == []


def test_nothing_is_changed_where_the_description_was_not_written_any_more(tmp_path: Path) -> None:
    """A crash between the journal and experiment.json."""
    run(digits(tmp_path, 2), tmp_path / "run", quiet=True)
    before = (tmp_path / "run" / "experiment.json").read_bytes()
    amend(tmp_path / "run", {"num_samples": 3})
    (tmp_path / "run" / "experiment.json").write_bytes(before)
    assert load_results(tmp_path / "run").experiment["num_samples"] == 3
    assert len(resume(tmp_path / "run", quiet=True).ledger.trials) == 3
    assert json.loads((tmp_path / "run" / "experiment.json").read_text())["experiment"]["num_samples"] == 3


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(digits(tmp_path, 3), tmp_path / "run", quiet=True)
    where = str(tmp_path / "run")

    def said(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, (captured.out + captured.err).strip().replace(where, "RUN")

    assert said("extend", where, "--samples", "+1", "--time", "+2h") == (
        0,
        "amended: num_samples 3 -> 4, time_budget_s None -> 7200.0\nraytune-hpo resume RUN goes on with it",
    )
    assert said("amend", where, "--set", 'space.lr=Float(1e-3, 0.5, scale="log")')[0] == 0
    code, text = said("amend", where, "--set", "metric=validation_loss")
    assert code == 2
    assert text.startswith("raytune-hpo: amend metric = 'validation_loss': stays as it is")
    (tmp_path / "configs").write_text('{"lr": 0.01, "hidden_units": 9}\n{"lr": 0.02, "hidden_units": 10}\n')
    assert said("enqueue", where, "--file", str(tmp_path / "configs"))[1].startswith("t00003 to t00004\n")
    assert said("enqueue", where, "--config", "{")[0] == 2
    assert said("trial", "clone", where, "t0", "--set", "lr=0.03", "--epoch", "1")[0] == 2
    assert said("trial", "tag", where, "t1", "keep", "me") == (0, "t00001: tags: keep, me")
    assert said("trial", "tag", where, "t1", "--remove", "me") == (0, "t00001: tags: keep")
    assert said("trial", "note", where, "t1", "look at this")[1] == "t00001: noted"
    assert said("trial", "stop", where, "t1") == (
        2,
        "raytune-hpo: trial stop = 't00001': has ended: it is completed",
    )
    assert said("trial", "stop", where, "t3") == (0, "t00003 stopped after epoch 0")
    results = resume(where, quiet=True)
    assert results.counts["completed"] == 5
    assert [t.status for t in results.ledger.trials.values() if t.id == "t00003"] == ["stopped"]
    text = said("trials", where)[1]
    assert "keep" in text
    assert "look at this" in text
    assert "amended: num_samples 3 -> 4" in said("best", where)[1]


@pytest.mark.usefixtures("ray_session")
def test_an_experiment_of_a_function_gets_another_space(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no run"):
        enqueue(tmp_path, [{}])
    run(digits(tmp_path, 2), tmp_path / "run", quiet=True)
    with pytest.raises(ExperimentError, match=r"dropuot.*no such"):
        amend(tmp_path / "run", {"space.dropuot": 0.1})
    amend(tmp_path / "run", {"space.dropout": Float(0.0, 0.5), "num_samples": 4})
    results = resume(tmp_path / "run", quiet=True)
    assert ["dropout" in t.config for t in results.ledger.trials.values()] == [False, False, True, True]


# While a process has it ---------------------------------------------------------------------------------


@pytest.fixture(params=["processes", pytest.param("inline", marks=pytest.mark.large)])
def living(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    (tmp_path / "live.py").write_text(FILE.replace("EXECUTOR", request.param))
    command = [sys.executable, "-m", "raytune_hpo", "run", "live.py", "--run-dir", "run", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    journal = tmp_path / "run" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not journal.exists() or b'"report"' not in journal.read_bytes():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    yield tmp_path / "run", process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_living_run_is_amended_and_commanded(living: tuple[Path, subprocess.Popen[bytes]]) -> None:
    path, process = living
    assert amend(path, {"num_samples": "+1"}).is_running
    with pytest.raises(ExperimentError, match="stays as it is"):
        amend(path, {"seed": 5})
    assert str(give(path, "hold", trial="t0").outcome).startswith("t00000 paused after epoch")
    queued = str(enqueue(path, [{"x": 0.2}]).outcome)
    assert give(path, "mark", trial="t0", tags=["first"]).trial == "t00000"
    cloned = give(path, "clone", trial="t0", changes={"x": 0.15}).trial
    assert give(path, "release", trial="t0").trial == "t00000"
    assert amend(path, {"max_epochs": 42}).outcome == "amended: max_epochs 40 -> 42"
    give(path, "stop", trial=cloned)
    process.wait(120)
    results = load_results(path)
    assert results.status == "finished"
    assert [e.applied for e in results.of(Commanded)].count(False) == 1
    assert len(list(results.of(Settled))) == len(list(results.of(Amended))) == 2
    assert len(results.ledger.trials) == 7
    origins = [e.origin.value for e in results.of(Suggested)]
    assert (origins.count("search"), origins.count("enqueued"), origins.count("cloned")) == (5, 1, 1)
    epochs = {t.id: t.epoch for t in results.ledger.trials.values()}
    assert all(epochs[t] == 42 for t in epochs if t != cloned), epochs
    assert queued in epochs
    assert results.ledger.trials["t00000"].tags == ("first",)


LINES: list[tuple[list[str], str]] = [
    (["extend", "RUN"], "needs --samples, --epochs or --time"),
    (["extend", "RUN", "--samples", "many"], "num_samples = 'many': must be an integer"),
    (["extend", "RUN", "--epochs", "1"], "must be above 2"),
    (["extend", "RUN", "--time", "+soon"], "must be seconds, or such as 90m, +2h, +1d"),
    (["extend", "NOWHERE", "--samples", "+1"], "holds no run"),
    (["extend", "RUN", "--sample", "+1"], "unrecognized arguments"),
    (["amend", "RUN"], "needs at least one FIELD=VALUE"),
    (["amend", "RUN", "--set", "num_samples"], "must be FIELD=VALUE"),
    (["amend", "RUN", "--set", "num_samples=9", "--set", "num_samples=8"], "is set twice"),
    (["amend", "RUN", "--set", 'space.lr={"parameter": 5}'], "is no parameter"),
    (["amend", "RUN", "--set", "on_finish=no-such-program"], "no program that can be found here"),
    (["amend", "RUN", "--set", "num_samples=9", "--default", "lr=2"], "is of no parameter that this amendment adds"),
    (["amend", "RUN", "--set", "scheduler=hyperband"], "plans its brackets from the beginning"),
    (["enqueue", "RUN"], "one of the arguments --config --file is required"),
    (["enqueue", "RUN", "--config", "{"], "is no JSON"),
    (["enqueue", "RUN", "--config", "5"], "must be an object, parameter name: value"),
    (["enqueue", "RUN", "--config", '{"lr": 0.01}'], "hidden_units = None: is missing"),
    (["enqueue", "RUN", "--config", '{"lr": 7, "hidden_units": 9}'], "must lie in [0.001, 0.1] log"),
    (["enqueue", "RUN", "--file", "NOWHERE"], "cannot be read"),
    (["enqueue", "RUN", "--file", "BROKEN"], "line 2"),
    (["trial", "RUN"], "invalid choice"),
    (["trial", "stop", "RUN"], "required: TRIAL"),
    (["trial", "stop", "RUN", "t77"], "no such trial in this run; there are t00000 to t00001"),
    (["trial", "pause", "RUN", "t0"], "has ended: it is completed"),
    (["trial", "promote", "RUN", "t0", "--epochs", "9"], "extend RUN_DIR --epochs 9 first"),
    (["trial", "clone", "RUN", "t0", "--set", "hidden_units=8"], "makes another model, which no checkpoint fits"),
    (["trial", "clone", "RUN", "t0", "--epoch", "1"], "has no checkpoint"),
    (["trial", "tag", "RUN", "t0", "two words"], "letters, digits"),
    (["trial", "tag", "RUN", "t0"], "has these tags already: none"),
]


def test_wrong_command_lines_are_one_line_and_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(digits(tmp_path, 2), tmp_path / "run", quiet=True)
    (tmp_path / "broken").write_text('{"lr": 0.01, "hidden_units": 9}\n{\n')
    names = {name: str(tmp_path / name.lower()) for name in ("RUN", "BROKEN", "NOWHERE")}
    journal = (tmp_path / "run" / "journal.jsonl").read_bytes()
    capsys.readouterr()
    for line, expected in LINES:
        try:
            code = main([names.get(word, word) for word in line])
        except SystemExit as ended:
            code = int(str(ended.code))
        text = capsys.readouterr().err.strip()
        assert code == 2, (line, text)
        assert expected in text, (line, text)
        assert "\n" not in text, (line, text)
    refused = load_results(tmp_path / "run")
    assert {e.applied for e in refused.of(Commanded)} == {False}
    assert all(type(e) is Commanded for step in refused.steps[len(journal.splitlines()) :] for e in step.events)


def test_a_command_is_taken_where_who_had_the_run_gives_it_up_meanwhile(tmp_path: Path) -> None:
    run(digits(tmp_path, 2), tmp_path / "run", quiet=True)
    holder = RunDirectory.open(tmp_path / "run")
    holder.lock()
    threading.Timer(1.0, holder.unlock).start()
    answer = give(tmp_path / "run", "mark", 20.0, trial="t0", tags=["late"])
    assert (answer.outcome, answer.is_running) == ("t00000: tags: late", False)
    assert not list((tmp_path / "run" / "commands").glob("*.json"))
    assert load_results(tmp_path / "run").ledger.trials["t00000"].tags == ("late",)
