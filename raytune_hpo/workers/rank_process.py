"""A rank of a trial that is several processes: all but the first, which is the trial's worker (`ranks`).

An actor that holds its share of the trial's resources, and runs the trial's function beside the worker. Its `report`
says nothing: it waits until the worker has gone past as many reports, so that no rank runs past a decision.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from raytune_hpo.errors import TrialError
from raytune_hpo.workers.function_session import FunctionSession, Stopped
from raytune_hpo.workers.outcomes import Raised, Returned
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.surroundings import Place


@dataclass(frozen=True)
class Seat:
    """Where a rank sits. address: of its machine; gpus: the GPUs that Ray gave it."""

    address: str
    pid: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """A rank's part in a trial. environment: what torchrun would have set; rendezvous: of init_process_group; epoch,
    checkpoint, repeat: as for FunctionSession; directory: the trial's."""

    trial: str
    rank: int
    world: int
    environment: Mapping[str, str]
    rendezvous: str
    config: dict[str, Any]
    epoch: int
    checkpoint: Path | None
    place: Place
    repeat: int | None


@dataclass(frozen=True)
class Ended:
    """How a rank's function ended. raised: what it raised, None if it returned. at: by time.time()."""

    raised: Raised | None
    at: float


class RankProcess:
    """Two calls at a time: `run`, and what it is told meanwhile."""

    def __init__(self, make: bytes, data: Callable[[], Any], posting: Posting) -> None:
        posting.prepare_process()
        make_trainable: Callable[[Callable[[], Any]], Any] = pickle.loads(make)
        self._function = make_trainable(data)
        self._threads = posting.threads
        self._session: RankSession | None = None

    def seat(self) -> Seat:
        return seat()

    def run(self, part: Part) -> Ended:
        """The whole trial. Never raises what the function does."""
        if part.checkpoint is not None and not part.checkpoint.exists():
            error = TrialError(f"rank {part.rank} on {socket.gethostname()} does not see the run directory")
            return Ended(Raised(str(error), "", False), time.time())
        show_gpus(part.environment)
        scratch = Path(tempfile.mkdtemp(prefix="raytune_hpo_rank_"))
        self._session = session = RankSession(
            lambda config: joined(part, self._function, config),
            part.config,
            trial_id=part.trial,
            repeat=part.repeat,
            checkpoint=part.checkpoint,
            scratch=lambda: Path(tempfile.mkdtemp(dir=scratch)),
            prepare_thread=self._set_threads,
            epoch=part.epoch,
            place=part.place,
        )
        try:
            end = session.next()
            return Ended(end if isinstance(end, Raised) else None, time.time())
        finally:
            session.stop()
            shutil.rmtree(scratch, ignore_errors=True)

    def allow(self, reports: int) -> None:
        """The worker has gone past so many reports."""
        if self._session is not None:
            self._session.allow(reports)

    def end(self) -> None:
        """The trial is over: the function is unwound at its next report, or where it waits in one."""
        if self._session is not None:
            self._session.allow(None)

    def _set_threads(self) -> None:
        import torch

        torch.set_num_threads(self._threads)


class RankSession(FunctionSession):
    """A session whose reports wait for the worker's, and hand over nothing before its end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._passed = 0
        self._allowed: int | None = 0  # None: no more
        self._told = threading.Condition()

    def allow(self, reports: int | None) -> None:
        with self._told:
            if self._allowed is not None:
                self._allowed = reports
            self._told.notify_all()

    def report(self, metrics: Mapping[str, Any], folder: Path | None = None) -> None:
        with self._told:
            self._passed += 1
            self._told.wait_for(lambda: self._allowed is None or self._allowed >= self._passed)
            if folder in self._made:  # rank 0's is the trial's
                self._made.discard(folder)
                shutil.rmtree(folder, ignore_errors=True)
            if self._allowed is None:
                self._hand_over(Returned())
                raise Stopped

    def _report_returned(self, item: Any) -> None:
        pass


def seat() -> Seat:
    """Of this process."""
    found = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return Seat(ray.util.get_node_ip_address(), os.getpid(), tuple(map(str, found)))


def show_gpus(environment: Mapping[str, str]) -> None:
    """All GPUs of the trial on this machine, before anything asks CUDA which there are: it looks once."""
    gpus = environment.get("CUDA_VISIBLE_DEVICES")
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus


def joined(part: Part, function: Callable[[dict[str, Any]], Any], config: dict[str, Any]) -> Any:
    """What the function answers, called as one rank of a process group; a generator is run through."""
    import torch
    from torch import distributed

    os.environ.update(part.environment)
    uses_gpus = bool(part.environment.get("CUDA_VISIBLE_DEVICES"))
    if uses_gpus:
        torch.cuda.set_device(int(part.environment["LOCAL_RANK"]))
    distributed.init_process_group(
        "nccl" if uses_gpus else "gloo", init_method=part.rendezvous, rank=part.rank, world_size=part.world
    )
    try:
        answer = function(config)
        if not hasattr(answer, "__next__"):
            return answer
        from raytune_hpo.workers.reporting import report

        for item in answer:
            if item is not None:
                report(item)
        return None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
