"""Files of many lanes: a lane is read, verified, extracted and dropped by itself; the file goes with its last lane."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raytune_hpo import TrialError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.storage.checkpoints import CheckpointStore, exists, unpack
from raytune_hpo.storage.lane_files import LaneFile, fingerprint_of, write

NAME = "checkpoints/lanes/001.safetensors"
MEMBERS = ["a", "b", "c", "d"]
TENSORS = {
    "weights": np.arange(12, dtype=np.float32).reshape(4, 3),
    "counts": np.arange(4, dtype=np.int64)[:, None],
    "none": np.zeros((4, 0), dtype=np.float32),
}
FACTS = [f'{{"epoch": {i}}}' for i in range(4)]


def records(run: Path) -> dict[str, CheckpointRecord]:
    write(run / NAME, MEMBERS, TENSORS, {"shared": [1]}, FACTS)
    found = {}
    for i, member in enumerate(MEMBERS):
        prints = fingerprint_of({name: t[i] for name, t in TENSORS.items()}, FACTS[i])
        found[member] = CheckpointRecord(f"t{i}", 0, i, f"{NAME}#{member}", *prints)
    return found


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path, 1)


def test_a_lane_is_read_by_itself(tmp_path: Path, store: CheckpointStore) -> None:
    lane = records(tmp_path)["c"]
    file = LaneFile(tmp_path / NAME)
    rows, fact = file.row("c")
    assert file.shared == {"shared": [1]}
    assert fact == FACTS[2]
    assert {name: row.tolist() for name, row in rows.items()} == {"weights": [6, 7, 8], "counts": [2], "none": []}
    assert store.intact(lane)
    assert exists(tmp_path, lane)
    assert [p.name for p in (tmp_path / "checkpoints/lanes").iterdir()] == ["001.safetensors"]


def test_damage_to_a_lane_is_that_lanes_alone(tmp_path: Path, store: CheckpointStore) -> None:
    found = records(tmp_path)
    data = bytearray((tmp_path / NAME).read_bytes())
    at = data.find(np.float32(7).tobytes() + np.float32(8).tobytes())
    data[at] ^= 1
    (tmp_path / NAME).write_bytes(data)
    assert [store.intact(found[m]) for m in MEMBERS] == [True, True, False, True]


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100])
def test_a_damaged_file_is_a_trial_error(tmp_path: Path, store: CheckpointStore, content: bytes) -> None:
    lane = records(tmp_path)["a"]
    (tmp_path / NAME).write_bytes(content)
    assert not store.intact(lane)
    assert not exists(tmp_path, lane)
    with pytest.raises(TrialError, match="cannot be read"):
        LaneFile(tmp_path / NAME)


def test_lanes_that_are_not_kept_are_written_out_and_the_file_goes_with_the_last(
    tmp_path: Path, store: CheckpointStore
) -> None:
    found = records(tmp_path)
    store.delete(found["a"])
    assert LaneFile(tmp_path / NAME).members == MEMBERS  # one of four: not worth writing it again
    store.delete(found["c"])
    assert LaneFile(tmp_path / NAME).members == ["b", "d"]
    assert [store.intact(found[m]) for m in MEMBERS] == [False, True, False, True]
    store.delete(found["b"], found["d"])
    assert not (tmp_path / NAME).exists()


def test_a_lane_stays_as_long_as_a_record_points_at_it(tmp_path: Path, store: CheckpointStore) -> None:
    found = records(tmp_path)
    adopted = store.adopt(found["b"], "t9", 2)
    assert adopted == replace(found["b"], trial="t9", generation=2)
    store.delete(*(found[m] for m in MEMBERS))
    assert store.intact(adopted)
    store.delete(adopted)
    assert not (tmp_path / NAME).exists()


def test_a_damaged_lane_is_not_adopted(tmp_path: Path, store: CheckpointStore) -> None:
    lane = records(tmp_path)["b"]
    with pytest.raises(TrialError, match="damaged or gone"):
        store.adopt(replace(lane, crc32=lane.crc32 ^ 1), "t9", 1)


def test_a_new_session_keeps_what_records_point_at(tmp_path: Path) -> None:
    found = records(tmp_path)
    orphan = tmp_path / "checkpoints/lanes/001-000-77-000002.safetensors"
    orphan.write_bytes(b"left by a crash")
    store = CheckpointStore(tmp_path, 2)
    store.clean([found["a"], replace(found["a"], trial="t9", generation=1), found["d"]], [])
    assert not orphan.exists()
    assert LaneFile(tmp_path / NAME).members == ["a", "d"]
    store.delete(found["a"], found["d"])
    assert store.intact(found["a"])  # t9 has it too
    store.delete(found["a"])
    assert not (tmp_path / NAME).exists()


def test_a_lane_travels_alone(tmp_path: Path, store: CheckpointStore) -> None:
    lane = records(tmp_path)["d"]
    unpack(store.packed(lane), tmp_path / "elsewhere")
    rows, fact = LaneFile(tmp_path / "elsewhere/state.pt").row(None)
    assert rows["weights"].tolist() == [9, 10, 11]
    assert fact == FACTS[3]
    with pytest.raises(TrialError, match="does not hold x"):
        LaneFile(tmp_path / NAME).row("x")
