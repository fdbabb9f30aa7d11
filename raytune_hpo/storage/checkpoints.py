"""Checkpoints on disk: written whole or not at all, verified when read, bounded in number.

A checkpoint is a folder, checkpoints/TRIAL/GENERATION-EPOCH, of files that the trainable chose, or a lane of a
file of many (`lane_files`). It is written beside its place and renamed into it, and its record (path, size,
crc32) goes to the journal afterwards, so a record always points at a whole one; the crc32 catches what a
failing disk or a power cut does to it later, and then the one before it is used.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from raytune_hpo.atomic import sync_folder
from raytune_hpo.errors import TrialError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.storage import lane_files
from raytune_hpo.storage.lane_files import LaneFile, split_path

STATE_FILE = "state.pt"  # the file of a task's checkpoint; function trainables choose their own


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

    def __init__(self, run_path: Path, session: int, *, deletes: bool = True) -> None:
        """deletes: False where it is not known what is still needed: nothing is deleted then."""
        self.run_path = run_path
        self.session = session
        self._deletes = deletes
        self._sharers: Counter[str] = Counter()  # lanes that several records point at: how many besides the first
        self._kept: dict[str, set[str]] = {}  # lane file -> lanes in it that some record points at
        self._held: dict[str, int] = {}  # lane file -> lanes in it

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

        A lane of a file is not copied: it stays as long as a record points at it. Raises TrialError if the
        other's is damaged or gone.
        """
        if split_path(donor.path)[1] is not None:
            if not self.intact(donor):
                raise TrialError(f"checkpoint {donor.path} is damaged or gone")
            self._sharers[donor.path] += 1
            return replace(donor, trial=trial, generation=generation)
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
        file, member = split_path(record.path)
        if member is not None:
            return lane_files.intact(self.run_path / file, member, record.bytes, record.crc32)
        folder = self.run_path / record.path
        return folder.is_dir() and fingerprint(folder) == (record.bytes, record.crc32)

    def packed(self, record: CheckpointRecord) -> bytes:
        """The checkpoint as bytes, for `unpack` on a machine that does not see the run directory."""
        file, member = split_path(record.path)
        if member is None:
            return pack(self.run_path / record.path)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / STATE_FILE).write_bytes(LaneFile(self.run_path / file).extracted(member))
            return pack(Path(folder))

    def delete(self, *records: CheckpointRecord) -> None:
        """Lanes of a file are forgotten: it goes with its last one, and is written again when half are gone."""
        if not self._deletes:
            return
        touched = set()
        for record in records:
            name, member = split_path(record.path)
            if member is None:
                folder = self.run_path / record.path
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # others are in it
                    folder.parent.rmdir()
            elif self._sharers[record.path] > 0:
                self._sharers[record.path] -= 1
            else:
                self._lanes_of(name).discard(member)
                touched.add(name)
        for name in touched:
            self._trim(name)

    def _lanes_of(self, name: str) -> set[str]:
        if name not in self._kept:
            try:
                members = LaneFile(self.run_path / name).members
            except TrialError:
                members = []
            self._kept[name], self._held[name] = set(members), len(members)
        return self._kept[name]

    def _trim(self, name: str) -> None:
        kept, path = self._kept[name], self.run_path / name
        if not kept:
            path.unlink(missing_ok=True)
            del self._kept[name], self._held[name]
        elif 2 * len(kept) <= self._held[name]:
            with contextlib.suppress(TrialError):  # a damaged one is found out when it is read
                LaneFile(path).rewritten(kept)
            self._held[name] = len(kept)

    def clean(self, keep: Iterable[CheckpointRecord]) -> None:
        """Delete whatever no record in `keep` points at: leftovers of a crash."""
        paths = [record.path for record in keep]
        self._sharers = Counter(paths)
        self._sharers.subtract(set(paths))
        if not self._deletes:
            return
        known = {split_path(path)[0] for path in paths}
        root = self.run_path / "checkpoints"
        for trial in root.iterdir() if root.is_dir() else ():
            for entry in trial.iterdir():
                if str(entry.relative_to(self.run_path)) in known:
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)
            if not any(trial.iterdir()):
                trial.rmdir()
        pointed_at: dict[str, set[str]] = {}
        for name, member in map(split_path, paths):
            if member is not None:
                pointed_at.setdefault(name, set()).add(member)
        for name, members in pointed_at.items():
            self._lanes_of(name).intersection_update(members)
            self._trim(name)


def exists(run_path: Path, record: CheckpointRecord) -> bool:
    """Whether a checkpoint has not been deleted since. Does not look for damage."""
    file, member = split_path(record.path)
    if member is None:
        return (run_path / file).is_dir()
    try:
        return member in LaneFile(run_path / file).members
    except TrialError:
        return False


def pack(folder: Path) -> bytes:
    """A checkpoint as bytes, to travel from a machine that does not see the run directory."""
    buffer = io.BytesIO()
    # Not a tar file: of what one may hold (links, devices, places elsewhere), Python before 3.11.4 refuses nothing.
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """The inverse of `pack`. Whatever the names say, nothing is written elsewhere."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
