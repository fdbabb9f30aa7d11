"""Checkpoints on disk: written whole or not at all, verified when read, bounded in number.

A checkpoint is a folder, checkpoints/TRIAL/GENERATION-EPOCH, of files that the trainable chose. It is
written beside its place and renamed into it, and its record (path, size, crc32) goes to the journal
afterwards, so a record always points at a whole folder; the crc32 catches what a failing disk or a
power cut does to it later, and then the one before it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.errors import TrialError
from raytune_hpo.storage.run_directory import sync_folder

STATE_FILE = "state.pt"  # the file of a task's checkpoint; function trainables choose their own


@dataclass(frozen=True)
class CheckpointRecord:
    """Where a checkpoint is (path within the run directory), what it is of, and how to tell it is whole."""

    trial: str
    generation: int
    epoch: int
    path: str
    bytes: int
    crc32: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def checkpoint_path(trial: str, generation: int, epoch: int, session: int) -> str:
    # The session stands in the name so that a worker that outlives a killed driver for a moment
    # cannot touch what the resumed run writes.
    return f"checkpoints/{trial}/{generation:02d}-{epoch:05d}.{session}"


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def fingerprint(folder: Path) -> tuple[int, int]:
    """(bytes, crc32) over the names and contents of the files in `folder`."""
    size, crc = 0, 0
    for file in _files(folder):
        data = file.read_bytes()
        size += len(data)
        crc = zlib.crc32(data, zlib.crc32(str(file.relative_to(folder)).encode(), crc))
    return size, crc


class CheckpointStore:
    """The checkpoints of one run, on a machine that sees the run directory, as one session writes them."""

    def __init__(self, run_path: Path, session: int) -> None:
        self.run_path = run_path
        self.session = session

    def scratch(self, trial: str) -> Path:
        """A new empty folder beside the trial's checkpoints, to write one into."""
        folder = self.run_path / "checkpoints" / trial / f".new-{os.getpid()}-{os.urandom(4).hex()}"
        folder.mkdir(parents=True)
        return folder

    def commit(self, scratch: Path, trial: str, generation: int, epoch: int) -> CheckpointRecord:
        """Move a written folder into its place. Durable when this returns."""
        for file in _files(scratch):
            with file.open("rb") as f:
                os.fsync(f.fileno())
        for folder in (scratch, *(p for p in scratch.rglob("*") if p.is_dir())):
            sync_folder(folder)
        path = checkpoint_path(trial, generation, epoch, self.session)
        target = self.run_path / path
        size, crc = fingerprint(scratch)
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
        sync_folder(target.parent)
        return CheckpointRecord(trial, generation, epoch, path, size, crc)

    def adopt(self, donor: CheckpointRecord, trial: str, generation: int) -> CheckpointRecord:
        """Give `trial` a copy of its own of another trial's checkpoint, so that no deletion can take it away.

        Raises TrialError if the other's is damaged or gone.
        """
        scratch = self.scratch(trial)
        source = self.run_path / donor.path
        for file in _files(source):
            target = scratch / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, target)
            except OSError:
                shutil.copy2(file, target)
        if fingerprint(scratch) != (donor.bytes, donor.crc32):
            shutil.rmtree(scratch)
            raise TrialError(f"checkpoint {donor.path} is damaged or gone")
        return self.commit(scratch, trial, generation, donor.epoch)

    def intact(self, record: CheckpointRecord) -> bool:
        folder = self.run_path / record.path
        return folder.is_dir() and fingerprint(folder) == (record.bytes, record.crc32)

    def delete(self, record: CheckpointRecord) -> None:
        folder = self.run_path / record.path
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are in it
            folder.parent.rmdir()

    def clean(self, keep: Iterable[CheckpointRecord]) -> None:
        """Delete every folder that no record in `keep` points at: leftovers of a crash."""
        known = {record.path for record in keep}
        root = self.run_path / "checkpoints"
        for trial in root.iterdir() if root.is_dir() else ():
            for folder in trial.iterdir():
                if str(folder.relative_to(self.run_path)) not in known:
                    shutil.rmtree(folder, ignore_errors=True)
            if not any(trial.iterdir()):
                trial.rmdir()


def pack(folder: Path) -> bytes:
    """A checkpoint as bytes, to travel from a machine that does not see the run directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extractall(folder, filter="data")
