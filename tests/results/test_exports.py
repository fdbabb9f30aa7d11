"""Exports of runs: what other tools read is what --json says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from written_run import end, result, suggest, written_run

from raytune_hpo import Choice, Float, Int
from raytune_hpo.cli.main import main
from raytune_hpo.journal.events import CheckpointRecord, Perturbed
from raytune_hpo.space import SearchSpace

SPACE: dict[str, Any] = {
    "optimizer": Choice(["sgd", "adam"]),
    "lr": Float(1e-4, 1e-1, "log"),
    "momentum": Float(0.5, 0.99, scale="reverse_log").when("optimizer", "==", "sgd"),
    "units": Int(16, 256, scale="power_of_two"),
    "layers": Choice([[16], [16, 8], None, True]),
    "net": {"depth": Int(1, 3)},
}
BASE: dict[str, Any] = {"optimizer": "adam", "lr": 0.01, "units": 64, "layers": [16, 8], "net": {"depth": 2}}
NAN = float("nan")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A trial of every status; the winner was stopped; one has gone on with a learning rate outside the range."""
    copy = CheckpointRecord("t00001", 1, 1, "checkpoints/t00001/01-00001.1", bytes=0, crc32=0)
    perturbed = Perturbed(*("t00001", "t00000", 1, 0, 1, 1, {**BASE, "lr": 0.1}, {**BASE, "lr": 0.12}, copy))
    return written_run(
        tmp_path / "run",
        suggest("t00000", **{**BASE, "optimizer": "sgd", "momentum": 0.9}),
        suggest("t00001", **{**BASE, "lr": 0.1}),
        suggest("t00002", **{**BASE, "layers": None}),
        suggest("t00003", **{**BASE, "layers": True}),
        suggest("t00004", **BASE),
        suggest("t00005", **BASE),
        result("t00000", 1, 0.95, "stop"),
        end("t00000", "stopped", "asha"),
        result("t00001", 1, 0.5, "exploited"),
        perturbed,
        result("t00001", 2, 0.6, "complete", generation=1),
        end("t00001", "completed", "max_epochs"),
        result("t00002", 1, NAN, "diverged"),
        end("t00002", "diverged", "validation_accuracy at epoch 1"),
        end("t00003", "failed", "error", "ValueError: <script>alert(1)</script>"),
        result("t00004", 1, 0.3),
        space=SearchSpace(SPACE).to_json(),
    )


def exported(run: Path, name: str, target: Path) -> None:
    assert main(["export", str(run), "--to", name, "-o", str(target)]) == 0


def rows_of(run: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["trials", str(run), "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["trials"]
    return found


@pytest.mark.parametrize("file", ["study.db", "study.log"])
def test_an_optuna_study(run: Path, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    optuna = pytest.importorskip("optuna")
    target = tmp_path / file
    exported(run, "optuna", target)
    if file == "study.db":
        storage: Any = f"sqlite:///{target}"
    else:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(target)))
    study = optuna.load_study(study_name="run", storage=storage)
    rows = rows_of(run, capsys)
    states = {
        "completed": "COMPLETE", "stopped": "PRUNED", "diverged": "FAIL", "failed": "FAIL", "running": "RUNNING",
        "pending": "WAITING",
    }  # fmt: skip
    assert study.metric_names == ["validation_accuracy"]
    assert study.direction.name == "MAXIMIZE"
    assert len(study.trials) == len(rows) == 6
    for trial, row in zip(study.trials, rows, strict=True):
        assert trial.user_attrs["trial_id"] == row["trial_id"]
        assert trial.user_attrs["status"] == row["status"]
        winner = row["trial_id"] == "t00000"
        assert trial.state.name == ("COMPLETE" if winner else states[row["status"]])
        if trial.state.name == "COMPLETE":
            assert trial.value == row["best"]
    assert study.best_trial.user_attrs["trial_id"] == "t00000"
    assert study.trials[0].params["momentum"] == 0.9
    assert "momentum" not in study.trials[1].params
    assert study.trials[1].params == {
        "optimizer": "adam", "lr": 0.12, "units": 64, "layers": "[16, 8]", "net.depth": 2
    }  # fmt: skip
    assert study.trials[1].intermediate_values == {1: 0.5, 2: 0.6}
    assert study.trials[2].params["layers"] is None
    assert study.trials[3].params["layers"] is True
    assert study.trials[3].user_attrs["error"] == "ValueError: <script>alert(1)</script>"
    assert study.trials[0].datetime_complete >= study.trials[0].datetime_start


def test_tables(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exported(run, "csv", tmp_path / "csv")
    exported(run, "parquet", tmp_path / "parquet")
    rows = rows_of(run, capsys)
    typed = pd.read_parquet(tmp_path / "parquet" / "trials.parquet")
    assert typed["trial_id"].tolist() == [row["trial_id"] for row in rows]
    assert typed["config.lr"].tolist() == [row["config"]["lr"] for row in rows]
    assert str(typed["epochs"].dtype) == "Int64"
    assert typed["config.layers"].tolist()[:2] == ["[16, 8]", "[16, 8]"]
    assert typed["config.layers"].isna().tolist() == [False, False, True, False, False, False]
    plain = pd.read_csv(tmp_path / "csv" / "trials.csv")
    assert plain["status"].tolist() == [row["status"] for row in rows]
    curves = pd.read_csv(tmp_path / "csv" / "curves.csv")
    assert curves[["trial_id", "epoch"]].values.tolist() == [
        ["t00000", 1], ["t00001", 1], ["t00001", 2], ["t00002", 1], ["t00004", 1]
    ]  # fmt: skip


def test_a_run_without_trials(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run")
    for name, file in {"csv": "c", "parquet": "p", "optuna": "o.log"}.items():
        exported(run, name, tmp_path / file)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "csv", "-o", "taken"], "must not exist yet"),
        (["--to", "csv", "-o", "missing/x"], "must lie in a folder that there is"),
        (["--to", "csv", "-o", "x", "--trial", "t00000"], "is of a model's export"),
    ],
)
def test_what_cannot_be_written(
    run: Path,
    tmp_path: Path,
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(run), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_an_export_that_fails_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: pd.DataFrame, *given: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(run), "--to", "csv", "-o", str(tmp_path / "x")]) == 2
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "module", "needs"),
    [
        ("optuna", "optuna", 'Optuna: pip install "raytune-hpo[optuna]"'),
        ("mlflow", "mlflow", 'MLflow: pip install "raytune-hpo[mlflow]"'),
        ("wandb", "wandb", 'Weights & Biases: pip install "raytune-hpo[wandb]"'),
        ("parquet", "pyarrow", "pyarrow: pip install pyarrow"),
    ],
)
def test_without_what_it_needs_an_export_is_one_line(
    name: str, module: str, needs: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for loaded in [own for own in sys.modules if own.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    before = sorted(tmp_path.iterdir())
    assert main(["export", str(run), "--to", name, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"raytune-hpo: --to = '{name}': needs {needs}\n"
    assert sorted(tmp_path.iterdir()) == before
