"""What benchmarks measure of a family of processes: CPU time and memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path


def family(root: int | None = None) -> dict[int, list[str]]:
    """A process, this one if None, and all below it: pid -> the fields of /proc/PID/stat after the name."""
    processes: dict[int, list[str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                processes[int(entry.name)] = (entry / "stat").read_text().rsplit(")", 1)[1].split()
    found = {os.getpid() if root is None else root}
    while more := {pid for pid, fields in processes.items() if int(fields[1]) in found} - found:
        found |= more
    return {pid: processes[pid] for pid in found if pid in processes}


def pss_mb(pid: int) -> float:
    """The process's memory with its share of what others use too, in MB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("Pss:")), 0.0)


def is_worker(pid: int) -> bool:
    """Whether a process is a Ray actor or task, which is what holds trials."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::")
    except OSError:
        return False


class Watched:
    """The family, sampled: its largest memory, and the CPU time of every process, of those that have ended too.

    total_mb: of all processes; workers_mb: of those that hold trials.
    """

    def __init__(self) -> None:
        self.total_mb = self.workers_mb = 0.0
        self._ticks: dict[int, int] = {}
        # Without what ended children have used, which samples leave out as well.
        self._before = sum(int(f[11]) + int(f[12]) for f in family().values())

    @property
    def cpu_s(self) -> float:
        """Since the start; what a process used after its last sample is lost."""
        return (sum(self._ticks.values()) - self._before) / os.sysconf("SC_CLK_TCK")

    def sample(self) -> None:
        for pid, fields in family().items():
            self._ticks[pid] = int(fields[11]) + int(fields[12])
        sizes = {pid: pss_mb(pid) for pid in family()}
        self.total_mb = max(self.total_mb, sum(sizes.values()))
        self.workers_mb = max(self.workers_mb, sum(size for pid, size in sizes.items() if is_worker(pid)))


@contextlib.contextmanager
def watched(every_s: float = 0.5) -> Iterator[Watched]:
    """Sample the family in a thread. Costs some 10 ms of CPU a sample."""
    peak, done = Watched(), threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            peak.sample()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak.sample()
