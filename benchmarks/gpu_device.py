"""The device of benchmarks/gpu.py: what it is, its memory, how busy it is."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

EVERY_S = 0.2


class Device:
    """kind: "cuda" or "cpu", of which memory and utilisation are not measured."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.is_gpu = kind == "cuda"

    def wait(self) -> None:
        """Until what was asked of it is done."""
        if self.is_gpu:
            torch.cuda.synchronize()

    def clear(self) -> None:
        """Give back what nobody holds, and begin to measure the memory anew."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_mb(self) -> float | None:
        """Of this process's tensors since `clear`."""
        return round(torch.cuda.max_memory_allocated() / 1e6, 1) if self.is_gpu else None

    def facts(self) -> dict[str, Any]:
        """What a reader has to know of the machine: no name of it, no path on it."""
        found: dict[str, Any] = {
            "name": _processor(),
            "device": self.kind,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        }
        if self.is_gpu:
            card = torch.cuda.get_device_properties(0)
            found |= {
                "name": card.name,
                "memory_gb": round(card.total_memory / 1e9, 1),
                "multiprocessors": card.multi_processor_count,
                "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
                "driver": _asked("driver_version"),
            }
        return found


def is_out_of_memory(error: BaseException) -> bool:
    """cuBLAS and cuDNN say it in words of their own."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in text or "ALLOC_FAILED" in text


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _smi(query: str, *more: str) -> list[str]:
    """Asks of the first card that this process sees: nvidia-smi does not know CUDA_VISIBLE_DEVICES."""
    card = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    which = ["-i", f"GPU-{card}"] if card and os.environ.get("CUDA_VISIBLE_DEVICES") else []
    return ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits", *which, *more]


def _asked(query: str) -> str | None:
    try:
        done = subprocess.run(_smi(query), capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    return (done.stdout.splitlines() or [""])[0].strip() or None


class Utilisation:
    """Percent of the time in which the card ran anything, as NVIDIA counts it, sampled in a thread."""

    def __init__(self, device: Device) -> None:
        self._samples: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._smi: subprocess.Popen[str] | None = None
        self.source: str | None = None
        if device.is_gpu:
            self._begin()

    def _begin(self) -> None:
        work: Callable[[], None]
        try:
            torch.cuda.utilization()
            self.source, work = "NVML", self._by_nvml
        except Exception:  # no pynvml, or a card that does not say
            try:
                command = _smi("utilization.gpu", "-lms", str(int(EVERY_S * 1e3)))
                self._smi = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            except OSError:
                return
            self.source, work = "nvidia-smi", self._by_smi
        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def _by_nvml(self) -> None:
        while not self._ended.wait(EVERY_S):
            with contextlib.suppress(Exception):
                self._samples.append((time.monotonic(), float(torch.cuda.utilization())))

    def _by_smi(self) -> None:
        assert self._smi is not None
        assert self._smi.stdout is not None
        for line in self._smi.stdout:
            with contextlib.suppress(ValueError):  # "[N/A]"
                self._samples.append((time.monotonic(), float(line)))

    @contextlib.contextmanager
    def watched(self, row: dict[str, Any]) -> Iterator[None]:
        """Put the mean over the block into the row; None where there was no sample."""
        began = time.monotonic()
        yield
        seen = [value for at, value in list(self._samples) if at > began]
        row["utilisation"] = round(sum(seen) / len(seen), 1) if seen else None

    def end(self) -> None:
        self._ended.set()
        if self._smi is not None:
            self._smi.terminate()
            self._smi.wait()
            self._thread.join()
            assert self._smi.stdout is not None
            self._smi.stdout.close()
