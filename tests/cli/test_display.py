"""What people look at: tables, the closing summary, the progress lines."""

from __future__ import annotations

import io
import os
from itertools import chain
from pathlib import Path

import pytest
from rich.console import Console
from written_run import end, finished_run, result, suggest

from raytune_hpo import Experiment, Float
from raytune_hpo.cli.main import parser
from raytune_hpo.cli.panda import panda_experiment
from raytune_hpo.display import progress
from raytune_hpo.display.panda_display import PandaProgress
from raytune_hpo.display.progress import Progress
from raytune_hpo.display.summary import duration, header, shown_path, summarize
from raytune_hpo.journal.events import Closed, Ended, Event, Noticed, Retried, SessionOpened, Started, Step
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.results.results import load_results
from raytune_hpo.results.text_table import plural, text_table
from raytune_hpo.states import Outcome, RunStatus

EXPERIMENT = Experiment(
    name="hand",
    task="digits",
    space={"lr": Float(1e-4, 1e-1, "log")},
    searcher="random",
    scheduler="asha",
    num_samples=4,
)


def plain() -> Console:
    return Console(file=io.StringIO(), width=60)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def view(path: Path, made: Experiment = EXPERIMENT, *, resumed: bool = False) -> RunView:
    return RunView(path, "0", made.to_json(), resumed)


class Watched:
    """A Progress, its clock, and the events of this session that it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, *, quiet: bool = False) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.console = plain()
        self.progress = Progress(self.console, quiet=quiet)
        self.progress.begin(view(path))
        self.number = 0
        self.tell(SessionOpened(1, pid=os.getpid()))

    def tell(self, *events: Event | tuple[Event, ...]) -> None:
        for event in chain.from_iterable(e if isinstance(e, tuple) else (e,) for e in events):
            self.progress.event(self.number, event, Step(self.number + 1, self.now, self.now, (event,), self.number))
            self.number += 1

    def after(self, seconds: float, *events: Event | tuple[Event, ...]) -> str:
        """The lines that are new when the events have happened and that much time has passed."""
        before = len(text_of(self.console))
        self.now += seconds
        self.tell(*events)
        self.progress.idle()
        return text_of(self.console)[before:]


def test_a_panda_says_what_it_starts_with(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "run")
    file = tmp_path / "one.py"
    file.write_text(
        'from raytune_hpo import *\nexperiment = Experiment(name="hand", task="digits", '
        'space={"lr": Float(1e-4, 1e-1, "log"), "batch_size": 32})\n'
    )

    def header_of(*arguments: str) -> str:
        made, start = panda_experiment(parser("panda").parse_args(["panda", str(file), *arguments]))
        console = plain()
        PandaProgress(console, quiet=False, start=start).begin(view(tmp_path, made))
        return text_of(console).splitlines()[-1]

    assert header_of().startswith("starts with the usual defaults (--from")
    assert header_of().endswith(": batch_size=32  lr=0.001")
    assert header_of("--set", 'start_points=[{"lr": 0.02}]') == (
        "starts with the first of start_points: batch_size=32  lr=0.02"
    )
    assert header_of("--from", str(run)) == (
        "starts with the config of t00001, the winner of --from: batch_size=32  lr=0.05"
    )


def test_text_table() -> None:
    assert text_table(["a", "long name"], [["1", "x"], ["wide", "y y"]]) == "a     long name\n1     x\nwide  y y"
    assert text_table(["a"], []) == "a"


def test_words() -> None:
    assert [duration(s) for s in (0.2, 59, 60, 200, 3599.6, 3900)] == [
        "0 s", "59 s", "1 min 0 s", "3 min 20 s", "1 h 0 min", "1 h 5 min",
    ]  # fmt: skip
    assert [plural(n, "trial") for n in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]


def test_paths_are_shown_as_one_would_type_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "runs" / "a") == "runs/a"
    assert shown_path(tmp_path / "my runs") == "'my runs'"
    assert shown_path(Path("/elsewhere")) == "/elsewhere"


def test_header(tmp_path: Path) -> None:
    text = header(view(tmp_path, resumed=True))
    assert text == (
        "resuming hand: 4 trials of up to 27 epochs, random + asha, max validation_accuracy, 1 CPU a trial, seed 0\n"
        f"run directory: {tmp_path}"
    )


def test_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = finished_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    console = plain()
    summarize(load_results(run_dir), console)
    assert text_of(console).splitlines() == [
        "finished in 17 s: 1 completed, 1 stopped, 1 diverged, 1 failed",
        "1 diverged, t00002: diverged",
        "1 failed, t00003: ValueError: no (traceback: errors/t00003.txt)",
        "trial   validation_accuracy  epoch  status     config",
        "t00001  0.95                 2      completed  lr=0.05",
        "t00000  0.8                  1      stopped    lr=0.01",
        "t00001 on the test split: test_accuracy 0.93, test_loss 0.1",
        "once more:  raytune-hpo retry run",
        "the winner: raytune-hpo best run",
    ]


def test_progress_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, tmp_path)
    assert text_of(watched.console).startswith("hand: 4 trials")
    assert watched.after(6) == "starting workers\n"
    trials = [f"t{i:05d}" for i in range(4)]
    begun = [Started(trial, epoch=0) for trial in trials]
    line = watched.after(6, *map(suggest, trials), *begun, result(trials[0], 1, 0.75))
    assert line.startswith("0/4 trials  4 running  0 stopped early")
    assert line.endswith("best validation_accuracy 0.75 (t00000)\n")
    assert watched.after(1, result(trials[1], 1, 0.9)) == "", "not every report is a line"
    failure, line, *rest = watched.after(
        6,
        end(trials[0], "stopped", "scheduler"),
        end(trials[2], "failed", "error", "ValueError"),
        result(trials[3], 1, float("nan")),
        end(trials[3], "diverged", "diverged"),
    ).splitlines()
    assert failure == "t00002: ValueError (traceback: errors/t00002.txt)"
    assert line.startswith("3/4 trials  1 running  1 stopped early")
    for words in ("1 diverged", "1 failed", "best validation_accuracy 0.9 (t00001)", " left"):
        assert words in line
    assert rest == [], "a line is not folded"


def test_a_distinct_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, tmp_path)
    before = len(text_of(watched.console))
    watched.tell(*(suggest(f"t{i:05d}") for i in range(4)))
    failed = {"error": "ValueError: [red]", "file": "errors/1a.txt"}
    watched.tell(*(Retried(trial, epoch=0, **failed) for trial in ("t00000", "t00001")))
    watched.tell(Ended("t00002", Outcome.FAILED, "error", **failed), Retried("t00003", epoch=0, error="OSError: once"))
    watched.progress.end()
    assert text_of(watched.console)[before:].splitlines() == [
        "t00000: ValueError: [red] (traceback: errors/1a.txt)",
        "t00003: OSError: once",
    ]


def test_quiet_prints_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, tmp_path, quiet=True)
    assert watched.after(60, suggest("t00000"), result("t00000", 1, 0.5)) == ""
    watched.tell(Retried("t00000", epoch=1, error="ValueError: x"), Noticed("a notice"), Closed(RunStatus.INTERRUPTED))
    watched.progress.end()
    assert text_of(watched.console) == ""
