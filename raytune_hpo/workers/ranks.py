"""A trial that is several processes: `Resources(gpus=4, strategy="ddp")`, a GPU each, or a CPU each without GPUs.

The trial's worker is rank 0; the others are actors of its own (`rank_process`) in the same placement group, kept from
trial to trial, which die with it. Each runs the trial's function, in a process group of torch.distributed that is there
before the function begins, with the environment that torchrun would have made. So DistributedDataParallel, Lightning's
strategies and Hugging Face's Trainer find it.

    rank 0 reports -> the driver decides -> rank 0 goes on, and lets the others past as many reports
                                         -> rank 0 is unwound, and the others at their report

What rank 0 reports is the trial's, its checkpoint too. A rank that raises fails the trial with what it raised first; a
rank whose process dies is a worker that was lost.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.workers.function_session import FINISH_TIMEOUT_S, FunctionSession
from raytune_hpo.workers.outcomes import RankFailedError, RankLostError
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.rank_process import Ended, Part, RankProcess, Seat, joined, seat, show_gpus

#: How long the other ranks have to end once the worker has, and the worker once another rank has failed.
PATIENCE_S = 5.0
EVERY = 1 << 60


class Ranks:
    """The other ranks of a worker. make, data: as for Worker; posting: of one rank; count: with the worker."""

    def __init__(self, make: bytes, data: Callable[[], Any], posting: Posting, count: int) -> None:
        self._make, self._data, self._posting, self.count = make, data, posting, count
        self._actors: list[Any] = [None] * (count - 1)
        self._seats: list[Seat] = []
        self._runs: list[Any] = []
        self._start()

    def _start(self) -> None:
        """Start those that there are not."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.get_current_placement_group()
        for i, actor in enumerate(self._actors):
            if actor is None:
                place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i + 1)
                options = {"num_cpus": self._posting.cpus, "num_gpus": self._posting.gpus, "max_concurrency": 2}
                made = ray.remote(RankProcess).options(scheduling_strategy=place, max_restarts=0, **options)
                self._actors[i] = made.remote(self._make, self._data, self._posting)
                self._seats = []

    @contextlib.contextmanager
    def begun(self, session: RankedSession, config: dict[str, Any]) -> Iterator[Part]:
        """The other ranks run the trial's function; the part of rank 0. Raises RankLostError, and RankFailedError
        with what another rank has raised, where that is why this one did."""
        folder = Path(tempfile.mkdtemp(prefix="raytune_hpo_ranks_"))
        watch = threading.Event()
        try:
            parts = self._parts(session, config, folder)
            self._runs = [a.run.remote(part) for a, part in zip(self._actors, parts[1:], strict=True)]
            threading.Thread(target=self._watch, args=(session, watch), daemon=True).start()
            try:
                yield parts[0]
                self.allow(EVERY)  # what the others still have to say
                ray.wait(self._runs, num_returns=len(self._runs), timeout=FINISH_TIMEOUT_S)
            except Exception as error:
                self._blame(time.time(), error)
                raise
        finally:
            watch.set()
            self._end()
            shutil.rmtree(folder, ignore_errors=True)

    def allow(self, reports: int) -> None:
        for actor in self._actors:
            actor.allow.remote(reports)

    def show_gpus(self) -> None:
        """To this process, before a trial begins in it."""
        if self._posting.gpus:
            show_gpus({"CUDA_VISIBLE_DEVICES": ",".join(self._gpus_of(self._seated()[0].address))})

    def _seated(self) -> list[Seat]:
        if not self._seats:
            try:
                self._seats = [seat(), *ray.get([actor.seat.remote() for actor in self._actors])]
            except ray.exceptions.RayActorError as error:
                raise RankLostError(f"a rank's process died before the trial began: {error}") from None
        return self._seats

    def _gpus_of(self, address: str) -> list[str]:
        return [gpu for other in self._seats if other.address == address for gpu in other.gpus]

    def _parts(self, session: FunctionSession, config: dict[str, Any], folder: Path) -> list[Part]:
        machines = [s.address for s in self._seated()]
        alone = len(set(machines)) == 1
        port = _free_port()
        rendezvous = f"file://{folder}/store" if alone else f"tcp://{machines[0]}:{port}"
        counts, seen = Counter(machines), Counter[str]()
        parts = []
        for rank, s in enumerate(self._seats):
            local, seen[s.address] = seen[s.address], seen[s.address] + 1
            gpus = self._gpus_of(s.address)
            environment = {
                "RANK": str(rank),
                "WORLD_SIZE": str(self.count),
                "LOCAL_RANK": str(local),
                "LOCAL_WORLD_SIZE": str(counts[s.address]),
                "GROUP_RANK": str(list(counts).index(s.address)),
                "NODE_RANK": str(list(counts).index(s.address)),
                "MASTER_ADDR": "127.0.0.1" if alone else machines[0],
                "MASTER_PORT": str(port),
                # Of one machine: nothing listens beyond it.
                **({"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if alone else {}),
                **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}),
            }
            place = replace(session.place, directory=session.directory)
            parts.append(
                Part(
                    session.trial_id,
                    rank,
                    self.count,
                    environment,
                    rendezvous,
                    config,
                    session.epoch,
                    session.checkpoint,
                    place,
                    session.repeat,
                )
            )
        return parts

    def _watch(self, session: RankedSession, over: threading.Event) -> None:
        """In a thread: a rank that fails is noticed although this one waits for it."""
        while not over.wait(0.5):
            failed = self._failed()
            if failed is not None:
                if not over.wait(PATIENCE_S):
                    session.fail(failed)
                return

    def _failed(self) -> Exception | None:
        for i, run in enumerate(list(self._runs), 1):
            if not ray.wait([run], timeout=0)[0]:
                continue
            try:
                ended: Ended = ray.get(run)
            except ray.exceptions.RayError as error:
                return RankLostError(f"rank {i} of {self.count} was lost: {_last_line(error)}")
            if ended.raised is not None:
                return RankFailedError(i, ended.raised, ended.at)
        return None

    def _blame(self, at: float, error: Exception) -> None:
        """Raise what another rank has failed of, if that came before `at`: then this one's error follows from it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            failed = self._failed()
            if isinstance(failed, RankLostError) or (isinstance(failed, RankFailedError) and failed.at < at):
                raise failed from None
            if failed is not None:
                return
            time.sleep(0.1)

    def _end(self) -> None:
        """The others end now, or their processes do."""
        for actor in self._actors:
            actor.end.remote()
        runs, self._runs = self._runs, []
        done, _ = ray.wait(runs, num_returns=len(runs), timeout=PATIENCE_S) if runs else ([], [])
        for i, run in enumerate(runs):
            if run not in done or _is_lost(run):
                ray.kill(self._actors[i])
                self._actors[i] = None
        self._start()


class RankedSession(FunctionSession):
    """The session of rank 0. A function's trial is saved by its reports alone: what it offers to `on_save` might wait
    for the other ranks."""

    def __init__(self, function: FunctionTrainable, config: dict[str, Any], *, ranks: Ranks, **named: Any) -> None:
        self._ranks, self._inner, self._passed = ranks, function, 0
        self._save: Callable[[Path], None] | None = None
        super().__init__(self._with_others, config, **named)
        ranks.show_gpus()

    @property
    def save(self) -> Callable[[Path], None] | None:
        return self._save

    @save.setter
    def save(self, offered: Callable[[Path], None] | None) -> None:
        self._save = offered if self.place.of_task else None

    def _with_others(self, config: dict[str, Any]) -> Any:
        with self._ranks.begun(self, config) as part:
            return joined(part, self._inner, config)

    def report(self, metrics: Mapping[str, Any], folder: Path | None = None) -> None:
        super().report(metrics, folder)
        self._passed += 1
        self._ranks.allow(self._passed)


def _is_lost(run: Any) -> bool:
    try:
        ray.get(run)
    except ray.exceptions.RayError:
        return True
    return False


def _last_line(error: Exception) -> str:
    from raytune_hpo.workers.ray_transport import last_line

    return last_line(error)


def _free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])
