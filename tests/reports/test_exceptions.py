"""Exceptions of other people's code that cannot say what they are or are no failure, and reports in a wrong place."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_reported import only, tried

from raytune_hpo import report
from raytune_hpo.errors import TrialError
from raytune_hpo.journal.events import Ended


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor can this")

    __repr__ = __str__


class LyingError(Exception):
    """Whatever is asked of it."""

    def __str__(self) -> str:
        raise SystemExit(3)

    @property
    def __notes__(self) -> list[str]:
        raise KeyboardInterrupt

    @property
    def filename(self) -> str:
        raise ValueError


class BareError(Exception):
    """Cannot be pickled, nor made again from its arguments."""

    def __init__(self, lock: Any, *, needed: str) -> None:
        super().__init__(lock)
        self.lock = threading.Lock()


def recursing(depth: int = 0) -> None:
    recursing(depth + 1)


def chained() -> None:
    try:
        raise MuteError
    except MuteError as mute:
        raise BareError(threading.Lock(), needed="x") from mute


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


ENDS: dict[str, tuple[Callable[[], Any], str]] = {
    "mute": (raising(MuteError()), "MuteError"),
    "liar": (raising(LyingError()), "LyingError"),
    "bare": (chained, "BareError: <unlocked _thread.lock"),
    "group": (raising(BaseExceptionGroup("several", [MuteError(), SystemExit(0)])), "BaseExceptionGroup: several"),
    "interrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "recursion": (recursing, "RecursionError: maximum recursion depth"),
    "huge": (raising(ValueError("x" * 10**6)), "ValueError: xxx"),
    "exit text": (lambda: sys.exit("no data"), "SystemExit: no data"),
    "exit 3": (lambda: sys.exit(3), "SystemExit: 3"),
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """One trial for each."""
    names = list(ENDS)

    def function(config: dict[str, Any]) -> None:
        report({"loss": 1.0})
        ENDS[config["x"]][0]()

    points = [{"x": name} for name in names]
    from raytune_hpo import Choice

    space = {"x": Choice(names)}
    path = tmp_path_factory.mktemp("ended") / "run"
    results = tried(function, path, space=space, start_points=points, num_samples=len(names))
    return {results.ledger.trials[event.trial].config["x"]: event for event in results.of(Ended)}


@pytest.mark.parametrize("name", [name for name in ENDS if not name.startswith("exit")])
def test_c8_every_exception_ends_its_trial_with_a_line(name: str, ended: dict[str, Ended]) -> None:
    event = ended[name]
    assert event.outcome == "failed"
    assert event.error is not None
    assert event.error.startswith("test_exceptions.py, line ")
    assert event.error.partition(": ")[2].startswith(ENDS[name][1])
    assert len(event.error) <= 600
    assert event.file is not None


@pytest.mark.parametrize("name", ["exit text", "exit 3"])
def test_b19_an_exit_with_a_text_or_a_code_is_a_failure(name: str, ended: dict[str, Ended]) -> None:
    assert ended[name].outcome == "failed"
    assert ended[name].error.endswith(f", in <lambda>: {ENDS[name][1]}")


@pytest.mark.parametrize("code", [0, None])
def test_b19_an_exit_without_a_fault_is_a_return(code: Any, tmp_path: Path) -> None:
    def function(config: dict[str, Any]) -> None:
        report({"loss": 1.0})
        sys.exit(code)

    trial = only(tried(function, tmp_path / "run"))
    assert (trial.status, trial.reason) == ("completed", "returned")


def test_b19_a_report_from_a_forked_child_is_an_error_there(tmp_path: Path) -> None:
    def child(pipe: Any) -> None:
        try:
            report({"loss": 0.0})
        except TrialError as error:
            pipe.send(str(error))
        else:
            pipe.send("nothing was said")
        os._exit(0)

    def function(config: dict[str, Any]) -> None:
        ours, its = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=child, args=(its,))
        process.start()
        assert ours.poll(20), "the child hangs"
        report({"loss": 1.0, "said": ours.recv()})
        process.join()

    trial = only(tried(function, tmp_path / "run"))
    assert trial.metrics["loss"] == 1.0
    assert "in a process that the trial has forked" in trial.metrics["said"]


def test_b19_a_thread_that_outlives_its_trial_reports_to_nobody(tmp_path: Path) -> None:
    go_on, said = threading.Event(), []
    threads: list[threading.Thread] = []

    def straggler() -> None:
        go_on.wait(20)
        try:
            report({"loss": -1.0})
        except TrialError as error:
            said.append(str(error))

    def function(config: dict[str, Any]) -> None:
        if not threads:
            threads.append(threading.Thread(target=straggler))
            threads[0].start()
            report({"loss": 1.0})
            return
        go_on.set()
        threads[0].join()
        report({"loss": 2.0})

    results = tried(function, tmp_path / "run", num_samples=2)
    assert [trial.metrics for trial in results.ledger.trials.values()] == [{"loss": 1.0}, {"loss": 2.0}]
    assert said == ["report() was called in a thread of t00000, which is over: let it end with its trial"]


def test_near_b19_threads_of_a_trial_report_one_after_the_other(tmp_path: Path) -> None:
    def function(config: dict[str, Any]) -> None:
        threads = [threading.Thread(target=lambda n=n: report({"loss": float(n)})) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    results = tried(function, tmp_path / "run")
    assert only(results).epoch == 5
    assert sorted(results.curves["loss"]) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_near_b19_a_checkpoint_that_was_reported_already_is_an_error_of_the_trials(tmp_path: Path) -> None:
    from raytune_hpo.workers.reporting import checkpoint_folder

    def function(config: dict[str, Any]) -> None:
        with checkpoint_folder() as folder:
            (folder / "state").write_text("x")
            report({"loss": 1.0}, folder)
            report({"loss": 2.0}, folder)

    trial = only(tried(function, tmp_path / "run"))
    assert (trial.status, trial.epoch) == ("failed", 1)
    assert "FileNotFoundError" in trial.error
    assert list((tmp_path / "run/checkpoints").rglob(".new-*")) == []
