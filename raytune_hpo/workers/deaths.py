"""How a worker's process has died, as far as that can be known, and that it has where Ray has not heard of it.

The process leaves a trace while it lives, in the log of its trial (`trial_log`): Python's fault handler writes of
signals there, and `os._exit` says its code. What leaves no trace was killed.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import re
import socket
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from raytune_hpo.workers.machine import out_of_memory_kills
from raytune_hpo.workers.trial_log import AGAIN, tail_of

if TYPE_CHECKING:
    from raytune_hpo.workers.messages import WorkerInfo

T = TypeVar("T")

SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating-point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}
EXIT = "os._exit"
LOOK_EVERY_S = 2.0


#: How torch says who holds a GPU's memory: "Process 1234 has 3.50 GiB memory in use."
_HOLDER = re.compile(r"\bProcess (\d+) has (?=[\d.]+ [KMG]iB memory in use)")


def with_holders(error: str, trials: Mapping[int, str]) -> str:
    """An error that says which processes hold a GPU's memory, with their trials. trials: by their workers' pids."""

    def named(found: re.Match[str]) -> str:
        trial = trials.get(int(found[1]))
        return found[0] if trial is None else f"Process {found[1]} ({trial}) has "

    return _HOLDER.sub(named, error)


# In the worker ------------------------------------------------------------------------------------


def leave_traces() -> None:
    """From now on this process says on stderr what it dies of, and its forks do not keep its connections open.

    Ray knows that a worker is dead when its sockets close; a child that was forked would hold them for as long as it
    lives.
    """
    faulthandler.enable(file=2, all_threads=False)
    pid, leave = os.getpid(), os._exit

    def exit_loudly(status: int) -> None:
        if os.getpid() == pid:
            with contextlib.suppress(OSError):
                os.write(2, f"\n{EXIT}({status})\n".encode())
        leave(status)

    os._exit = exit_loudly  # type: ignore[assignment]
    sockets = [fd for fd in _descriptors() if _is_socket(fd)]
    os.register_at_fork(after_in_child=lambda: _close(sockets))


def _descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return []


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _close(sockets: Iterable[int]) -> None:
    # Their numbers stay taken: whoever closes them later must not close what the child has opened.
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in sockets:
        if _is_socket(descriptor):
            os.dup2(nothing, descriptor)
    os.close(nothing)


# In the driver ------------------------------------------------------------------------------------


def process_mark(pid: int) -> str | None:
    """What tells this process from any other of this machine; None where there is none, or only its remains.

    (proc_pid_stat(5): field 3 is the state, 22 the start in ticks since boot.)
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


class Watch:
    """Looks, every LOOK_EVERY_S, for workers of this machine whose process is gone."""

    def __init__(self) -> None:
        self._next = 0.0
        self._missed: set[int] = set()

    def dead(self, workers: Iterable[tuple[T, WorkerInfo | None]]) -> list[T]:
        """Those that were gone already when it last looked: Ray has had time to say so itself."""
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + LOOK_EVERY_S
        here = socket.gethostname()
        missed = {info.pid: worker for worker, info in workers if info is not None and _gone(info, here)}
        found = [worker for pid, worker in missed.items() if pid in self._missed]
        self._missed = set(missed)
        return found


def _gone(info: WorkerInfo, here: str) -> bool:
    return info.host == here and info.mark is not None and process_mark(info.pid) != info.mark


def _more_out_of_memory() -> bool:
    """Whether the kernel has killed for want of memory, in this process's control groups, since it was last asked."""
    global _killed
    before, _killed = _killed, out_of_memory_kills()
    return _killed > before


#: As of the last look.
_killed = out_of_memory_kills()


def explained(info: WorkerInfo | None, trial: str | None, said: str) -> str:
    """What a worker died of: "the worker process ...". said: by Ray."""
    log = None if info is None else info.log_file(trial)
    text = "" if info is None or log is None else tail_of(log, info.spool).rpartition(AGAIN)[2]
    fatal = re.findall(r"^Fatal Python error: (.+)$", text, re.MULTILINE)
    exits = re.findall(rf"^{re.escape(EXIT)}\((-?\d+)\)$", text, re.MULTILINE)
    code = re.search(r"exit code (\d+)", said)
    killed = "was killed (SIGKILL: out of memory?)"
    if fatal:  # the same words for every trial: equal failures are counted
        killed = f"died of {SIGNALS.get(fatal[-1], fatal[-1])} (its stack stands in the trial's log)"
    elif log is None:
        killed = "died (killed, out of memory, or its machine was lost)"
    elif _more_out_of_memory():
        killed = "was killed, out of memory (SIGKILL)"
    ways = {
        "was killed by Ray, as its machine was out of memory": "OUT_OF_MEMORY" in said or "OutOfMemory" in said,
        "received SIGTERM": "SIGTERM" in said,
        "died with its machine": re.search(r"\bnode\b.*\bdied", said) is not None,
        f"called {EXIT}({exits[-1] if exits else ''})": bool(exits) and not fatal,
        f"exited with code {code[1] if code is not None else ''}": code is not None and not fatal,
    }
    return next((way for way, holds in ways.items() if holds), killed)
