"""What a trial leaves in the process that it shares with its driver, and links in what it saves (rows B12, C1)."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, Float, report, run
from raytune_hpo.storage.checkpoints import CheckpointStore

HELD: list[Any] = []


def leaves(config: dict[str, Any]) -> None:
    sys.stdout = open("elsewhere.txt", "w")  # noqa: SIM115
    HELD.append(sys.stdout)
    os.umask(0)
    logging.captureWarnings(True)
    print("into a file of its own")
    report({"loss": config["x"]})


def test_near_b12_streams_umask_and_warnings_are_the_callers_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Experiment(
        name="x", task=leaves, space={"x": Float(0.0, 1.0)}, metric="loss", mode="min", num_samples=2, executor="inline"
    )
    before, mask = sys.stdout, os.umask(0o022)
    try:
        results = run(made, tmp_path / "run")
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(mask)
    assert sys.stdout is before
    assert "the winner: raytune-hpo best" in capsys.readouterr().out
    assert len(HELD) == len(results.ledger.trials) == 2
    for file in HELD:
        file.close()
    assert (tmp_path / "run" / "trials" / "t00000" / "elsewhere.txt").read_text() == "into a file of its own\n"
    logging.captureWarnings(False)
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", stacklevel=1)


def test_near_c1_a_checkpoints_own_links_become_what_they_point_at(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 1)
    scratch = store.scratch("t00000")
    (scratch / "step" / "1").mkdir(parents=True)
    (scratch / "step" / "1" / "w").write_text("weights")
    (scratch / "latest").symlink_to(scratch / "step" / "1")
    (scratch / "loop").symlink_to(scratch / "loop")
    (scratch / "up").symlink_to(scratch)
    record = store.commit(scratch, "t00000", 0, 1)
    copy = tmp_path / store.adopt(record, "t00001", 1).path
    assert sorted(str(p.relative_to(copy)) for p in copy.rglob("*") if p.is_file()) == ["latest/w", "step/1/w"]
    assert not any(p.is_symlink() for p in (tmp_path / record.path).rglob("*"))
    (tmp_path / record.path / "loop").symlink_to(tmp_path / record.path / "loop")  # by whom the run belongs to now
    assert store.intact(record)
