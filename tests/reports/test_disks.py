"""A full disk, and a run directory that cannot be written to any more: no trial's fault, however it is said."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_reported import tried

from raytune_hpo import Digits, Experiment, ExperimentError, Float, load_results, report, resume, run
from raytune_hpo.workers.reporting import checkpoint_folder, get_checkpoint


def train(config: dict[str, Any]) -> None:
    """Three epochs with checkpoints of the function's own."""
    start = get_checkpoint()
    done = 0 if start is None else int((start / "n").read_text())
    for epoch in range(done + 1, 4):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "n").write_text(str(epoch))
            Path(folder, "big").write_bytes(b"0" * 100_000)
            report({"loss": 1.0 / epoch}, folder)


def check_stops_and_goes_on(path: Path, begin: Callable[[], Any], mend: Callable[[], None], task: Any) -> None:
    with pytest.raises(ExperimentError, match=r"^storage = .*cannot be written \(.*\); mend that, then resume$"):
        begin()
    stopped = load_results(path)
    assert [t.failures for t in stopped.ledger.trials.values()] == [0] * len(stopped.ledger.trials)
    mend()
    results = resume(path, task=task)
    assert results.status == "finished"
    assert set(results.trials["status"]) == {"completed"}
    assert list((path / "checkpoints").rglob(".new-*")) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT], ids=["ENOSPC", "EDQUOT"])
def test_c6_a_disk_that_fills_while_a_checkpoint_is_copied(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile, room = shutil.copyfile, [3]

    def fills(source: Any, target: Any, **options: Any) -> Any:
        room[0] -= 1
        if room[0] < 0:
            Path(target).write_bytes(b"half")
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        return copyfile(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", fills)

    def begin() -> None:
        try:
            tried(train, tmp_path / "run", num_samples=2)
        finally:
            assert list((tmp_path / "run/checkpoints").rglob(".new-*")) == [], "they keep the disk full"

    check_stops_and_goes_on(tmp_path / "run", begin, monkeypatch.undo, train)


class SafetensorError(Exception):
    """As safetensors' own, of a library in another language."""


def in_safetensors() -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def in_sqlite() -> None:
    raise RuntimeError("database or disk is full")


def in_a_file_that_takes_no_more() -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    try:
        torch.save(torch.zeros(1000), Full())
    except RuntimeError as error:
        raise ValueError("my checkpoint could not be written") from error


def in_a_group() -> None:
    raise ExceptionGroup("writers", [OSError(errno.ENOSPC, "No space left on device", "/elsewhere/x"), ValueError("x")])


def unnamed_cause() -> None:
    try:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    except OSError:
        raise KeyError("state")  # noqa: B904


SAYS: dict[str, Callable[[], Any]] = {
    "torch by name": lambda: torch.save(torch.zeros(100_000), "/dev/full"),
    "torch by file": in_a_file_that_takes_no_more,
    "numpy": lambda: np.zeros(100_000).tofile("/dev/full"),
    "safetensors": in_safetensors,
    "sqlite": in_sqlite,
    "group": in_a_group,
    "context": unnamed_cause,
}


@pytest.mark.parametrize("library", SAYS)
def test_c6_however_a_library_says_it(library: str, tmp_path: Path) -> None:
    full = [True]  # until it is empty

    def saves(config: dict[str, Any]) -> None:
        with checkpoint_folder() as folder:
            (folder / "n").write_text("1")
            if full:
                SAYS[library]()
            report({"loss": 1.0}, folder)

    path = tmp_path / "run"
    check_stops_and_goes_on(path, lambda: tried(saves, path), full.clear, saves)


UNWRITABLE = [errno.EPERM, errno.EACCES, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENOTDIR]


@pytest.mark.parametrize("number", UNWRITABLE, ids=[errno.errorcode[n] for n in UNWRITABLE])
@pytest.mark.parametrize("task", [False, True], ids=["function", "task"])
def test_c7_a_run_directory_that_becomes_unwritable(
    number: int, task: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, path, made = os.mkdir, tmp_path / "run", []

    def refused(name: Any, *arguments: Any, **options: Any) -> None:
        if ".new-" in str(name):
            made.append(name)
        if len(made) > 1 and f"{path}/checkpoints/" in str(name):
            raise OSError(number, os.strerror(number), str(name))
        mkdir(name, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refused)
    if not task:
        check_stops_and_goes_on(path, lambda: tried(train, path, num_samples=2), monkeypatch.undo, train)
        return
    space = {"lr": Float(0.01, 0.1), "batch_size": 512}
    common: dict[str, Any] = {"num_samples": 1, "max_epochs": 3, "executor": "inline", "scheduler": "fifo", "folds": 2}
    experiment = Experiment(name="disk", task=Digits(), space=space, **common)
    check_stops_and_goes_on(path, lambda: run(experiment, path), monkeypatch.undo, Digits())


def test_c7_lanes_whose_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, path = os.replace, tmp_path / "run"

    def refused(source: Any, target: Any, **options: Any) -> None:
        if "/checkpoints/" in str(target):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(source), None, str(target))
        replace(source, target, **options)

    monkeypatch.setattr(os, "replace", refused)
    experiment = Experiment(
        name="lanes",
        task="digits",
        space={"lr": Float(0.01, 0.1), "batch_size": 512},
        num_samples=2,
        max_epochs=2,
        executor="inline",
        scheduler="fifo",
    )
    check_stops_and_goes_on(path, lambda: run(experiment, path), monkeypatch.undo, None)


# What is the trial's own error -------------------------------------------------------------------------------------


def own_file_elsewhere() -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/data.csv")


def own_file_in_its_directory() -> None:
    Path("file").write_text("x")
    Path("file/below").write_text("x")  # ENOTDIR, within the run directory


def copied_from_elsewhere() -> None:
    raise shutil.Error([("/elsewhere/a", "b", "[Errno 13] Permission denied: '/elsewhere/a'")])


def read_only_elsewhere() -> None:
    raise OSError(errno.EROFS, "Read-only file system", "/elsewhere/cache")


def handled_before() -> None:
    try:
        raise OSError(errno.EROFS, "Read-only file system", "/elsewhere/cache")
    except OSError:
        raise ValueError("units: must be 1 or more")  # noqa: B904


OWN = [own_file_elsewhere, own_file_in_its_directory, copied_from_elsewhere, read_only_elsewhere, handled_before]


@pytest.mark.parametrize("fault", OWN, ids=[f.__name__ for f in OWN])
def test_near_c7_a_functions_own_files_are_its_own_fault(fault: Callable[[], None], tmp_path: Path) -> None:
    def fails(config: dict[str, Any]) -> None:
        report({"loss": 1.0})
        fault()

    results = tried(fails, tmp_path / "run")
    assert list(results.trials["status"]) == ["failed"]


def test_near_c6_what_a_failed_trial_wrote_for_a_checkpoint_goes(tmp_path: Path) -> None:
    def fails(config: dict[str, Any]) -> None:
        with checkpoint_folder() as folder:
            (folder / "n").write_text("1")
            raise ValueError("before the report")

    results = tried(fails, tmp_path / "run")
    assert list(results.trials["status"]) == ["failed"]
    assert list((tmp_path / "run/checkpoints").rglob(".new-*")) == []


def test_near_c7_a_function_that_catches_everything_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def refused(name: Any, *arguments: Any, **options: Any) -> None:
        if ".new-" in str(name):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        mkdir(name, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", refused)

    def robust(config: dict[str, Any]) -> None:
        for epoch in range(3):
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "n").write_text(str(epoch))
                try:
                    report({"loss": 1.0}, folder)
                except Exception:
                    report({"loss": 5.0})

    path = tmp_path / "run"
    check_stops_and_goes_on(path, lambda: tried(robust, path), monkeypatch.undo, robust)
    assert set(load_results(path).curves["loss"]) == {1.0}
