"""What may not be asked or told: one line, and nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, ExperimentError, Float, load_results, open_run
from raytune_hpo.asking import server
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import Reported

FILE = """
from raytune_hpo import *
experiment = Experiment(name="a", task=None, space={"lr": Float(0.001, 0.1)}, metric="loss", mode="min")
"""


def asked(**fields: Any) -> Experiment:
    given = {"name": "asked", "task": None, "space": {"x": Float(0, 1)}, "metric": "loss", "mode": "min"}
    return Experiment(**{**given, "searcher": "random", "scheduler": "fifo", "num_samples": 9, **fields})


BEFORE = {
    "trained here": (["run", "file.py", "--run-dir", "new"], "trials are trained by whoever asks"),
    "folds": (["serve", "folds.py", "new"], "folds = 3: is done by workers of ours"),
    "a folder of others": (["serve", "file.py", "full"], "run directory = "),
    "no experiment": (["serve", "none.py", "new"], "none.py"),
}


def test_it_is_said_who_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.py").write_text(FILE)
    assert main(["validate", str(tmp_path / "file.py")]) == 0
    out = capsys.readouterr().out
    assert "whoever asks for a trial trains it" in out
    assert "auto takes workers" not in out


@pytest.mark.parametrize(("arguments", "said"), BEFORE.values(), ids=BEFORE)
def test_what_cannot_begin(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.py").write_text(FILE)
    Path("folds.py").write_text(FILE.replace("None", '"digits"').replace('metric="loss", mode="min"', "folds=3"))
    Path("full").mkdir()
    Path("full", "thesis.tex").write_text("")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not Path("new").exists()


def test_no_socket_on_a_disk_of_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path.resolve()} nfs4 rw 0 0\n"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: mounts if str(self) == "/proc/mounts" else read(self, *a, **k)
    )
    with pytest.raises(ExperimentError, match=r"lies on a network file system \(nfs4\)"):
        open_run(asked(), tmp_path / "run")


def test_bytes_that_are_no_request(tmp_path: Path) -> None:
    with open_run(asked(), tmp_path / "run") as own:
        for request in ({}, {"do": "dance"}, {"do": "tell"}, {"do": "ask", "token": 1}, {"do": "beat"}):
            assert "error" in server.send(tmp_path / "run", request)
        assert own.ask() is not None


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run that somebody owns: t00000 is over, a shell has t00001."""
    folder = tmp_path_factory.mktemp("wrong")
    with open_run(asked(), folder / "run") as own:
        trial = own.ask()
        assert trial is not None
        own.tell(trial, {"loss": 1.0})
        with open_run(None, folder / "run", token="shell") as shell:
            assert shell.ask() is not None
            another = own.ask()
            assert another is not None
            assert another.id == "t00002"
            yield folder


ON = ["--epoch", "1"]
GOOD = ["--metrics", '{"loss": 1.0}']
WRONG = {
    "no run": (["ask", "nowhere"], "holds no run"),
    "no file": (["ask", "new", "--experiment", "none.py"], "none.py"),
    "a lease of nothing": (["ask", "run", "--lease", "0"], "lease_s = 0.0"),
    "a lease without end": (["ask", "run", "--lease", "inf"], "lease_s = inf"),
    "waiting backwards": (["ask", "run", "--wait", "-1"], "--wait = -1.0"),
    "told twice": (["tell", "run", "t00000", *GOOD], "'t00000': is over"),
    "failed after its end": (["tell", "run", "t00000", "--error", "no"], "'t00000': is over"),
    "no such trial": (["tell", "run", "t00099", *GOOD], "'t00099': no such trial in this run"),
    "another's": (["tell", "run", "t00002", *GOOD], "'t00002': is another's"),
    "an epoch too far": (["tell", "run", "t00001", "--epoch", "3", *GOOD], "epoch = 3: must be 1"),
    "an epoch too early": (["tell", "run", "t00001", "--epoch", "-1", *GOOD], "epoch = -1: must be 1"),
    "no JSON": (["tell", "run", "t00001", *ON, "--metrics", "{"], "--metrics = '{': is no JSON"),
    "no object": (["tell", "run", "t00001", *ON, "--metrics", "[1]"], "must be an object"),
    "no metrics": (["tell", "run", "t00001", *ON], "needs --metrics"),
    "empty metrics": (["tell", "run", "t00001", *ON, "--metrics", "{}"], "must be an object, name: number"),
    "an error of an epoch": (["tell", "run", "t00001", *ON, *GOOD, "--error", "x"], "goes without --epoch"),
    "an error and metrics": (["tell", "run", "t00001", *GOOD, "--error", "x"], "is an error or metrics"),
    "a state without epoch": (["tell", "run", "t00001", *GOOD, "--checkpoint", "."], "goes with --epoch"),
    "no such state": (["tell", "run", "t00001", *ON, *GOOD, "--checkpoint", "none"], "is no folder"),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line_and_changes_nothing(
    begun: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(begun)
    before = len(list(load_results("run").of(Reported)))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert len(list(load_results("run").of(Reported))) == before
    assert not Path("new").exists()
