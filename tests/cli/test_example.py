"""raytune-hpo example: the files of experiments/, listed and printed, wherever the package is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from raytune_hpo import load_experiment
from raytune_hpo.cli import example
from raytune_hpo.cli.main import main

Capture = pytest.CaptureFixture[str]


def test_it_lists_every_experiment(experiments: Path, capsys: Capture) -> None:
    assert main(["example"]) == 0
    listed = capsys.readouterr().out
    assert {file.stem for file in experiments.glob("*.py")} <= set(listed.split())
    needy = listed.splitlines()[-1]
    assert "cifar10_resnet_pbt" in needy
    assert "digits" not in needy


def test_it_prints_one_as_it_is_but_for_where_it_lies(experiments: Path, tmp_path: Path, capsys: Capture) -> None:
    for file in experiments.glob("*.py"):
        assert main(["example", file.stem]) == 0
        printed, written = (ast.parse(text) for text in (capsys.readouterr().out, file.read_text()))
        assert [ast.dump(node) for node in printed.body[1:]] == [ast.dump(node) for node in written.body[1:]]
        assert "experiments/" not in (ast.get_docstring(printed) or "")
    assert main(["example", "digits"]) == 0
    copy = tmp_path / "my.py"
    copy.write_text(capsys.readouterr().out)
    assert load_experiment(copy).name == "digits"


def test_a_name_that_is_none_is_one_line(capsys: Capture) -> None:
    assert main(["example", "digts"]) == 2
    assert "did you mean 'digits'" in capsys.readouterr().err


def test_an_installation_without_them_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(example, "FOLDERS", (tmp_path,))
    assert main(["example"]) == 2
    assert "install it again" in capsys.readouterr().err
