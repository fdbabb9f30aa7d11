"""The lane array: a long-lived Ray actor that trains many trials at once, as lanes of a fused trainer.

    orders (start, step, release) -> advance -> epochs, group after group -> outcomes of slots

A slot is a lane's place in the array. Each call trains for about TURN_S and answers with the reports there are; a
trial never trains past `until`, the scheduler's next possible decision. A report whose state is saved is handed over
when the file is on disk; a thread writes it while training goes on.
"""

from __future__ import annotations

import bdb
import os
import pickle
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import placed_line, traceback_text
from raytune_hpo.journal.events import CheckpointRecord, Event
from raytune_hpo.storage.checkpoints import CheckpointStore, unpack
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.storage.lane_files import split_path
from raytune_hpo.workers import deaths
from raytune_hpo.workers.data_news import data_news
from raytune_hpo.workers.first_check import first_remarks
from raytune_hpo.workers.lane_calls import Order, Turn
from raytune_hpo.workers.lane_capacity import LaneCapacity
from raytune_hpo.workers.lane_writer import LaneState, LaneWriter, array_name
from raytune_hpo.workers.machine import cpus
from raytune_hpo.workers.messages import Assignment, Checked, EpochReport, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.worker import called

if TYPE_CHECKING:
    from raytune_hpo.training.lanes.fused_trainer import FusedTrainer
    from raytune_hpo.training.recipe import Recipe

TURN_S = 0.1


@dataclass
class _Pending:
    """A report, and the write that its checkpoint waits for: the write's result has it at `lane`."""

    epoch: int
    metrics: dict[str, float]
    seconds: float
    write: Future[list[Saved]] | None
    lane: int


@dataclass(eq=False)
class _Running:
    """A slot's trial."""

    ticket: int
    trial: Assignment
    trainer: FusedTrainer
    until: int
    reports: list[_Pending] = field(default_factory=list)
    seconds: float = 0.0  # of the epoch under way

    @property
    def name(self) -> str:
        return self.trial.trial

    @property
    def state(self) -> LaneState:
        return LaneState(self.name, self.trial.generation, self.trainer.epoch(self.name))

    @property
    def runnable(self) -> bool:
        return self.trainer.epoch(self.name) < self.until


class LaneArray:
    """See the module. Made an actor by the pool.

    recipe: pickled where it has travelled. data: gives what trials see. number: of the array in its session, from 0.
    most: lanes at most.
    """

    def __init__(
        self,
        recipe: Recipe | bytes,
        data: Callable[[], Any],
        posting: Posting,
        *,
        number: int,
        checkpoint_every: int,
        gpu: bool,
        most: int,
    ) -> None:
        phases = posting.phases()
        posting.prepare_process()
        with phases("imports"):
            import torch

            import raytune_hpo.training.lanes.fused_trainer  # noqa: F401  (now, while the data are loaded elsewhere)
            from raytune_hpo.training.memory import keep_freed_memory

            keep_freed_memory()
            torch.set_num_threads(posting.threads)
            self._recipe: Recipe = pickle.loads(recipe) if isinstance(recipe, bytes) else recipe
        with phases("task and data"):
            self._loaded = data()
        self._run_path = Path(posting.run_path)
        self._store = CheckpointStore(self._run_path, posting.session)
        self._sees_run = posting.sees_run
        seen = self._run_path if self._sees_run else None
        self._news: tuple[Event, ...] = (*phases.take(), *data_news(self._loaded, seen))
        thread = threading.get_ident()
        self._log, self._warnings, self._logs = posting.listening(lambda _: threading.get_ident() == thread)
        self._log.begin(self._one_log)
        self._every, self._threads = checkpoint_every, posting.threads
        self._device = "cuda" if gpu else "cpu"
        self._capacity = LaneCapacity(self._device, most, min(1.0, posting.cpus / cpus()))
        self._trainers: dict[int | None, FusedTrainer] = {}
        self._slots: dict[int, _Running] = {}
        self._left: list[str] = []
        self._failed: list[tuple[int, int, Outcome]] = []
        self._served: dict[Any, int] = {}  # group -> the turn it was last trained in
        self._turns = 0
        self._writer = LaneWriter(self._run_path, array_name(posting.session, number), sees_run=self._sees_run)

    def info(self) -> WorkerInfo:
        pid, lanes = os.getpid(), self._capacity.lanes
        mark = deaths.process_mark(pid)
        return WorkerInfo(socket.gethostname(), pid, self._sees_run, lanes, self._news, mark, self._logs, self._one_log)

    @property
    def _one_log(self) -> str:
        """Of all trials, whose code runs in one program here."""
        return f"lanes-{socket.gethostname()}-{os.getpid()}"

    def refusal(self, configs: Sequence[dict[str, Any]]) -> str | None:
        """Why the task is better trained in processes; None where lanes are faster. configs: some of the space's."""
        from raytune_hpo.training.speed import measured

        return measured(self._recipe, self._loaded, configs, self._device, None, self._every).refusal

    def check(self, configs: Sequence[dict[str, Any]]) -> Checked:
        """Try the task with these. Raises TaskError where no trial could be trained."""
        return Checked(tuple(first_remarks(self._recipe, self._loaded, configs, self._device, self._threads)))

    def advance(self, orders: Sequence[Order], save: bool = False) -> Turn:
        """Do the orders, then train. save: every lane that trained is saved, the run is about to end.

        Raises OSError where a disk is full.
        """
        for order in orders:
            self._do(order)
        began = time.perf_counter()
        while group := self._next_group():
            self._train(group, save)
            if time.perf_counter() - began >= TURN_S:
                break
        while save and (group := self._next_group(begun=True)):  # its state is that of an epoch at the end of one only
            self._train(group, save)
        self._log.look()
        busy = any(running.runnable for running in self._slots.values())
        outcomes = self._ready(wait=not busy)
        return Turn(outcomes, busy, self._capacity.lanes, self._warnings.take(over=self._over()))

    def _over(self) -> list[str]:
        """The trials that have left since the last call."""
        left, self._left = self._left, []
        here = {running.name for running in self._slots.values()}
        return [name for name in left if name not in here]

    def do(self, call: bytes) -> Any:
        """See `worker.called`."""
        return called(call)

    def save(self, slot: int) -> Saved:
        """Save a lane's state at its present epoch."""
        running = self._slots[slot]
        assert not running.trainer.in_mid_epoch(running.name), "a trial that waits is at the end of an epoch"
        return self._saved(running.trainer, [running])[running.name][0].result()[0]

    def close(self) -> None:
        """The run is over: what was begun to be written is on disk."""
        self._writer.close()
        self._log.close()

    # Orders -----------------------------------------------------------------------------------------

    def _do(self, order: Order) -> None:
        if order.kind == "release":
            self._remove(order.slot)
        elif order.kind == "step":
            if order.slot in self._slots:
                self._slots[order.slot].until = order.until
        else:
            assert order.trial is not None
            self._warnings.begin(order.trial.trial)
            try:
                self._start(order, order.trial)
            except Exception as error:  # whatever a config does, it is that trial's failure
                self._failed.append((order.slot, order.ticket, _raised(error)))
                self._left.append(order.trial.trial)
            finally:
                self._warnings.begin()

    def _remove(self, slot: int) -> None:
        running = self._slots.pop(slot, None)  # it has gone by itself if it failed
        if running is not None:
            self._left.append(running.name)
            running.trainer.leave(running.name)

    def _start(self, order: Order, trial: Assignment) -> None:
        from raytune_hpo.training.checkpoint import load_state

        trainer = self._trainer(trial.repeat)
        seed = self._recipe.trial_seed(trial.trial, trial.repeat)
        record = trial.checkpoint
        donor = self._donor(record) if record is not None else None
        if donor is not None:
            donor.trainer.copy(donor.name, trial.trial, trial.config)
        elif trial.payload is not None:
            with tempfile.TemporaryDirectory() as folder:
                unpack(trial.payload, Path(folder))
                trainer.enter(trial.trial, trial.config, seed, load_state(folder))
        elif record is not None:
            if not self._store.intact(record):
                self._failed.append((order.slot, order.ticket, Outcome("unreadable")))
                return
            trainer.enter(trial.trial, trial.config, seed, load_state(self._run_path / record.path))
        else:
            trainer.enter(trial.trial, trial.config, seed)
        self._slots[order.slot] = _Running(order.ticket, trial, trainer, trial.until)

    def _trainer(self, repeat: int | None) -> FusedTrainer:
        from raytune_hpo.training.lanes.fused_trainer import FusedTrainer

        if repeat not in self._trainers:
            recipe = self._recipe
            part = recipe.data(self._loaded, repeat)[0]
            self._trainers[repeat] = FusedTrainer(recipe.task, part, max_epochs=recipe.max_epochs, device=self._device)
        return self._trainers[repeat]

    def _donor(self, record: CheckpointRecord) -> _Running | None:
        """The lane here whose state is the checkpoint's, so that no file need be read."""
        member = split_path(record.path)[1]
        for running in self._slots.values():
            if member == running.state.member and not running.trainer.in_mid_epoch(running.name):
                return running
        return None

    def _fail(self, slots: Sequence[int], error: Exception) -> None:
        for slot in slots:
            running = self._slots[slot]
            reports = tuple(_report(pending) for pending in running.reports)
            self._failed.append((slot, running.ticket, _raised(error, reports)))
            self._remove(slot)

    # Training ---------------------------------------------------------------------------------------

    def _next_group(self, *, begun: bool = False) -> list[int]:
        """The slots to train now: of the groups that may, the one whose last turn is longest ago. begun: only of trials
        that are in mid-epoch."""
        groups: dict[Any, list[int]] = {}
        for slot, running in self._slots.items():
            if running.runnable and (not begun or running.trainer.in_mid_epoch(running.name)):
                groups.setdefault((running.trial.repeat, running.trainer.group(running.name)), []).append(slot)
        if not groups:
            return []
        chosen = min(groups, key=lambda group: self._served.get(group, -1))
        self._turns += 1
        self._served[chosen] = self._turns
        return groups[chosen]

    def _train(self, slots: list[int], save: bool) -> None:
        lanes = [self._slots[slot] for slot in slots]
        trainer = lanes[0].trainer
        before = time.perf_counter()
        names = [lane.name for lane in lanes]
        self._warnings.begin(*names)
        try:
            size = max(trainer.bytes_of(name) for name in names)
            with self._capacity.measured(trainer.group(lanes[0].name), len(lanes), size):
                metrics = trainer.advance(names)
        except Exception as error:
            self._fail(slots, error)
            return
        finally:
            self._warnings.begin()
        seconds = time.perf_counter() - before
        for lane, share in zip(lanes, trainer.shares(names), strict=True):
            lane.seconds += seconds * share
        ended = [lane for lane in lanes if lane.name in metrics]
        written = self._saved(trainer, [lane for lane in ended if save or self._is_due(lane)])
        for lane in ended:
            write, position = written.get(lane.name, (None, 0))
            epoch = trainer.epoch(lane.name)
            lane.reports.append(_Pending(epoch, metrics[lane.name], lane.seconds, write, position))
            lane.seconds = 0.0

    def _is_due(self, lane: _Running) -> bool:
        """Also where the scheduler may take the lane out: it must find a checkpoint to go on from."""
        epoch = lane.trainer.epoch(lane.name)
        return epoch % self._every == 0 or epoch >= lane.until

    def _saved(self, trainer: FusedTrainer, lanes: list[_Running]) -> dict[str, tuple[Future[list[Saved]], int]]:
        """Of each trial, the write of its state, and which of the write's it is."""
        by_name = {lane.name: lane for lane in lanes}
        found = {}
        for names, snapshot in trainer.snapshots(list(by_name)) if lanes else ():
            write = self._writer.submit([by_name[name].state for name in names], snapshot)
            found.update({name: (write, i) for i, name in enumerate(names)})
        return found

    # Answers ----------------------------------------------------------------------------------------

    def _ready(self, *, wait: bool) -> tuple[tuple[int, int, Outcome], ...]:
        """Reports that may be handed over. wait: there is nothing to train, so wait for the disk."""
        outcomes, self._failed = self._failed, []
        for slot, running in self._slots.items():
            ready = 0
            for pending in running.reports:
                if pending.write is not None and not wait and not pending.write.done():
                    break
                ready += 1
            reports = tuple(_report(pending) for pending in running.reports[:ready])
            del running.reports[:ready]
            if reports:
                at_end = not running.reports and not running.runnable
                outcomes.append((slot, running.ticket, Outcome("waiting" if at_end else "running", reports)))
        return tuple(outcomes)


def _raised(error: Exception, reports: tuple[EpochReport, ...] = ()) -> Outcome:
    """Raises what is no trial's failure: OSError of a full disk, BdbQuit of a debugger that was left."""
    if (disk := full_disk(error)) is not None:
        raise disk from None
    if isinstance(error, bdb.BdbQuit):
        raise error
    return Outcome("raised", reports, placed_line(error), traceback_text(error, error.__traceback__))


def _report(pending: _Pending) -> EpochReport:
    saved = pending.write.result()[pending.lane] if pending.write is not None else None
    return EpochReport(pending.epoch, pending.metrics, pending.seconds, saved)
