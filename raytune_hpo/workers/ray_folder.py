"""Where a Ray that we start keeps its files: in the machine's temporary folder, if that will do, and not for longer.

Its sockets lie below that folder, and the path of a socket has at most 107 characters (sun_path, unix(7)); what batch
systems name a job's temporary folder is often too long.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from raytune_hpo.errors import ExperimentError

LONGEST = 107
SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
#: Below that its log files alone would not do.
LEAST_BYTES = 32 * 2**20
#: Below that its store cannot be mapped, and its processes say nothing of it for half a minute.
LEAST_ADDRESSES_BYTES = 5 * 2**30


def asked_for() -> tuple[str, Path]:
    """(the variable that names the temporary folder, the folder), as Ray looks for it."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if os.environ.get(variable):
            return variable, Path(os.path.abspath(os.environ[variable]))
    return "RAY_TMPDIR", Path("/tmp")


def check_folder() -> None:
    """Raise ExperimentError where a Ray could not be started for want of a place. Creates what Ray would create."""
    variable, folder = asked_for()
    if _too_long(folder):
        variable, folder = "RAY_TMPDIR", Path("/tmp")
    expected = "set RAY_TMPDIR to a folder that has room for Ray's files"
    try:
        (folder / "ray").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ExperimentError(variable, str(folder), f"cannot be used ({error.strerror}): {expected}") from error
    if free < LEAST_BYTES:
        raise ExperimentError(variable, str(folder), f"has {free // 2**20} MB left: {expected}")
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ADDRESSES_BYTES:
        expected = 'is less than Ray needs to start: raise it, or use executor="inline", which starts no Ray'
        raise ExperimentError("ulimit -v", limit // 1024, expected)


def _too_long(folder: Path) -> bool:
    return len(os.fsencode(folder / SOCKET)) > LONGEST


@contextlib.contextmanager
def ray_folder(*, keep: bool) -> Iterator[str | None]:
    """What Ray is to be told of its folder: nothing where it finds one by itself, else a short one that only this user
    can enter. What it leaves there of this process's sessions is removed unless it is to be kept."""
    _, base = asked_for()
    own = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")) if _too_long(base) else None
    pattern, folder = f"session_*_{os.getpid()}", base / "ray" if own is None else own
    before = set(folder.glob(pattern))
    try:
        yield None if own is None else str(own)
    finally:
        for session in () if keep else set(folder.glob(pattern)) - before:
            _remove(session)
        latest = folder / "session_latest"
        if latest.is_symlink() and not latest.exists():
            with contextlib.suppress(OSError):
                latest.unlink()
        if own is not None and not keep:
            _remove(own)


def _remove(folder: Path) -> None:
    for _ in range(5):  # processes that are ending may write there once more
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
