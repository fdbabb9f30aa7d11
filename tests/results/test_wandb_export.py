"""W&B's offline files hold the same of a run as --json says. Skipped without wandb."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from odd_run import odd_run
from standing_reports import standing
from written_run import written_run

from raytune_hpo import load_results
from raytune_hpo.cli.main import main


@pytest.fixture
def wandb() -> Any:
    return pytest.importorskip("wandb")


BLOCK, HEADER = 32768, struct.Struct("<IHB")


def records(data: bytes) -> Iterator[bytes]:
    """What a file of W&B's holds: a log of LevelDB's after a header of 7 bytes, each part with its checksum."""
    assert data[:7] == struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
    at, parts = 7, b""
    while at < len(data):
        if BLOCK - at % BLOCK < HEADER.size:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = HEADER.unpack_from(data, at)
        part = data[at + HEADER.size : at + HEADER.size + length]
        assert zlib.crc32(part, zlib.crc32(bytes([kind]))) == checksum
        at, parts = at + HEADER.size + length, parts + part
        if kind in (1, 4):  # the whole of a record, or its last part
            yield parts
            parts = b""
    assert parts == b""


def read(file: Path) -> dict[str, list[Any]]:
    """Kind -> the records of a file, as its own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    found: dict[str, list[Any]] = {}
    for data in records(file.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        found.setdefault(kind, []).append(getattr(record, kind))
    return found


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.mark.filterwarnings("ignore")  # of what wandb itself uses
@pytest.mark.timeout(300)
def test_its_files_say_what_json_says(
    wandb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "another")
    monkeypatch.chdir(tmp_path)
    run = odd_run(tmp_path / "run")
    assert main(["export", str(run), "--to", "wandb", "-o", "wb"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("wb: 5 trials; open it: wandb sync wb/*\n", "")
    assert os.environ["WANDB_MODE"] == "online"
    assert {name for name in os.environ if name.startswith("WANDB_")} == {"WANDB_MODE", "WANDB_PROJECT"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "wb"]
    assert main(["trials", str(run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["trials"]
    results = load_results(run)
    assert sorted(p.name for p in (tmp_path / "wb").iterdir()) == [row["trial_id"] for row in rows]
    for row in rows:
        (file,) = (tmp_path / "wb" / row["trial_id"]).iterdir()
        found = read(file)
        (made,) = found["run"]
        assert (made.display_name, made.run_group, made.project) == (row["trial_id"], "run", "hand")
        assert file.name == f"run-{made.run_id}.wandb"
        assert made.run_id.endswith(row["trial_id"])
        assert list(made.tags) == (["winner"] if row["trial_id"] == "t00000" else [])
        assert made.host == ""
        config = values(made.config.update)
        assert {name: value for name, value in config.items() if name != "_wandb"} == row["config"]
        history: dict[str, dict[int, str]] = {}
        for record in found.get("history", []):
            for name, value in values(record.item).items():
                if not name.startswith("_"):
                    assert record.step.num not in history.setdefault(name, {})
                    history[name][record.step.num] = str(float(value))
        expected = {
            name: {epoch: str(value) for epoch, value in curve.items()}
            for name, curve in standing(results).get(row["trial_id"], {}).items()
            if curve
        }
        assert history == expected, row["trial_id"]
        summary: dict[str, Any] = {}
        for record in found["summary"]:
            summary.update(values(record.update))
        assert summary["status"] == row["status"]
        assert summary["best/validation_accuracy"] == row["best"]
        assert summary["error"] == row["error"]
        assert found["exit"][0].exit_code == (1 if row["status"] in ("failed", "diverged") else 0)


@pytest.mark.filterwarnings("ignore")
def test_a_run_without_trials(wandb: Any, tmp_path: Path) -> None:
    assert main(["export", str(written_run(tmp_path / "run")), "--to", "wandb", "-o", str(tmp_path / "wb")]) == 0
    assert list((tmp_path / "wb").iterdir()) == []
