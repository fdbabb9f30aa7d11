"""Files of a run directory, which may be a stranger's: what a name stands for is never looked up elsewhere.

`inside` is the one way from a name in a run's file to a place on disk. `opened` takes a regular file and no link, pipe
or device; what it makes is the owner's alone, since code and paths are read back from there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

from raytune_hpo.errors import ExperimentError

OWN_FILE, OWN_FOLDER = 0o600, 0o700
#: May be a link, to a bigger disk.
LINKABLE = "checkpoints"


def inside(run_path: Path, relative: str) -> Path:
    """The place of `relative` in a run directory; it need not be there.

    Raises ExperimentError for one that leads out of it, by its name or by a link on the way. `checkpoints` itself may
    be a link.
    """
    parts = PurePosixPath(relative).parts
    if not parts or relative.startswith("/") or ".." in parts or "\0" in relative:
        raise ExperimentError("run directory", relative, f"leads out of {run_path}: a run's files are below it")
    place = run_path
    for depth, part in enumerate(parts):
        place = place / part
        if place.is_symlink() and not (depth == 0 and part == LINKABLE):
            raise ExperimentError("run directory", str(place), f"is a link; only {LINKABLE} itself may be one")
    return place


def stays_inside(folder: Path) -> bool:
    """Whether no link in a folder, which may have links of its own, leads out of it."""
    root = os.path.realpath(folder)
    links = (os.path.realpath(p) for p in folder.rglob("*") if p.is_symlink())  # (also of a link to itself)
    return all(Path(link).is_relative_to(root) for link in links)


def opened(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file that has no name elsewhere if it is to be written; made for its owner alone.

    Raises FileNotFoundError where there is none, ExperimentError where it is something else.
    """
    wrong = "must be a plain file, no link, folder or device"
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, OWN_FILE)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ExperimentError("run directory", str(path), wrong) from error
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ExperimentError("run directory", str(path), wrong)
    if flags & (os.O_WRONLY | os.O_RDWR) and found.st_nlink > 1:
        os.close(descriptor)
        expected = "has another name (a hard link), whose content would change: make it a copy"
        raise ExperimentError("run directory", str(path), expected)
    return descriptor


def read_bytes(path: Path) -> bytes:
    """A regular file's content. Raises as `opened` does."""
    with os.fdopen(opened(path), "rb") as file:
        return file.read()


def write_own(path: Path, data: bytes) -> None:
    """Make a file, and the folders that it lies in, of its owner's alone. Raises FileExistsError where there is one."""
    for folder in reversed([f for f in path.parents if not f.exists()]):
        folder.mkdir(OWN_FOLDER)
    with os.fdopen(opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(data)


def make_folder(path: Path) -> None:
    """A folder in a run directory, its owner's alone. Raises ExperimentError where a link stands in its place."""
    if path.is_symlink():
        raise ExperimentError("run directory", str(path), "is a link: it must be a folder")
    path.mkdir(OWN_FOLDER, exist_ok=True)
