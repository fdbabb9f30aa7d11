"""Checkpoints: whole or not there, damage noticed, copies independent, nothing sent that leads outside."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from raytune_hpo import TrialError
from raytune_hpo.journal.codec import decoded, encoded
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.storage.checkpoints import CheckpointStore, fingerprint, pack, unpack

FILES = {"state.pt": os.urandom(1000), "sub/optimizer.bin": b"abc", "empty": b""}


def fill(folder, files=FILES):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path, 3)


def save(store, trial="t00001", generation=0, epoch=5, files=FILES):
    scratch = store.scratch(trial)
    fill(scratch, files)
    return store.commit(scratch, trial, generation, epoch)


def test_commit_moves_the_folder_into_its_place(store, tmp_path):
    record = save(store)
    assert record.path == "checkpoints/t00001/00-00005.3"
    assert content(tmp_path / record.path) == FILES
    assert [p.name for p in (tmp_path / "checkpoints/t00001").iterdir()] == ["00-00005.3"]
    assert store.intact(record)
    assert decoded(CheckpointRecord, encoded(record), "record") == record
    assert record.bytes == 1003


def test_commit_again_replaces(store, tmp_path):
    save(store)
    record = save(store, files={"other": b"x"})
    assert content(tmp_path / record.path) == {"other": b"x"}
    assert store.intact(record)


def test_two_sessions_and_two_generations_do_not_share_a_place(store, tmp_path):
    paths = {save(s, generation=g).path for s in (store, CheckpointStore(tmp_path, 4)) for g in (0, 1)}
    assert len(paths) == 4


@pytest.mark.parametrize("name", [n for n in FILES if FILES[n]])
def test_every_flipped_byte_is_noticed(store, tmp_path, name):
    record = save(store)
    file = tmp_path / record.path / name
    for at in range(0, len(FILES[name]), 37):
        data = bytearray(FILES[name])
        data[at] ^= 1
        file.write_bytes(data)
        assert not store.intact(record)
    file.write_bytes(FILES[name])
    assert store.intact(record)


def test_cut_missing_additional_and_renamed_files_are_noticed(store, tmp_path):
    record = save(store)
    folder = tmp_path / record.path

    def check(damage, repair):
        damage()
        assert not store.intact(record)
        repair()
        assert store.intact(record)

    state = folder / "state.pt"
    check(lambda: state.write_bytes(FILES["state.pt"][:-1]), lambda: state.write_bytes(FILES["state.pt"]))
    check(state.unlink, lambda: state.write_bytes(FILES["state.pt"]))
    check(lambda: (folder / "more").write_bytes(b"x"), (folder / "more").unlink)
    check(lambda: state.rename(folder / "x"), lambda: (folder / "x").rename(state))
    check((folder / "empty").unlink, (folder / "empty").touch)
    store.delete(record)
    assert not store.intact(record)
    store.delete(record)  # is no error


def test_the_fingerprint_tells_where_one_file_ends_and_the_next_begins(tmp_path):
    prints = set()
    for number, files in enumerate(({"a": b"xy", "b": b""}, {"a": b"x", "b": b"y"}, {"a": b"", "b": b"xy"})):
        fill(tmp_path / str(number), files)
        prints.add(fingerprint(tmp_path / str(number)))
    assert len(prints) == 3


def test_an_adopted_checkpoint_outlives_its_donor(store, tmp_path):
    donor = save(store)
    record = store.adopt(donor, "t00002", 1)
    assert (record.trial, record.generation, record.epoch) == ("t00002", 1, 5)
    assert (record.bytes, record.crc32) == (donor.bytes, donor.crc32)
    store.delete(donor)
    assert store.intact(record)
    assert content(tmp_path / record.path) == FILES


def test_adopting_copies_where_the_disk_knows_no_links(store, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError

    donor = save(store)
    monkeypatch.setattr(os, "link", refuse)
    record = store.adopt(donor, "t00002", 1)
    assert store.intact(record)
    (tmp_path / donor.path / "state.pt").write_bytes(b"")
    assert store.intact(record)


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_checkpoint_is_not_adopted(store, tmp_path, damage):
    donor = save(store)
    if damage == "flip":
        (tmp_path / donor.path / "state.pt").write_bytes(b"x" * 1000)
    else:
        store.delete(donor)
    with pytest.raises(TrialError, match="damaged or gone"):
        store.adopt(donor, "t00002", 1)
    assert list((tmp_path / "checkpoints/t00002").iterdir()) == []


def test_clean_leaves_what_the_records_name(store, tmp_path):
    kept, other = save(store, epoch=1), save(store, epoch=2)
    gone = save(store, trial="t00009")
    store.scratch("t00001")
    fill(store.scratch("t00007"))
    after, trials = CheckpointStore(tmp_path, 4), ["t00001", "t00007", "t00009"]
    after.clean([kept], trials)
    assert after.intact(kept)
    assert [str(p.relative_to(tmp_path)) for p in (tmp_path / "checkpoints").glob("*/*")] == [kept.path]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["t00001"]
    assert not after.intact(other)
    assert not after.intact(gone)
    after.clean([], trials)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_clean_of_a_run_without_checkpoints(store):
    store.clean([], [])


def test_pack_and_unpack(tmp_path):
    fill(tmp_path / "a")
    unpack(pack(tmp_path / "a"), tmp_path / "b")
    assert content(tmp_path / "b") == FILES
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "{folder}/out", "link"])
def test_what_is_sent_stays_inside(tmp_path, name):
    (tmp_path / "out").write_text("precious")
    (tmp_path / "in").mkdir()
    entry = zipfile.ZipInfo(name.format(folder=tmp_path))
    if name == "link":
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(entry, "../out")
    unpack(buffer.getvalue(), tmp_path / "in")
    assert (tmp_path / "out").read_text() == "precious"
    (written,) = (path for path in (tmp_path / "in").rglob("*") if not path.is_dir())
    assert not written.is_symlink()
    assert not Path("/out").exists()
