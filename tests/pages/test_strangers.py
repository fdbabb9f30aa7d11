"""Reports and lists of runs that are a stranger's, another user's, or damaged: one line, or what there is."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import strange_runs
from written_run import end, finished_run, suggest, written_run

from raytune_hpo import load_results
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import Ended
from raytune_hpo.pages.document import document
from raytune_hpo.results.facts.run import TRACEBACK_BYTES
from raytune_hpo.states import Outcome


def failed(path: Path, file: str) -> Path:
    return written_run(path, suggest("t00000"), Ended("t00000", Outcome.FAILED, "error", "boom", file))


def traceback(run: Path) -> str | None:
    (cause,) = document(load_results(run))["failures"]
    found: str | None = cause["traceback"]
    return found


def test_a_traceback_is_a_file_of_the_run(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "passwd").write_text("root:x")
    linked = failed(tmp_path / "linked", "errors/passwd")
    (linked / "errors").symlink_to(secrets)
    assert traceback(linked) is None
    folder = failed(tmp_path / "folder", "errors/x")
    (folder / "errors" / "x").mkdir(parents=True)
    assert traceback(folder) is None
    long = failed(tmp_path / "long", "errors/x")
    (long / "errors").mkdir()
    (long / "errors" / "x").write_bytes(b"begin" + b"\xff" * 100_000 + b"end")
    text = traceback(long) or ""
    assert text.endswith("end")
    assert len(text) == TRACEBACK_BYTES


def test_a_damaged_run_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = strange_runs(tmp_path / "runs")  # one with a test.json that is no JSON
    assert main(["list", str(tmp_path / "runs"), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["runs"]
    assert {Path(own["run_dir"]).name for own in listed} == runs.keys()


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Files of these names may not be read, as another user's may not. (The tests may be root's, who reads all.)"""
    whole, names = os.open, set()

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        if os.path.basename(path) in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return whole(path, *arguments, **more)

    monkeypatch.setattr(os, "open", opened)
    return lambda *given: names.update(given)


def test_another_users_run_is_shown_as_far_as_it_may_be_read(
    tmp_path: Path, closed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run")
    going_on = written_run(tmp_path / "going on", suggest("t00000"), end("t00000", "failed", "error", "x"))
    closed("test.json", "confirm.json", "lock", "t00000.txt")
    assert main(["report", str(run), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert found["best"]["trial_id"] == "t00001"
    assert "cannot be read: Permission denied" in found["verdicts"]["openings"]["damaged"]
    assert document(load_results(going_on))["run"]["status"] == "running"  # or killed: nobody else can tell
    closed("journal.jsonl")
    assert main(["report", str(run), "--json"]) == 2
    assert "cannot be read: Permission denied" in capsys.readouterr().err
    assert main(["list", str(tmp_path)]) == 0
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["num_samples", "max_epochs", "resources", "name", "space"])
def test_a_description_that_lacks_something_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path / "run")
    described = json.loads((run / "experiment.json").read_text())
    if name == "space":
        described["experiment"]["space"]["parameters"]["lr"] = {"kind": "float", "event": 7}
    else:
        del described["experiment"][name]
    (run / "experiment.json").write_text(json.dumps(described))
    assert main(["report", str(run), "--json"]) == 2
    assert "is damaged" in capsys.readouterr().err
