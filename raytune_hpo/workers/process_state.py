"""What a trial's code may change of its process for whatever runs there next: found, and put back.

Not here is what belongs to a thread (torch's grad mode and default device, NumPy's error handling): each trial has one
of its own. Nor are a module's globals, which only a new process makes anew.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import sys
import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from raytune_hpo.workers.when_imported import imported

#: What os.environ keeps in it, as bytes: a tenth of the time to copy and to compare.
_ENVIRONMENT: Any = getattr(os.environ, "_data", os.environ)


@dataclass
class TorchState:
    """Of torch, where it is imported."""

    dtype: Any
    threads: int
    deterministic: bool
    warns_only: bool
    precision: str
    anomaly: bool
    cudnn: tuple[bool, bool, bool]
    random: Any
    cuda: list[Any]

    @classmethod
    def found(cls) -> Self | None:
        torch = imported("torch")
        return None if torch is None else cls.of(torch)

    @classmethod
    def of(cls, torch: Any) -> Self:
        cudnn = torch.backends.cudnn
        return cls(
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_float32_matmul_precision(),
            torch.is_anomaly_enabled(),
            (cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
            torch.get_rng_state(),
            # Of no device where CUDA was not used: asking would start it.
            torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        )

    def put_back(self) -> None:
        torch = imported("torch")
        now = TorchState.of(torch)
        if now.dtype != self.dtype:
            torch.set_default_dtype(self.dtype)
        if now.threads != self.threads:
            torch.set_num_threads(self.threads)
        if (now.deterministic, now.warns_only) != (self.deterministic, self.warns_only):
            torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warns_only)
        if now.precision != self.precision:
            torch.set_float32_matmul_precision(self.precision)
        if now.anomaly != self.anomaly:
            torch.autograd.set_detect_anomaly(self.anomaly)
        if now.cudnn != self.cudnn:
            cudnn = torch.backends.cudnn
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic = self.cudnn
        torch.set_rng_state(self.random)
        for device, state in enumerate(self.cuda):
            torch.cuda.set_rng_state(state, device)


@dataclass
class WorkingDirectory:
    """All that a task's trials change of a process that is the driver's too."""

    directory: str | None

    @classmethod
    def found(cls) -> Self:
        return cls(_directory())

    def put_back(self) -> None:
        if self.directory is not None:
            with contextlib.suppress(OSError):
                os.chdir(self.directory)


@dataclass
class ProcessState:
    """torch: None where it was not imported; what was its state when it came can be filled in then."""

    directory: WorkingDirectory
    environment: dict[Any, Any]
    paths: list[str]
    filters: Any
    filters_then: list[Any]
    recursion_limit: int
    streams: tuple[Any, Any]
    mask: int
    start_method: str | None
    random: Any
    numpy: Any
    torch: TorchState | None

    @classmethod
    def found(cls) -> Self:
        return cls(
            WorkingDirectory.found(),
            dict(_ENVIRONMENT),
            list(sys.path),
            warnings.filters,
            list(warnings.filters),
            sys.getrecursionlimit(),
            (sys.stdout, sys.stderr),
            _mask(),
            multiprocessing.get_start_method(allow_none=True),
            random.getstate(),
            np.random.get_state(),
            TorchState.found(),
        )

    def put_back(self) -> None:
        self.directory.put_back()
        if self.environment != _ENVIRONMENT:
            self._put_back_environment()
        if sys.path != self.paths:
            sys.path[:] = self.paths
        self._put_back_filters()
        if sys.getrecursionlimit() != self.recursion_limit:
            sys.setrecursionlimit(self.recursion_limit)
        sys.stdout, sys.stderr = self.streams
        os.umask(self.mask)
        if multiprocessing.get_start_method(allow_none=True) != self.start_method:
            multiprocessing.set_start_method(self.start_method, force=True)
        random.setstate(self.random)
        np.random.set_state(self.numpy)
        if self.torch is not None:
            self.torch.put_back()

    def _put_back_environment(self) -> None:
        for name in _ENVIRONMENT.keys() - self.environment.keys():
            del os.environ[os.fsdecode(name)]
        for name, value in self.environment.items():
            if _ENVIRONMENT.get(name) != value:
                os.environ[os.fsdecode(name)] = os.fsdecode(value)

    def _put_back_filters(self) -> None:
        """Left alone where somebody is within a `catch_warnings`, which puts them back itself."""
        filters: Any = warnings.filters
        if filters is self.filters and filters != self.filters_then:
            filters[:] = self.filters_then
            with warnings.catch_warnings():  # whose end lets Python forget what it has decided by the others
                pass


def _mask() -> int:
    """Of new files. It can be asked for by setting it alone: for that moment what others make is their owner's."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _directory() -> str | None:
    """None where it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None
