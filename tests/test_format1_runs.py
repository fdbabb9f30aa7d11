"""Runs of format 1, written by the version before the journal was chained and killed on the way: they are read as they
are, go on, and what had been suggested ends as it would have. (tests/data/format1; expected.json: what that version
made of them.)"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import load_results, resume
from raytune_hpo.journal.file import read
from raytune_hpo.pages.document import document
from raytune_hpo.results.followed import Followed

DATA = Path(__file__).parent / "data" / "format1"


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without times, and with NaN as something that equals itself."""
    return [
        {k: "nan" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items() if k != "seconds"}
        for row in rows
    ]


@pytest.mark.parametrize("name", ["function", "pbt"])
@pytest.mark.usefixtures("ray_session")
def test_a_run_of_format_1_is_read_resumed_and_ends_as_it_would_have(name: str, tmp_path: Path) -> None:
    run = shutil.copytree(DATA / name, tmp_path / "run")
    expected = json.loads((DATA / f"{name}.expected.json").read_text())
    old = (run / "journal.jsonl").read_bytes()
    before = load_results(run)
    assert before.status == "running"
    reported = len(before.curves)
    assert 0 < reported < len(expected["curves"])
    assert (run / "journal.jsonl").read_bytes() == old, "reading changed it"

    followed = Followed(run)
    assert document(before)["cost"]["epochs"] == reported
    assert followed.fresh() == []

    results = resume(run)
    assert results.status == "finished"
    followed.fresh()  # its journal was written anew
    assert followed.results.rows() == results.rows()
    curves = plain(results.curves.to_dict("records"))
    assert curves[:reported] == expected["curves"][:reported]
    rows = plain(results.rows())
    if name == "function":  # bare Python: the same on every machine
        # What was suggested then; what is suggested from there on is today's search's.
        known = {row["trial_id"] for row in before.rows()}
        assert len(rows) == len(expected["rows"])
        for row, then in zip(rows, expected["rows"], strict=True):
            if then["trial_id"] in known:
                assert row["config"] == then["config"]
        values = {(c["trial_id"], c["epoch"]): c for c in curves}
        for then in expected["curves"]:
            if then["trial_id"] in known and (now := values.get((then["trial_id"], then["epoch"]))) is not None:
                assert now == then
        assert {row["status"] for row in rows} <= {"completed", "stopped", "failed", "diverged"}
    else:  # what torch computes differs in the last digits between machines
        same = ("trial_id", "status", "epochs", "failures")
        assert [[row[k] for k in same] for row in rows] == [[row[k] for k in same] for row in expected["rows"]]
        assert [r["best"] for r in rows] == pytest.approx([r["best"] for r in expected["rows"]], abs=0.02)
        assert results.best is not None
        assert results.best.test is not None

    description = json.loads((run / "experiment.json").read_text())
    assert description["format"] == 2
    assert (run / "journal.format1.jsonl").read_bytes() == old
    reading = read(run / "journal.jsonl", description["run_id"])
    assert (reading.format, reading.damage) == (2, None)
    assert resume(run).rows() == results.rows()


def test_a_crash_between_the_two_files_does_no_harm(tmp_path: Path) -> None:
    """The journal is rewritten and the description is not: the journal itself shows what it is."""
    from raytune_hpo.engine.reopening import open_journal
    from raytune_hpo.storage.run_directory import RunDirectory

    run = shutil.copytree(DATA / "function", tmp_path / "run")
    description = (run / "experiment.json").read_bytes()
    first, journal = open_journal(RunDirectory.open(run))
    journal.close()
    (run / "experiment.json").write_bytes(description)  # as if the process had died before
    assert load_results(run).rows() == load_results(DATA / "function").rows()
    again, journal = open_journal(RunDirectory.open(run))
    journal.close()
    assert again.steps == first.steps
    assert json.loads((run / "experiment.json").read_text())["format"] == 2
