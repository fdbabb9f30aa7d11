"""Files that hold, at every moment and after a power cut, the old content or the new."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


@contextlib.contextmanager
def replaced(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write what `path` is to hold; in its place and on disk when the block ends without an error.

    mode: its permissions, of which the process's mask may take some away.
    """
    # In the same folder, since a rename is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        partial.unlink(
            missing_ok=True
        )  # of a process that had this number before; whatever it is, it is not written to
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write that fails does not say where
        raise
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = 0o666) -> None:
    with replaced(path, mode) as file:
        file.write(data)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; mounts that cannot, as of object stores, are left alone."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)
