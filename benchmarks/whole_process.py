"""A program measured from outside: from its exec to its end, with all processes below it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from measured import family

HERE = Path(__file__).resolve().parents[1]
"""The checkout that this file is of."""

SAMPLED_EVERY_S = 0.1  # 2 ms of CPU each
LEFT_BEHIND_S = 10.0  # processes that outlive the program are waited for so long
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """One of the family. seen: wall-clock times of its first and its last sample. cpu_s: until the last."""

    pid: int
    name: str
    seen: tuple[float, float]
    cpu_s: float


@dataclass(frozen=True)
class Program:
    """A program that has run. began, ended: wall clock, just before its exec and just after its end; gone: the end of
    the last process below it. The first process is the program itself."""

    began: float
    ended: float
    gone: float
    processes: tuple[Process, ...]
    stdout: str

    @property
    def wall_s(self) -> float:
        return self.ended - self.began

    @property
    def cpu_s(self) -> float:
        """Of all processes; of one below the program, what it used after its last sample is lost."""
        return sum(process.cpu_s for process in self.processes)


class _Sampled:
    """The processes below a program, by pid and start: a pid may be given twice."""

    def __init__(self, root: int) -> None:
        self.root = root
        self.found: dict[tuple[int, str], Process] = {}

    def sample(self) -> None:
        now = time.time()
        for pid, fields in family(self.root).items():
            self._note(pid, fields, now)

    def sample_left(self) -> bool:
        """Whether any of them but the program is still there; its parent may be another by now."""
        now, left = time.time(), False
        for pid, start in self.found:
            if pid != self.root and (fields := _stat(pid)) and fields[19] == start and fields[0] not in "ZX":
                self._note(pid, fields, now)
                left = True
        return left

    def _note(self, pid: int, fields: list[str], now: float) -> None:
        cpu_s = (int(fields[11]) + int(fields[12])) / TICKS
        process = self.found.setdefault((pid, fields[19]), Process(pid, "", (now, now), 0.0))
        process.seen, process.cpu_s = (process.seen[0], now), cpu_s
        process.name = _name(pid) or process.name  # Ray's workers change theirs


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def _name(pid: int) -> str:
    """Short: what runs, without folders and arguments. Empty once it has ended."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    if arguments[0].startswith("ray::"):
        return arguments[0].split()[0].split(".")[0]
    script = next((a for a in arguments if a.endswith(".py")), arguments[0])
    return Path(script).name


def environment(code: Path) -> dict[str, str]:
    """This process's, in which raytune_hpo is that of the checkout `code`."""
    others = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(code), *others]), "RAY_USAGE_STATS_ENABLED": "0"}


def run_program(command: Sequence[str], *, code: Path = HERE, folder: str | None = None) -> Program:
    """Run it with the checkout `code`, in `folder` or an empty one: no checkout is in reach of it or its workers by
    the current folder. Ends this process, with what it wrote on stderr, where it fails."""
    with tempfile.TemporaryDirectory() as empty, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.time()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder or empty, env=environment(code)
        )
        sampled, done = _Sampled(child.pid), threading.Event()

        def watch() -> None:
            while not done.wait(SAMPLED_EVERY_S):
                sampled.sample()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        # Left a zombie, whose CPU time can still be read: then what it used is exact.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        ended = time.time()
        done.set()
        thread.join()
        sampled.sample()
        code_of_exit = child.wait()
        gone = ended
        while sampled.sample_left() and gone - ended < LEFT_BEHIND_S:
            time.sleep(0.02)
            gone = time.time()
        out.seek(0)
        err.seek(0)
        stdout = out.read().decode(errors="replace")
        if code_of_exit:
            sys.exit(f"{' '.join(command)}: exit code {code_of_exit}\n{stdout}{err.read().decode(errors='replace')}")
    processes = sorted(sampled.found.values(), key=lambda p: (p.pid != child.pid, p.seen))
    return Program(began, ended, gone, tuple(processes), stdout)


def forget_files() -> None:
    """Drop the site-packages' files from the system's file cache (posix_fadvise, needs no rights): the next program
    reads them from disk. Not those that a running process has mapped, nor what else it needs, as Python's own library.
    """
    for path in Path(sysconfig.get_paths()["purelib"]).rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)
