"""The README's examples run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from raytune_hpo import Experiment, load_experiment
from raytune_hpo.cli.main import main, parser
from raytune_hpo.display.options_page import options_page
from raytune_hpo.engine.interventions import checked_changes
from raytune_hpo.experiment.file import parse_value

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
PYTHON = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "\n    ...\n" not in block]
COMMANDS = [line for line in re.findall(r"^(raytune-hpo .*)$", README, re.M) if line]


def test_the_experiment_of_the_readme_is_valid() -> None:
    names: dict[str, object] = {}
    exec(PYTHON[0], names)
    experiment = names["experiment"]
    assert isinstance(experiment, Experiment)
    assert experiment.resolved.space.parameters["units_3"].conditions


def test_the_python_of_the_readme_runs(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experiments").symlink_to(REPOSITORY / "experiments")
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[1], {"__name__": "__main__"})
    printed = capsys.readouterr().out
    assert "Best(trial_id=" in printed
    assert "test_accuracy" in printed
    assert "validation_loss" in printed


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_readme_exist(line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    options = parser().parse_args(arguments)
    if "file" in options and options.file != "RUN_DIR":
        assert (REPOSITORY / options.file).is_file()


@pytest.mark.parametrize("line", [line for line in COMMANDS if " nudge " in line])
def test_the_nudges_of_the_readme_fit_its_panda(line: str) -> None:
    options = parser().parse_args(shlex.split(line, comments=True)[1:])
    panda = load_experiment(REPOSITORY / "experiments" / "digits.py").as_panda().resolved
    changes = {name: parse_value(value) for name, value in (change.split("=") for change in options.changes)}
    assert checked_changes(panda, panda.start_points[0], changes) == changes


def test_the_commands_of_the_readme_do_not_write_into_the_same_folder() -> None:
    found = [parser().parse_args(shlex.split(line, comments=True)[1:]) for line in COMMANDS]
    written = [options.output for options in found if getattr(options, "output", None) is not None]
    assert len(written) == len(set(written)) == 4


@pytest.mark.parametrize("setting", re.findall(r"`--set ((?:searcher|scheduler|lr_range)=\w+)`", README))
def test_the_settings_of_the_readme_are_valid(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "optuna" in setting:
        pytest.importorskip("optuna")
    assert main(["validate", str(REPOSITORY / "experiments" / "digits.py"), "--set", setting]) == 0
    assert "valid" in capsys.readouterr().out


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_page_of_options_is_what_the_records_say() -> None:
    assert (REPOSITORY / "docs" / "options.md").read_text() == options_page()
