"""The README is short, and what it and the pages behind it say of experiments holds. (Blocks: test_documents.)"""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from documents import REPOSITORY, blocks_of

from raytune_hpo import Experiment, load_experiment
from raytune_hpo.cli.main import main, parser
from raytune_hpo.engine.interventions import checked_changes
from raytune_hpo.experiment.file import parse_value

README = REPOSITORY / "README.md"
DOCS = REPOSITORY / "docs"
SETTINGS = re.findall(r"`--set ((?:searcher|scheduler|lr_range)=\w+)`", (DOCS / "methods.md").read_text())
NUDGES = [line for block in blocks_of(DOCS / "panda.md") for line in block.commands if " nudge " in line]


def test_the_readme_is_what_a_newcomer_reads() -> None:
    assert README.read_text().count("\n") <= 150


def test_its_experiment_has_a_parameter_with_a_condition(tmp_path: Path) -> None:
    first = next(block for block in blocks_of(README) if block.language == "python")
    (tmp_path / "x.py").write_text(first.text)
    experiment = runpy.run_path(str(tmp_path / "x.py"))["experiment"]
    assert isinstance(experiment, Experiment)
    assert experiment.resolved.space.parameters["units_3"].conditions


def test_there_are_settings_and_nudges() -> None:
    assert len(SETTINGS) == 4
    assert len(NUDGES) == 1


@pytest.mark.parametrize("line", NUDGES)
def test_the_nudges_fit_the_panda(line: str, experiments: Path) -> None:
    options = parser().parse_args(shlex.split(line)[1:])
    panda = load_experiment(experiments / "digits.py").as_panda().resolved
    changes = {name: parse_value(value) for name, value in (change.split("=") for change in options.changes)}
    assert checked_changes(panda, panda.start_points[0], changes) == changes


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_settings_are_valid(setting: str, experiments: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "optuna" in setting:
        pytest.importorskip("optuna")
    assert main(["validate", str(experiments / "digits.py"), "--set", setting]) == 0
    assert "valid" in capsys.readouterr().out
