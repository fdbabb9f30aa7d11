from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_hpo.errors import TrialError
from raytune_hpo.training.checkpoint import load_state, save_state


def test_round_trip_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    state = {"w": torch.arange(3.0), "epoch": 3, "nested": {"list": [1, 2.5, None, "a"]}}
    save_state({"epoch": 0}, path)
    save_state(state, path)
    loaded = load_state(path)
    assert torch.equal(loaded.pop("w"), state.pop("w"))
    assert loaded == state
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_a_crash_while_writing_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    save_state({"epoch": 1}, path)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        save_state({"epoch": 2}, path)
    assert load_state(path) == {"epoch": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state.pt"]


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"missing\.pt"):
        load_state(tmp_path / "missing.pt")
    save_state({"w": torch.zeros(100)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:200])
    with pytest.raises(TrialError, match=r"cut\.pt"):
        load_state(tmp_path / "cut.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(TrialError, match=r"empty\.pt"):
        load_state(tmp_path / "empty.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(TrialError, match="holds a list"):
        load_state(tmp_path / "list.pt")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(Bomb.target),)

    target: Path


def test_code_in_a_file_is_not_executed(tmp_path: Path) -> None:
    Bomb.target = tmp_path / "executed"
    torch.save({"x": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(TrialError, match=r"bomb\.pt"):
        load_state(tmp_path / "bomb.pt")
    assert not Bomb.target.exists()
