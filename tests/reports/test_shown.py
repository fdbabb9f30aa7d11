"""A run that is started from Python is shown as the command line shows it, unless it is asked to be quiet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Choice, Experiment, Listener, confirm, report, resume, retest, run
from raytune_hpo.cli.main import main
from raytune_hpo.display.console import LastingConsole


def trains(config: dict[str, Any]) -> None:
    for epoch in range(1, 3):
        if config["how"].startswith("fails"):
            raise ValueError("a message of the user's")
        report({"score": len(config["how"]) * epoch + config["n"]})


def made(*how: str, **fields: Any) -> Experiment:
    space = {"how": Choice(how), "n": Choice([0, 1])}
    given = {"searcher": "grid", "scheduler": "fifo", "max_epochs": 2, "max_failures": 0, **fields}
    return Experiment(name="shown", task=trains, space=space, metric="score", mode="max", executor="inline", **given)


def test_a8_a_run_from_python_shows_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(made("fails", "works", fail_fast=None), tmp_path / "run")
    out, err = capsys.readouterr()
    assert err == ""
    for line in (
        "shown: 4 trials of up to 2 epochs",
        f"run directory: {tmp_path / 'run'}",
        "ValueError: a message of the user's (traceback: errors/",
        "2 completed, 2 failed",
        "2 failed, t000",
        "the winner: raytune-hpo best",
    ):
        assert line in out, line
    resume(tmp_path / "run", task=trains)
    assert "2 completed, 2 failed" in capsys.readouterr().out


def test_a8_every_trial_failing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = run(made("fails", "fails as well", fail_fast=None), tmp_path / "run")
    assert (results.status, results.best) == ("finished", None)
    out = capsys.readouterr().out
    assert "4 failed, t00000 for one: test_shown.py, line " in out
    assert ": ValueError: a message of the user's" in out
    assert f"raytune-hpo retry {tmp_path / 'run'}" in out


def test_a8_quiet_is_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(made("fails", "works", fail_fast=None), tmp_path / "run", quiet=True)
    resume(tmp_path / "run", task=trains, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_near_a8_the_command_line_shows_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exp.py"
    file.write_text(
        "from raytune_hpo import Choice, Experiment, report\n"
        "def train(config):\n"
        "    report({'score': config['n']})\n"
        "experiment = Experiment(name='same', task=train, space={'n': Choice([0, 1])}, metric='score', mode='max',\n"
        "                        searcher='grid', scheduler='fifo', max_epochs=1, executor='inline')\n"
    )
    from raytune_hpo import load_experiment

    def lines(out: str) -> list[str]:
        return [
            line for line in out.splitlines() if not line.startswith(("run directory", "finished in", "the winner"))
        ]

    assert main(["run", str(file), "--run-dir", str(tmp_path / "one")]) == 0
    by_command = capsys.readouterr().out
    run(load_experiment(file), tmp_path / "two")
    assert lines(by_command) == lines(capsys.readouterr().out)
    assert len(lines(by_command)) > 4


def test_near_a8_confirm_and_retest_show_their_judgement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(made("works", "better"), tmp_path / "run", quiet=True)
    assert capsys.readouterr() == ("", "")
    confirm(tmp_path / "run", 2, 2, task=trains)
    assert "shown-confirm: 4 trials" in capsys.readouterr().out
    retest(tmp_path / "run", 2, 1, 2, task=trains)
    assert "retest 1: 2 old configs" in capsys.readouterr().out
    confirm(tmp_path / "run", 2, 2, task=trains, quiet=True)
    retest(tmp_path / "run", 2, 1, 2, task=trains, quiet=True)
    assert capsys.readouterr() == ("", "")


class Fails(Listener):
    def event(self, number: int, event: object, step: object) -> None:
        raise RuntimeError("not today")


def test_near_a8_a_listener_of_the_users_is_told_besides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(made("works", "better"), tmp_path / "run", listeners=[Fails()])
    out, err = capsys.readouterr()
    assert "listener Fails failed and is switched off: RuntimeError: not today" in out + err
    assert "4 completed" in out


def test_near_a8_in_a_notebook_text_is_displayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where IPython says so, Rich sends the same lines to the cell; no bar is drawn over them."""
    shown: list[Any] = []
    monkeypatch.setattr("rich.jupyter.display", lambda segments, text: shown.append(text))
    console = LastingConsole(force_jupyter=True)
    console.print("finished in 1 s: 4 completed", highlight=False, markup=False)
    assert not console.is_terminal
    assert shown == ["finished in 1 s: 4 completed\n"]
    assert console.file.stream is sys.stdout  # type: ignore[attr-defined]
