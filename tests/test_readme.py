"""The README's examples run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from raytune_hpo import Experiment
from raytune_hpo.cli.main import parser

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()
PYTHON = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "\n    ...\n" not in block]
COMMANDS = [line for line in re.findall(r"^(raytune-hpo .*)$", README, re.M) if line]


def test_the_experiment_of_the_readme_is_valid() -> None:
    names: dict[str, object] = {}
    exec(PYTHON[0], names)
    experiment = names["experiment"]
    assert isinstance(experiment, Experiment)
    assert experiment.search_space.parameters["units_3"].conditions


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


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for document in [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
