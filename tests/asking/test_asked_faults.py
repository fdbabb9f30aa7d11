"""What was found by breaking runs that are asked: each as it was, by what it does now."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, StopRun, load_results, open_run
from raytune_hpo.asking.owner import running
from raytune_hpo.engine.commanding import give
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Executor, Reported, Retried, SessionOpened, Step
from raytune_hpo.journal.file import Journal
from raytune_hpo.states import Decision


def asked(**fields: Any) -> Experiment:
    given = {"name": "asked", "task": None, "space": {"x": Float(0, 1)}, "metric": "loss", "mode": "min"}
    return Experiment(
        **{**given, "searcher": "random", "scheduler": "fifo", "num_samples": 4, "max_epochs": 5, **fields}
    )


def until(holds: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_shells_have_a_trial_each_and_others_go_past_it(tmp_path: Path) -> None:
    """Also where each command owns the run by itself; and nobody waits for the lease of a trial."""
    names = []
    for token in ("shell", "shell", "my-own-array"):
        with open_run(asked(), tmp_path / "run", token=token, lease_s=3600) as own:
            trial = own.ask(timeout_s=10)
            assert trial is not None
            names.append(trial.id)
    assert names == ["t00000", "t00001", "t00002"]
    with open_run(None, tmp_path / "run", token="shell", lease_s=3600) as own:
        assert own.report("t00000", 1, {"loss": 1.0}) == "continue"
        assert own.report("t00001", 1, {"loss": 1.0}) == "continue"
        with pytest.raises(ExperimentError, match="is another's"):  # who has it, has it through other sessions too
            own.report("t00002", 1, {"loss": 1.0})


def test_what_somebody_has_still_is_given_to_nobody(tmp_path: Path) -> None:
    """Also where nothing else is left to give, and who asks waits at the head of the line."""
    own = open_run(asked(num_samples=1), tmp_path / "run", lease_s=20)
    with open_run(None, tmp_path / "run", lease_s=20) as one, open_run(None, tmp_path / "run", lease_s=20) as other:
        trial = one.ask()
        assert trial is not None
        one.report(trial, 1, {"loss": 1.0})
        got: list[Any] = []
        waiting = threading.Thread(target=lambda: got.append(other.ask()))
        waiting.start()
        time.sleep(0.3)
        own.close()
        until(lambda: other.owns)
        time.sleep(0.5)
        assert [one.report(trial, e, {"loss": 1.0}) for e in (2, 3, 4, 5)] == ["continue"] * 3 + ["stop"]
        waiting.join(20)
        assert got == [None]


def test_the_process_that_owns_it_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "later").mkdir()
    monkeypatch.chdir(tmp_path / "begun")
    with open_run(asked(), tmp_path / "run") as own:
        own.ask()
    monkeypatch.chdir(tmp_path / "later")
    import sys

    paths = list(sys.path)
    with open_run(None, tmp_path / "run") as own:
        assert own.ask() is not None
        assert Path.cwd() == tmp_path / "later"
        assert sys.path == paths
    assert sys.path == paths


def test_trials_that_fail_alike_stop_the_run(tmp_path: Path) -> None:
    experiment = asked(num_samples=30, max_failures=0, fail_fast=3)
    with open_run(experiment, tmp_path / "run") as own:
        for _ in range(3):
            trial = own.ask()
            assert trial is not None
            own.tell(trial, error="the same each time")
        with pytest.raises(ExperimentError, match="has stopped: "):
            own.ask()
    results = load_results(tmp_path / "run")
    assert results.ledger.sessions == 1
    assert results.counts["failed"] == 3


def test_a_paused_trial_is_waited_for(tmp_path: Path) -> None:
    with open_run(asked(num_samples=1), tmp_path / "run") as own:
        trial = own.ask()
        assert trial is not None
        own.report(trial, 1, {"loss": 1.0})
        give(tmp_path / "run", "hold", trial=trial.id)
        assert own.report(trial, 2, {"loss": 1.0}) == "stop"
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            own.ask(timeout_s=1.0)
        assert time.monotonic() - began < 8
        give(tmp_path / "run", "release", trial=trial.id)
        again = own.ask(timeout_s=10)
        assert again is not None
        assert again.id == trial.id
    assert load_results(tmp_path / "run").ledger.sessions == 1


def test_a_run_that_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raytune_hpo.engine.driver.GRACE_S", 0.2)
    with open_run(asked(stop=StopRun(target=0.5)), tmp_path / "run") as own:
        one, other = own.ask(), own.ask()
        assert one is not None
        assert other is not None
        own.report(one, 1, {"loss": 0.1})
        until(lambda: load_results(tmp_path / "run").status == "finished")
        assert own.report(other, 1, {"loss": 1.0}) == "stop"
        with pytest.raises(ExperimentError, match="is over, and so is the run"):
            own.tell(other, {"loss": 1.0})
        assert own.ask() is None


def test_a_trial_that_began_anew(tmp_path: Path) -> None:
    """Lost at epoch 3 and begun again without a state: its epochs count from 1, through another owner too, and its last
    report ends it wherever it is."""
    with open_run(asked(num_samples=2), tmp_path / "run", token="shell", lease_s=0.5) as own:
        trials = [own.ask(), own.ask()]
        for epoch in (1, 2, 3):
            for trial in trials:
                assert trial is not None
                own.report(trial, epoch, {"loss": 1.0})
        until(lambda: len(list(own.results().of(Retried))) == 2)
    with open_run(None, tmp_path / "run", lease_s=30) as own:
        first, second = own.ask(), own.ask()
        assert first is not None
        assert second is not None
        assert (first.epoch, second.epoch) == (0, 0)
        assert own.report(first, 1, {"loss": 1.0}) == "continue"
        own.tell(second, {"loss": 0.5})
        other = open_run(None, tmp_path / "run", lease_s=30)
        own.close()
        other._token = own._token
        assert other.report(first, 2, {"loss": 1.0}) == "continue"
        assert [other.report(first, e, {"loss": 1.0}) for e in (3, 4, 5)] == ["continue", "continue", "stop"]
        assert other.ask() is None
        other.close()
    trials = load_results(tmp_path / "run").ledger.trials.values()
    assert [(t.status, t.epoch) for t in trials] == [("completed", 5), ("completed", 3)]


def test_nobody_waits_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied, go = threading.Event(), threading.Event()
    copytree = shutil.copytree

    def slow(*arguments: Any, **named: Any) -> Any:
        copied.set()
        assert go.wait(20)
        return copytree(*arguments, **named)

    with open_run(asked(), tmp_path / "run") as own:
        one, other = own.ask(), own.ask()
        assert one is not None
        monkeypatch.setattr(shutil, "copytree", slow)
        (tmp_path / "state").mkdir()
        report = threading.Thread(target=lambda: own.report(one, 1, {"loss": 1.0}, tmp_path / "state"))
        report.start()
        assert copied.wait(20)
        assert own.report(other, 1, {"loss": 1.0}) == "continue"
        go.set()
        report.join(20)
        until(lambda: own.results().ledger.trials[one.id].checkpoints)


def _asks(run: Any, queue: Any) -> None:
    trial = run.ask(timeout_s=20)
    queue.put((trial.id, run.owns, run.report(trial, 1, {"loss": 1.0})))
    time.sleep(600)


def test_a_forked_process_is_another_asker_and_holds_no_lock(tmp_path: Path) -> None:
    forking = multiprocessing.get_context("fork")
    own = open_run(asked(), tmp_path / "run")
    first = own.ask()
    assert first is not None
    queue = forking.Queue()
    child = forking.Process(target=_asks, args=(own, queue), daemon=True)
    child.start()
    name, owns, decision = queue.get(timeout=30)
    assert (name != first.id, owns, decision) == (True, False, "continue")
    own.close()
    with open_run(None, tmp_path / "run") as another:  # while the child lives
        assert another.owns
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)


def test_no_answer_that_is_not_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(asked(), tmp_path / "run") as own:
        trial = own.ask()
        assert trial is not None

        def full(self: Journal, *arguments: Any) -> None:
            raise OSError(28, "No space left on device", str(tmp_path / "run" / "journal.jsonl"))

        monkeypatch.setattr(Journal, "append", full)
        with pytest.raises(ExperimentError, match="cannot be written"):
            own.report(trial, 1, {"loss": 1.0})
    monkeypatch.undo()
    assert not list(load_results(tmp_path / "run").of(Reported))


def test_a_task_that_others_train(tmp_path: Path) -> None:
    """With states that are not ours: its test split stays closed."""
    experiment = asked(task="digits", space={"lr": Float(1e-3, 0.1)}, metric="validation_loss", num_samples=1)
    (tmp_path / "state").mkdir()
    with open_run(experiment, tmp_path / "run") as own:
        trial = own.ask()
        for epoch in range(1, 6):
            own.report(trial, epoch, {"validation_loss": 1 / epoch}, tmp_path / "state")
        assert own.ask() is None
    assert load_results(tmp_path / "run").status == "finished"


def test_what_a_killed_process_has_left(tmp_path: Path) -> None:
    for name in ("checkpoints", "errors"):
        (tmp_path / "run" / name).mkdir(parents=True)
    (tmp_path / "run" / "lock").touch()
    with open_run(asked(), tmp_path / "run") as own:
        assert own.ask() is not None


def test_epochs_and_metrics_of_other_types(tmp_path: Path) -> None:
    import numpy as np
    import torch

    with open_run(asked(), tmp_path / "run") as own:
        trial = own.ask()
        assert trial is not None
        assert own.report(trial, np.int64(1), {"loss": np.float32(1.0), "more": torch.tensor(2.0)}) == "continue"  # type: ignore[arg-type, dict-item]
        for epoch, metrics in ((1.5, {"loss": 1.0}), (2, {"loss": np.zeros(2)}), (2, [1.0])):
            with pytest.raises(ExperimentError, match=r"epoch|metrics"):
                own.report(trial, epoch, metrics)  # type: ignore[arg-type]


def test_who_has_a_trial_still() -> None:
    """By the journal alone."""

    def steps(*more: events.Event) -> list[Step]:
        opened = SessionOpened(1, 1, "h", "2026-01-01T00:00:00+0000", Executor.ASKED)
        began = events.Started("t00000", 0, "h", "token", 7)
        return [Step(1, 0.0, 0.0, (opened, began, *more), 0)]

    assert running(steps()) == {"t00000": ("token", 7)}
    for event in (
        events.Decided("t00000", 1, Decision.PAUSE),
        events.Decided("t00000", 1, Decision.EXPLOITED),
        events.Retried("t00000", 1, "lost"),
        events.Held("t00000"),
        events.Deferred("t00000"),
    ):
        assert running(steps(event)) == {}
    assert running(steps(events.Decided("t00000", 1, Decision.CONTINUE))) == {"t00000": ("token", 7)}
