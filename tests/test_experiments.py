"""Every file in experiments/ loads, validates and says how it is run."""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path

import pytest

from raytune_hpo import load_experiment
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
