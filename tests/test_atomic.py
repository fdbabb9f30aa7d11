"""Files are replaced whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import atomic
from raytune_hpo.atomic import replaced, sync_folder, write_atomically


class PowerCutError(Exception):
    pass


def cut(*_: Any) -> None:
    raise PowerCutError


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_a_crash_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        if moment == "fsync":
            patch.setattr(atomic.os, "fsync", cut)
        if moment == "rename":
            patch.setattr(atomic.Path, "replace", cut)
        with pytest.raises(PowerCutError), replaced(path) as file:
            file.write(b"new") if moment != "write" else cut()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_file_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(os.path.isdir(f"/proc/self/fd/{fd}")) or fsync(fd))
    monkeypatch.setattr(atomic.Path, "replace", lambda a, b: calls.append("rename") or replace(a, b))
    write_atomically(tmp_path / "file", b"x")
    assert calls == [False, "rename", True]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("code", "said"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_folder_that_is_not_synced_is_said_unless_it_never_could_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: bool
) -> None:
    def fsync(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="error") if said else contextlib.nullcontext():
        sync_folder(tmp_path)


def test_a_write_that_fails_says_where(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"file\.json"), replaced(tmp_path / "file.json"):
        raise OSError(errno.ENOSPC, "No space left on device")
