"""Where tasks find the data that do not come with a package, and how they ask the network for them."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError

DATA_VARIABLE = "RAYTUNE_HPO_DATA"
CACHE_VARIABLE = "RAYTUNE_HPO_CACHE"
CACHE = "~/.cache/raytune_hpo"
DOWNLOAD_TIMEOUT_S = 10.0
ONLINE_TIMEOUT_S = 2.0


def absolute(folder: Any) -> Any:
    """A folder option as an absolute path: a run is resumed from other folders than it was started in."""
    return str(Path(folder).expanduser().absolute()) if isinstance(folder, str) else folder


def check_folder(field: str, folder: Any) -> None:
    """Raises ExperimentError unless `folder` is None or an existing folder."""
    if folder is not None and not (isinstance(folder, str) and Path(folder).expanduser().is_dir()):
        raise ExperimentError(field, folder, "must be an existing folder")


def named_folders(option: str | None) -> list[Path]:
    """The folders that the user has named, first the one to prefer: a task's option, then RAYTUNE_HPO_DATA."""
    return [Path(name).expanduser() for name in (option, os.environ.get(DATA_VARIABLE)) if name]


def cache_folder() -> Path:
    """What RAYTUNE_HPO_CACHE names, else ~/.cache/raytune_hpo; it may not exist. Raises RuntimeError without a home."""
    return Path(os.environ.get(CACHE_VARIABLE) or CACHE).expanduser()


def answers(hosts: Iterable[str]) -> bool:
    """Whether one of the hosts answers on port 443; taken for granted behind a proxy."""
    if urllib.request.getproxies():
        return True
    for host in hosts:
        with contextlib.suppress(OSError), socket.create_connection((host, 443), ONLINE_TIMEOUT_S):
            return True
    return False


@contextlib.contextmanager
def quiet_download() -> Iterator[None]:
    """Let a library download in here without a word, and without hanging where the network is blocked.

    The libraries have no timeout of their own; socket's default is theirs.
    """
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(timeout)
