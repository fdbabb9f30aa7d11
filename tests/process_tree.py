"""Processes below a process, read from /proc: for tests that kill them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def _parents() -> dict[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # The second field is the name in brackets, which may hold blanks.
                found[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
    return found


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    parents = _parents()
    out, front = [], [pid]
    while front:
        front = [child for child, parent in parents.items() if parent in front]
        out += front
    return out


def command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def workers(pid: int) -> list[int]:
    """The Ray actors that run trials below the driver `pid`."""
    return [p for p in descendants(pid) if command(p).startswith(("ray::Worker", "ray::LaneArray"))]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
