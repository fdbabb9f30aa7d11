"""Listeners by name: ours, and "module:Class" of anybody's."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, Listener, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.engine.run import run
from raytune_hpo.experiment.reopened import reopened
from raytune_hpo.listeners import registry
from raytune_hpo.listeners.registry import made_listener, made_listeners
from raytune_hpo.storage.run_directory import RunDirectory

OWN = """
from raytune_hpo import Listener

class Lines(Listener):
    def begin(self, run):
        self.path = run.path / "lines.txt"

    def event(self, number, event, step):
        with self.path.open("a") as file:
            print(event.KIND, file=file)

class NoListener:
    pass

class Fails(Listener):
    def __init__(self):
        raise OSError("the sink\\nis not there")
"""
FILE = """
from raytune_hpo import Experiment, Float, report

def train(config):
    report({"y": config["x"]})

experiment = Experiment(name="told", task=train, space={"x": Float(0.0, 1.0)}, metric="y", mode="min",
                        searcher="random", scheduler="fifo", num_samples=3, max_epochs=4, executor="inline")
"""


class Quiet(Listener):
    """Ours by the name "quiet", in these tests."""


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.LISTENERS, "quiet", f"{__name__}:Quiet")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment file, with the module `own_sinks` beside it."""
    (tmp_path / "own_sinks.py").write_text(OWN)
    (tmp_path / "told.py").write_text(FILE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_sinks", raising=False)
    return tmp_path / "told.py"


def experiment(*listeners: Any) -> Experiment:
    return Experiment(name="x", task="digits", space={"lr": Float(0.01, 0.1)}, listeners=listeners)


def test_a_name_stands_for_its_class_and_is_made_again_without_the_file(quiet: None, tmp_path: Path) -> None:
    made = experiment("quiet", "quiet")
    assert isinstance(made_listener("quiet"), Quiet)
    assert len(made_listeners(made.resolved.listeners)) == 1, "a name that comes twice is one"
    description = made.to_json()
    assert description["listeners"] == [{"name": "quiet"}] * 2
    directory = RunDirectory.create(tmp_path / "run", description, None)
    with reopened(directory) as again:
        assert again.experiment.resolved.listeners == ("quiet", "quiet")


def test_a_run_goes_on_without_a_listener_that_cannot_be_made_any_more(
    quiet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = RunDirectory.create(tmp_path / "run", experiment("quiet").to_json(), None)
    monkeypatch.setattr(Quiet, "__init__", lambda self: 1 / 0)
    with reopened(directory) as again:
        assert again.experiment.resolved.listeners == ()
    assert "without the listener: listeners = 'quiet': failed with ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tensorbord", "did you mean 'tensorboard'?; or module:Class"),
        ("own_sinks:Missing", "failed with AttributeError"),
        ("no_such_module:X", "failed with ModuleNotFoundError"),
        ("own_sinks:NoListener", "must be a Listener, a subclass of one, a name"),
        ("own_sinks:Fails", "failed with OSError: the sink is not there (own_sinks.py, line 17)"),
        (7, "must be a Listener"),
    ],
)
def test_a_wrong_one_is_one_line_before_anything_is_written(
    given: Any, said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.insert(0, str(file.parent))
    with pytest.raises(ExperimentError) as caught:
        experiment(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    target = file.parent / "run"
    if isinstance(given, str):
        assert main(["run", str(file), "--run-dir", str(target), "--listen", given]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    else:
        with pytest.raises(ExperimentError, match="must be a Listener"):
            run(experiment(), target, listeners=[given])
    assert not target.exists()


def test_one_of_ones_own_is_named_on_the_command_line_and_told_of_a_resume(file: Path) -> None:
    run_dir = file.parent / "run"
    arguments = ["--quiet", "--listen", "own_sinks:Lines"]
    assert main(["run", str(file), "--run-dir", str(run_dir), *arguments]) == 0
    kinds = [event.KIND for event in load_results(run_dir).events]
    assert (run_dir / "lines.txt").read_text().split() == kinds
    assert load_results(run_dir).experiment["listeners"] == []
    assert main(["retry", str(run_dir), *arguments]) == 2, "nothing has failed"
    assert main(["resume", str(run_dir), "--quiet", "--listen", "qiet"]) == 2


def test_one_of_ones_own_in_the_file_is_made_by_the_file(file: Path) -> None:
    file.write_text(FILE.replace('executor="inline"', 'executor="inline", listeners=["own_sinks:Lines"]'))
    run_dir = file.parent / "run"
    assert main(["run", str(file), "--run-dir", str(run_dir), "--quiet"]) == 0
    assert load_results(run_dir).experiment["listeners"] == [{"class": "own_sinks:Lines"}]
    with reopened(RunDirectory.open(run_dir)) as again:
        assert again.experiment.resolved.listeners == ("own_sinks:Lines",)
