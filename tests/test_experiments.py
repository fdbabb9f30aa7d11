"""Every file in experiments/ loads, validates and says how it is run."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest

from raytune_hpo import load_experiment, run
from raytune_hpo.cli.main import main, parser

FILES = sorted((Path(__file__).resolve().parents[1] / "experiments").glob("*.py"))


def test_there_are_experiments() -> None:
    names = {path.stem for path in FILES}
    assert {"digits", "mnist_grid", "mnist_random", "mnist_hyperopt", "mnist_bayesopt", "function_trainable"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiment(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert load_experiment(path).name == path.stem
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    commands = [line for line in doc.splitlines() if line.startswith("raytune-hpo ")]
    assert commands
    for command in commands:
        options = parser("run").parse_args(shlex.split(command)[1:])
        assert (options.verb, options.file) == ("run", f"experiments/{path.name}")
    monkeypatch.chdir(tmp_path)
    assert main(["validate", str(path), "--address", "auto", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"]
    assert len(document["first_configs"]) == 5
    assert not list(tmp_path.iterdir())


def test_mnist_takes_its_folder_from_the_command_line(tmp_path: Path, capsys) -> None:
    for path in FILES:
        if path.stem.startswith("mnist"):
            assert main(["validate", str(path), "--set", f"data_dir={tmp_path}", "--json"]) == 0
            task = json.loads(capsys.readouterr().out)["experiment"]["task"]
            assert task["options"]["data_dir"] == str(tmp_path)


def test_the_grid_is_the_handbooks(experiments: Path) -> None:
    experiment = load_experiment(experiments / "mnist_grid.py")
    assert experiment.samples == 27


def test_a_function_of_ones_own_pauses_and_goes_on(experiments: Path, tmp_path: Path, ray_session: None) -> None:
    """HyperBand pauses trials at its rungs; epochs trained after a pause continue the ones before it."""
    changes = {"scheduler": "hyperband", "num_samples": 5, "max_epochs": 9, "max_concurrent": 1}
    results = run(load_experiment(experiments / "function_trainable.py").override(changes), tmp_path / "run")
    assert (results.status, results.counts["failed"]) == ("finished", 0)
    curves = results.curves
    paused = curves[curves.decision == "pause"]
    longest = curves.trial_id.value_counts()
    gone_on = [trial for trial in paused.trial_id if longest[trial] == 9]
    assert gone_on
    unpaused = run(
        load_experiment(experiments / "function_trainable.py").override({**changes, "scheduler": "fifo"}),
        tmp_path / "unpaused",
    ).curves
    for trial in gone_on:
        one, other = (list(c[c.trial_id == trial].loss) for c in (curves, unpaused))
        assert one == other, "what was paused and restored trains as what was not"
