"""Checkpoints on disk: written whole or not at all, verified when read, bounded in number; nobody else's is touched.

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
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from raytune_hpo.atomic import sync_folder
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.journal.names import LANES, SCRATCH, checkpoint_path, session_of
from raytune_hpo.owned import inside, stays_inside
from raytune_hpo.storage import lane_files
from raytune_hpo.storage.lane_files import LaneFile, split_path

STATE_FILE = "state.pt"  # the file of a task's checkpoint; function trainables choose their own


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

    def __init__(self, run_path: Path, session: int, *, doubted: bool = False) -> None:
        """doubted: it is not known for sure what the sessions before this one named: nothing of theirs is deleted."""
        self.run_path = run_path
        self.session = session
        self._doubted = doubted
        self._sharers: Counter[str] = Counter()  # lanes that several records point at: how many besides the first
        self._kept: dict[str, set[str]] = {}  # lane file -> lanes in it that some record points at
        self._held: dict[str, int] = {}  # lane file -> lanes in it

    def exists(self, record: CheckpointRecord) -> bool:
        """Whether it is there; `intact`, whether it is whole."""
        return exists(self.run_path, record)

    def scratch(self, trial: str) -> Path:
        """A new empty folder beside the trial's checkpoints, to write one into."""
        own = inside(self.run_path, f"checkpoints/{trial}")
        folder = own / f".new-{os.getpid()}-{os.urandom(4).hex()}"
        while True:
            for above in (own.parent, own):  # and no more: a run directory that was deleted is not made again
                above.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # the driver has deleted the trial's last one just now
                folder.mkdir()
                return folder

    def commit(self, scratch: Path, trial: str, generation: int, epoch: int) -> CheckpointRecord:
        """Move a written folder into its place. Durable when this returns."""
        _take_in_links(scratch)
        for file in _files(scratch):
            with file.open("rb") as f:
                os.fsync(f.fileno())
        for folder in (scratch, *(p for p in scratch.rglob("*") if p.is_dir())):
            sync_folder(folder)
        path = checkpoint_path(trial, generation, epoch, self.session)
        target = inside(self.run_path, path)
        size, crc = fingerprint(scratch)
        if target.exists():  # of this trial, epoch and session: the same, written before
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
        source = _place(self.run_path, donor.path)
        if source is None or not stays_inside(source):
            raise TrialError(f"checkpoint {donor.path} is damaged or gone")
        scratch = self.scratch(trial)
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
        place = _place(self.run_path, file)
        if place is None:
            return False
        if member is not None:
            return lane_files.intact(place, member, record.bytes, record.crc32)
        whole = place.is_dir() and stays_inside(place)
        return whole and fingerprint(place) == (record.bytes, record.crc32)

    def packed(self, record: CheckpointRecord) -> bytes:
        """The checkpoint as bytes, for `unpack` on a machine that does not see the run directory."""
        file, member = split_path(record.path)
        place = inside(self.run_path, file)
        if member is None:
            return pack(place)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / STATE_FILE).write_bytes(LaneFile(place).extracted(member))
            return pack(Path(folder))

    def delete(self, *records: CheckpointRecord) -> None:
        """Lanes of a file are forgotten: it goes with its last one, and is written again when half are gone."""
        touched = set()
        for record in records:
            name, member = split_path(record.path)
            if self._doubted and session_of(name) != self.session:
                continue
            if member is None:
                folder = _place(self.run_path, name)
                if folder is None:
                    continue  # what a link leads to is not ours
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
                members = LaneFile(inside(self.run_path, name)).members
            except (TrialError, ExperimentError):
                members = []
            self._kept[name], self._held[name] = set(members), len(members)
        return self._kept[name]

    def _trim(self, name: str) -> None:
        kept, path = self._kept[name], _place(self.run_path, name)
        if path is None:
            return
        if not kept:
            path.unlink(missing_ok=True)
            del self._kept[name], self._held[name]
        elif 2 * len(kept) <= self._held[name]:
            with contextlib.suppress(TrialError):  # a damaged one is found out when it is read
                LaneFile(path).rewritten(kept)
            self._held[name] = len(kept)

    def clean(self, keep: Iterable[CheckpointRecord], trials: Collection[str], named: Collection[str] = ()) -> None:
        """Delete the run's own checkpoints that no record in `keep` points at: leftovers of a crash.

        Own are those at the paths `named` by the journal; besides, of the trials of this name, what has the exact form
        of a checkpoint of an earlier session, or of one half written. Where `checkpoints` is a link, what has that
        form may be another run's: only what is named goes. All else, whatever it is, stays.
        """
        paths = [record.path for record in keep]
        self._sharers = Counter(paths)
        self._sharers.subtract(set(paths))
        root = self.run_path / "checkpoints"
        if self._doubted or not root.is_dir():
            return
        known, own = ({split_path(path)[0] for path in some} for some in (paths, named))
        for trial in (*trials, LANES):
            folder = _place(self.run_path, f"checkpoints/{trial}")
            if folder is None or not folder.is_dir():
                continue
            for entry in folder.iterdir():
                path = f"checkpoints/{trial}/{entry.name}"
                if path not in known and (path in own or (self._left_over(entry) and not root.is_symlink())):
                    _remove(entry)
            with contextlib.suppress(OSError):  # others are in it
                folder.rmdir()
        pointed_at: dict[str, set[str]] = {}
        for name, member in map(split_path, paths):
            if member is not None:
                pointed_at.setdefault(name, set()).add(member)
        for name, members in pointed_at.items():
            lanes = self._lanes_of(name)
            lanes.intersection_update(members)
            if lanes:  # else the records and the file do not go together, and it is not known which is wrong
                self._trim(name)

    def _left_over(self, entry: Path) -> bool:
        """Whether an entry of a trial's folder, or of the lanes', has the form that only a session before this one has
        given, or its worker in mid-writing."""
        name = entry.name
        if name.startswith(".") and name.endswith(".tmp"):  # of a lane file, as `atomic.replaced` names it
            name = name[1:].rpartition(lane_files.SUFFIX)[0] + lane_files.SUFFIX
        session = session_of(f"{entry.parent.name}/{name}")
        return SCRATCH.fullmatch(name) is not None or (session is not None and session < self.session)


def drop_half_written(run_path: Path) -> None:
    """Delete what a worker was writing when the run was stopped for a full disk: it would keep it full. No worker is
    there any more. Where `checkpoints` is a link, such folders may be another run's, and stay."""
    root = run_path / "checkpoints"
    if root.is_symlink() or not root.is_dir():
        return
    for folder in root.iterdir():
        for entry in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
            if SCRATCH.fullmatch(entry.name):
                _remove(entry)


def _place(run_path: Path, path: str) -> Path | None:
    """As `inside`; None where that refuses."""
    try:
        return inside(run_path, path)
    except ExperimentError:
        return None


def _remove(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)


def _take_in_links(folder: Path) -> None:
    """Let a checkpoint hold what its links point at: copies of it, and its fingerprint, know files alone."""
    links = [(p, Path(os.path.realpath(p))) for p in folder.rglob("*") if p.is_symlink()]
    for link, target in links:
        around = link.is_relative_to(target)  # itself, or a folder that it lies in: what it holds has no end
        link.unlink()
        if around:
            continue
        if target.is_dir():
            shutil.copytree(target, link, symlinks=False, ignore_dangling_symlinks=True)
        elif target.exists():
            shutil.copy2(target, link)


def exists(run_path: Path, record: CheckpointRecord) -> bool:
    """Whether a checkpoint has not been deleted since. Does not look for damage."""
    file, member = split_path(record.path)
    try:
        place = _place(run_path, file)
        if place is None or member is None:
            return place is not None and place.is_dir()
        return member in LaneFile(place).members
    except (TrialError, PermissionError):  # (another user's checkpoints are none to this one)
        return False


def pack(folder: Path) -> bytes:
    """A checkpoint as bytes, to travel from a machine that does not see the run directory."""
    buffer = io.BytesIO()
    # Not a tar file: of what one may hold (links, devices, places elsewhere), Python before 3.11.4 refuses nothing.
    with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() or p.is_dir()):  # no pipes and the like
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    """The inverse of `pack`. Whatever the names say, nothing is written elsewhere."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)
