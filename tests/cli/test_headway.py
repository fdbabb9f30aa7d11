"""Long verbs show how far they are: a bar, or a line now and then; and how long is left, by the work that is done."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from trained_run import trained_run

from raytune_hpo import Choice, Experiment, confirm, load_experiment, retest, run
from raytune_hpo.cli.main import main
from raytune_hpo.display import headway_bar
from raytune_hpo.display.epochs_left import epochs_left
from raytune_hpo.display.headway_bar import HeadwayBar, time_left
from raytune_hpo.headway import Headway
from raytune_hpo.probes.lr_range import lr_range_test
from raytune_hpo.results.results import load_results
from raytune_hpo.results.trial import TrialState
from raytune_hpo.states import Status
from raytune_hpo.verdicts.confirm import confirm as unshown_confirm
from raytune_hpo.verdicts.replay import replay

SPACE = {"hidden_units": Choice([8, 16, 32]), "lr": 0.01, "batch_size": 32}
DIGITS = Experiment(name="way", task="digits", space=SPACE, max_epochs=2, seed=1, scheduler="fifo", searcher="grid")


class Told(Headway):
    """All that it was told: [what, total, how much of it was made]."""

    def __init__(self) -> None:
        self.parts: list[list[Any]] = []

    def begin(self, what: str, total: float | None = None) -> None:
        self.parts.append([what, total, 0])

    def made(self, amount: float = 1) -> None:
        self.parts[-1][2] += amount


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(headway_bar.time, "monotonic", lambda: self.now)


def bar(**options: Any) -> tuple[HeadwayBar, io.StringIO]:
    file = io.StringIO()
    return HeadwayBar(Console(file=file, width=70, **options)), file


# The bar --------------------------------------------------------------------------------------------


def test_elsewhere_than_on_a_terminal_there_is_a_line_each_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    shown, file = bar()
    clock.now += 60  # what came before the first part was shown otherwise
    with shown:
        shown.begin("epochs", 10)
        clock.now += 4
        shown.made(2)
        assert file.getvalue() == "", "what is soon over is not worth a line"
        clock.now += 1
        shown.made()
        assert file.getvalue() == "epochs 3/10  12 s left\n"
        clock.now += 4
        shown.made(6)
        shown.begin("a\x1b[2J file")
        assert file.getvalue().count("\n") == 1
        clock.now += 90
        shown.made()
    assert file.getvalue().splitlines()[1:] == [r"a\x1b[2J file  1 min 30 s"]


def test_on_a_terminal_a_bar_changes_in_place_and_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    shown, file = bar(force_terminal=True)
    with shown:
        shown.begin("models", 4)
        clock.now += 3
        shown.made(3)
        assert shown._live is not None
        shown._live.refresh()
        assert "models 3/4  1 s left" in file.getvalue()
        shown._live.console.print("said meanwhile")
    assert "said meanwhile" in file.getvalue()
    assert file.getvalue().rstrip("\n").endswith("\x1b[2K"), "the bar's line is erased"
    assert shown._live is None


def test_time_left_is_by_the_work_that_is_done() -> None:
    assert time_left(30, 10, 40) == 90
    assert time_left(0.5, 10, 40) is None, "too early to tell"
    assert time_left(30, 0.001, 40) is None
    assert time_left(30, 40, 40) is None


# What is left of a run ------------------------------------------------------------------------------


def trial(epoch: int, status: Status = Status.RUNNING, limit: int | None = None) -> TrialState:
    return TrialState(f"t{epoch}", 0, {}, limit=limit, status=status, epoch=epoch)


def test_a_run_whose_trials_all_go_to_the_end_has_their_epochs_left() -> None:
    trials = [trial(10, Status.COMPLETED), trial(4), trial(0, Status.PENDING), trial(2, limit=3)]
    assert epochs_left(trials, 10, to_come=5) == 6 + 10 + 1 + 5 * 10
    assert epochs_left([], 10, to_come=5) == 50
    assert epochs_left(trials[:1], 10, to_come=0) == 0


def test_what_is_left_counts_with_trials_being_stopped_as_those_before() -> None:
    stopped = [trial(1, Status.STOPPED)] * 6 + [trial(3, Status.STOPPED)] * 2 + [trial(9, Status.COMPLETED)]
    # Of 9 that came to epoch 1 three went on, and of 3 that came to epoch 3 one.
    new = 1 + 1 / 3 * (2 + 1 / 3 * 6)
    assert epochs_left(stopped, 9, to_come=2) == pytest.approx(2 * new)
    # One that is past 3 is of the kind that goes to its end. It counts for those that went on from 1 and 3, too.
    assert epochs_left([*stopped, trial(5)], 9, to_come=0) == pytest.approx(4)
    assert epochs_left([*stopped, trial(1)], 9, to_come=0) == pytest.approx(2 + 1 / 3 * 6)
    # What failed before its first epoch trains none.
    assert epochs_left([trial(0, Status.FAILED), trial(9, Status.COMPLETED)], 9, to_come=2) == 9
    # A search that plans short trials is told from those that it has planned.
    planned = [trial(2, Status.COMPLETED, limit=2)] * 3 + [trial(8, Status.COMPLETED)]
    assert epochs_left([*planned, trial(0, Status.PENDING, limit=8)], 8, to_come=0) == 8
    assert epochs_left(planned, 8, to_come=2) == pytest.approx(2 * (2 + 1 / 4 * 6))


# What the verbs say ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    configs = [{"lr": lr, "hidden_units": 8, "batch_size": 256} for lr in (0.003, 0.01, 0.03)]
    return trained_run(tmp_path_factory.mktemp("way") / "run", DIGITS, configs).path


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at each step, elsewhere than on a terminal."""
    monkeypatch.setattr(headway_bar, "LINE_EVERY_S", 0.0)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(list(arguments)) == 0
    out, err = capsys.readouterr()
    return out, err


@pytest.mark.usefixtures("often")
def test_verbs_say_on_stderr_how_far_they_are(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, model = str(digits), str(tmp_path / "model")
    out, err = said(capsys, "ensemble", run_dir, "-k", "3", "-o", str(tmp_path / "many"), "--json")
    assert json.loads(out)["looked_at"] == 6
    assert "checkpoints that predict 6/6\n" in err
    assert "averages measured 9/9\n" in err
    assert "resamples 10000/10000\n" in err
    assert "torch.export follows the model" in err
    out, err = said(capsys, "export", run_dir, "-o", model)
    assert out.count("\n") == 1
    assert "torch.export follows the model" in err
    np.save(tmp_path / "x.npy", np.zeros((700, 64), dtype=np.float32))
    x, y = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    out, err = said(capsys, "predict", model, x, "-o", y)
    assert [line for line in err.splitlines() if line.startswith("samples")] == [
        f"samples {n}/700" for n in (0, 256, 512, 700)
    ]
    out, err = said(capsys, "replay", run_dir)
    assert out.startswith("t0000")
    assert "epochs trained again 1/" in err
    for name in ("csv", "parquet", "optuna"):
        out, err = said(capsys, "export", run_dir, "--to", name, "-o", str(tmp_path / name))
        assert out.count("\n") == 1
        assert err.startswith("reading the journal")
    assert said(capsys, "predict", model, x, "-o", y, "--force", "--quiet")[1] == ""
    assert said(capsys, "replay", run_dir, "--quiet")[1] == ""
    assert said(capsys, "export", run_dir, "--to", "csv", "-o", str(tmp_path / "again"), "--quiet")[1] == ""
    assert said(capsys, "ensemble", run_dir, "--method", "top", "-k", "2", "--no-test", "--quiet")[1] == ""


def test_what_is_said_comes_to_the_total(digits: Path, tmp_path: Path) -> None:
    from raytune_hpo.exports.exports import export_to

    results = load_results(digits)
    for name in ("csv", "optuna"):
        told = Told()
        export_to(results, name, tmp_path / name, headway=told)
        assert [made for _, total, made in told.parts if total] == [total for _, total, _ in told.parts if total] != []
    told = Told()
    replay(results, "t00002", lambda text: None, headway=told)
    assert told.parts == [["loading the data", None, 0], ["epochs trained again", 2, 2]]
    told = Told()
    recipe = load_experiment(digits).resolved.recipe()
    lr_range_test(recipe.task, recipe.data(recipe.load())[0], {}, 1, high=0.1, steps=20, headway=told)
    assert told.parts == [["training steps", 21, 21]]


def test_a_table_in_parts_is_the_same_table(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raytune_hpo.exports import tables
    from raytune_hpo.exports.place import Place

    monkeypatch.setattr(tables, "ROWS", 2)
    place = Place(tmp_path / "tables", tmp_path / "tables", headway=Told())
    tables.write_csv(load_results(digits), place)
    for name in ("trials", "curves"):
        frame = getattr(load_results(digits), name)
        assert (tmp_path / f"tables/{name}.csv").read_bytes() == frame.to_csv(index=False).encode()


@pytest.mark.usefixtures("often")
def test_confirm_says_what_follows_its_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(DIGITS.override({"executor": "inline"}), tmp_path / "run", quiet=True)
    assert capsys.readouterr() == ("", "")
    confirm(tmp_path / "run", 2, 2)
    out, _ = capsys.readouterr()
    assert "judging the repetitions" in out
    assert "models tested 2/2" in out
    told = Told()
    unshown_confirm(tmp_path / "run", 2, 2, again=True, headway=told)
    assert told.parts[-1] == ["models tested", 2, 2]
    assert capsys.readouterr() == ("", "")
    retest(tmp_path / "run", 2, 1, 2)
    assert "judging the repetitions" in capsys.readouterr().out
    confirm(tmp_path / "run", 2, 2, quiet=True)
    assert capsys.readouterr() == ("", "")
