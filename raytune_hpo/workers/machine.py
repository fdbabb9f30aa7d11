"""What of this machine is ours: CPUs and memory, within the limits of affinity and of control groups (v1 and v2).

A container of 2 CPUs and 4 GiB on a machine of 64 and 512 is a machine of 2 and 4 to us. Sources: the kernel's
documentation, admin-guide/cgroup-v2.rst (cpu.max, memory.max) and scheduler/sched-bwc.rst (cpu.cfs_quota_us).
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from raytune_hpo.settings import Resources

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")


def cpus() -> int:
    """CPUs that this process may use, at least 1: those of its affinity, or a quota that is smaller."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return own if quota is None else max(1, min(own, math.floor(quota)))


def cpu_quota() -> float | None:
    """CPUs' worth of time that a control group allows; None without a limit."""
    found = []
    for folder in _folders("cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (folder / "cpu.max").read_text().split()
            if quota != "max":
                found.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota_us = int((folder / "cpu.cfs_quota_us").read_text())
            if quota_us > 0:
                found.append(quota_us / int((folder / "cpu.cfs_period_us").read_text()))
    return min(found, default=None)


def free_memory_bytes() -> int:
    """Memory that this process may still take: the machine's, or what a control group's limit leaves."""
    free = _available_bytes()
    for folder in _folders("memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):
                text = (folder / limit).read_text().strip()
                if text != "max":
                    # What the kernel keeps of files can be taken back.
                    taken = 0
                    with contextlib.suppress(OSError, ValueError):
                        taken = int((folder / used).read_text()) - _file_cache_bytes(folder)
                    free = min(free, max(0, int(text) - taken))
    return free


def out_of_memory_kills() -> int:
    """How many processes of this one's control groups the kernel has killed for want of memory, ever."""
    found = 0
    for folder in _folders("memory"):
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError, ValueError):
                for line in (folder / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        found = max(found, int(line.split()[1]))
    return found


def _available_bytes() -> int:
    with contextlib.suppress(OSError):
        for line in MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _file_cache_bytes(folder: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in ("inactive_file", "total_inactive_file"):
                return int(value)
    return 0


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, its own first and then those round it."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = OWN.read_text().splitlines()
    if not lines:
        yield GROUPS
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        root = GROUPS / controller if controllers else GROUPS
        if controllers and not root.is_dir():  # the link may be missing, the folder of both is there: "cpu,cpuacct"
            root = GROUPS / controllers
        folder = root / path.lstrip("/")
        yield folder
        while folder != root and root in folder.parents:
            folder = folder.parent
            yield folder


def fits(resources: Resources, cpus: float, gpus: float) -> int:
    """How many trials fit into one machine. A trial never spans two GPUs' fractions."""
    counts = []
    if resources.cpus:
        counts.append(int(cpus / resources.cpus + 1e-9))
    if 0 < resources.gpus < 1:
        counts.append(int(gpus) * int(1 / resources.gpus + 1e-9))
    elif resources.gpus:
        counts.append(int(gpus / resources.gpus + 1e-9))
    return min(counts)


def gpus() -> int:
    """NVIDIA GPUs that this process may use, without importing torch or starting Ray."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([d for d in visible.split(",") if d.strip() and d.strip() != "-1"])
    cards = Path("/proc/driver/nvidia/gpus")
    if cards.is_dir():
        return len(list(cards.iterdir()))
    if shutil.which("nvidia-smi"):
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
        return sum(line.startswith("GPU ") for line in done.stdout.splitlines()) if done.returncode == 0 else 0
    return 0
