"""Trials by condition, in an order, in columns; folded to a terminal."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from written_run import end, result, suggest, written_run

from raytune_hpo import Choice, Float, Int, load_results
from raytune_hpo.cli.main import main
from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.selection import selected
from raytune_hpo.results.text_table import text_table
from raytune_hpo.space import SearchSpace

SPACE: dict[str, Any] = {"lr": Float(1e-4, 1e-1, "log"), "kind": Choice(["a", None, True]), "net": {"depth": Int(1, 3)}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """t0 has no report."""
    return written_run(
        tmp_path / "run",
        *(
            suggest(f"t0000{i}", lr=lr, kind=kind, net={"depth": depth})
            for i, (lr, kind, depth) in enumerate([(0.1, "a", 1), (0.01, None, 2), (0.001, True, 3), (0.002, "a", 3)])
        ),
        *(result(f"t0000{i}", 1, accuracy, "complete") for i, accuracy in [(1, 0.5), (2, 0.9), (3, 0.7)]),
        *(end(f"t0000{i}", "completed", "max_epochs") for i in (1, 2, 3)),
        end("t00000", "failed", "error", "ValueError: no\x1b[31m"),
        space=SearchSpace(SPACE).to_json(),
    )


@pytest.mark.parametrize(
    ("where", "sort", "expected"),
    [
        ([], None, "0123"),
        (["lr<0.01"], None, "23"),
        (["lr <= 1e-2", "net.depth==3"], None, "23"),
        (["kind=a"], None, "03"),
        (["kind!=a"], None, "12"),
        (["kind=none"], None, "1"),
        (["kind=true"], None, "2"),
        (["status=failed"], None, "0"),
        (["best>0"], None, "123"),
        (["best=none"], None, "0"),
        ([], "best", "1320"),
        ([], "-best", "2310"),
        ([], "net.depth", "0123"),
        ([], "-kind", "2031"),
        (["best>=0.7"], "lr", "23"),
    ],
)
def test_trials_by_condition(run: Path, where: list[str], sort: str | None, expected: str) -> None:
    rows = selected(load_results(run), where, sort)
    assert "".join(row["trial_id"][-1] for row in rows) == expected


@pytest.mark.parametrize(
    ("where", "sort", "said"),
    [
        (["lr"], None, "FIELD OPERATOR VALUE"),
        (["lr<"], None, "FIELD OPERATOR VALUE"),
        (["lr<a"], None, "a number after <"),
        (["lr<nan"], None, "a number after <"),
        (["lrate<1"], None, "a field: trial_id"),
        (["__import__('os')<1"], None, "a field: trial_id"),
        (["status=fail"], None, "a status: pending"),
        ([], "lrate", "a field: trial_id"),
    ],
)
def test_what_cannot_be_read(run: Path, where: list[str], sort: str | None, said: str) -> None:
    with pytest.raises(ExperimentError, match=r"--where|--sort") as raised:
        selected(load_results(run), where, sort)
    assert said in str(raised.value)


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--where", "best>0.6", "--sort=-best"]
    assert main(["trials", str(run), *options, "--columns", "trial_id,best,lr,net.depth,kind"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["trial", "best", "validation_accuracy", "lr", "net.depth", "kind"],
        ["t00002", "0.9", "@1", "0.001", "3", "True"],
        ["t00003", "0.7", "@1", "0.002", "3", "a"],
    ]
    assert main(["trials", str(run), *options, "--csv", "--columns", "trial_id,kind,net.depth"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["trial_id"] for row in rows] == ["t00002", "t00003"]
    assert list(rows[0]) == ["trial_id", "config.kind", "config.net.depth"]
    assert main(["trials", str(run), *options, "--json"]) == 0
    assert [row["trial_id"] for row in json.loads(capsys.readouterr().out)["trials"]] == ["t00002", "t00003"]
    assert main(["trials", str(run), "--columns", "lrate"]) == 2
    assert main(["trials", str(run), "--where", "status=failed"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_table_is_folded_between_words() -> None:
    rows = [["t0", "lr=0.1  kind=a  depth=3  momentum=0.95"], ["t1", "lr=0.2"], ["t2", ""]]
    assert text_table(["trial", "config"], rows, 36).splitlines() == [
        "trial  config",
        "t0     lr=0.1  kind=a  depth=3",
        "       momentum=0.95",
        "t1     lr=0.2",
        "t2",
    ]
    assert text_table(["trial", "config"], rows, 20) == text_table(["trial", "config"], rows)
