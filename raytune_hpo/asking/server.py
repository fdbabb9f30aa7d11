"""The socket of a run that is asked: a line of JSON for a request, a line for its answer.

It lies in the run directory, for the directory's owner alone. The path of a Unix socket has 100 characters at most, and
that of a run may have more: it is reached through a link in a folder for temporary files.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from raytune_hpo.errors import ExperimentError
from raytune_hpo.owned import inside

SOCKET = "ask.sock"
MOST_BYTES = 64 << 20  # of a request
#: File systems of other machines, as /proc/mounts names them.
REMOTE = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "fuse.sshfs", "afs", "9p")


class Answering(Protocol):
    def handle(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def undelivered(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None: ...


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Of the process that has the run's lock: what lies there is a dead one's."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, run_path: Path, answering: Answering) -> None:
        self.answering = answering
        self._path = inside(run_path, SOCKET)
        self._path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            with short(run_path) as folder:
                super().__init__(str(folder / SOCKET), _Handler)
        finally:
            os.umask(before)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody has gone in the middle of it."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class _Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while line := self.rfile.readline(MOST_BYTES):
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError("no object")
            except ValueError as error:
                self.wfile.write(_line({"error": f"request: must be a JSON object in a line: {error}"}))
                return
            reply = self.server.answering.handle(request)
            try:
                self.wfile.write(_line(reply))
            except OSError:
                self.server.answering.undelivered(request, reply)
                return


def send(run_path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the process that owns the run. Raises OSError where there is none, or it has died of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        with short(run_path) as folder:
            made.connect(str(folder / SOCKET))
        made.sendall(_line(request))
        with made.makefile("rb") as answer:
            line = answer.readline()
    if not line.endswith(b"\n"):
        raise ConnectionResetError("the process that owns the run has gone")
    reply: dict[str, Any] = json.loads(line)
    return reply


@contextlib.contextmanager
def short(path: Path) -> Iterator[Path]:
    """A path of few characters that leads to the same folder, for as long as the context lasts."""
    folder = tempfile.mkdtemp(prefix="raytune_hpo_")
    try:
        link = Path(folder) / "run"
        link.symlink_to(path.absolute(), target_is_directory=True)
        yield link
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_is_local(run_path: Path) -> None:
    """Raise ExperimentError for a run directory on another machine's disk: its socket would be seen there, and reach
    nobody."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return  # not Linux: who connects finds out
    real = str(run_path.resolve())
    covering = [m for m in mounts if real == m[0] or real.startswith(m[0].rstrip("/") + "/")]
    kind = max(covering, key=lambda m: len(m[0]), default=["", ""])[1]
    if kind.startswith(REMOTE):
        expected = f"lies on a network file system ({kind}): processes of a run that is asked share a socket in it, "
        raise ExperimentError("run directory", str(run_path), expected + "so that it must be on a disk of this machine")


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode() + b"\n"
