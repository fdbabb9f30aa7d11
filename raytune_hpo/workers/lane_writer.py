"""The writer of an array's checkpoints: a thread that puts snapshots of lanes on the disk while training goes on."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.journal.names import LANES, lane_member
from raytune_hpo.storage.checkpoints import STATE_FILE, pack
from raytune_hpo.storage.full_disk import storing
from raytune_hpo.storage.lane_files import LaneFile, fingerprint_of, write
from raytune_hpo.workers.messages import Saved

if TYPE_CHECKING:
    from raytune_hpo.training.lanes.fused_trainer import LaneSnapshot

WRITES_AHEAD = 2  # snapshots that may wait for the disk before training waits for them


@dataclass(frozen=True)
class LaneState:
    """Which state of which trial a lane has."""

    trial: str
    generation: int
    epoch: int

    @property
    def member(self) -> str:
        """Its name in a file."""
        return lane_member(self.trial, self.generation, self.epoch)


class LaneWriter:
    """run_path: the run directory; where the machine does not see it, the lanes travel as bytes. array: a name that no
    other array of any session has."""

    def __init__(self, run_path: Path, array: str, *, sees_run: bool) -> None:
        self._run_path, self._array, self._sees_run = run_path, array, sees_run
        self._files = 0
        self._thread = ThreadPoolExecutor(1)
        self._writes: list[Future[list[Saved]]] = []

    def submit(self, states: list[LaneState], snapshot: LaneSnapshot) -> Future[list[Saved]]:
        """Write a snapshot of lanes in these states, as one file. Waits where the disk is WRITES_AHEAD behind."""
        self._files += 1
        path = f"checkpoints/{LANES}/{self._array}-{self._files:06d}.safetensors"
        self._writes = [waiting for waiting in self._writes if not waiting.done()]
        if len(self._writes) >= WRITES_AHEAD:
            self._writes[0].result()
        submitted = self._thread.submit(self._write, path, states, snapshot)
        self._writes.append(submitted)
        return submitted

    def close(self) -> None:
        """Wait for what was submitted."""
        self._thread.shutdown()

    def _write(self, path: str, states: list[LaneState], snapshot: LaneSnapshot) -> list[Saved]:
        folder = self._run_path if self._sees_run else Path(tempfile.mkdtemp())
        members = [state.member for state in states]
        try:
            with storing():
                write(folder / path, members, snapshot.tensors, snapshot.shared, snapshot.facts)
            if not self._sees_run:
                return [self._packed(folder, path, state) for state in states]
        finally:
            if not self._sees_run:
                shutil.rmtree(folder, ignore_errors=True)
        saved = []
        for i, state in enumerate(states):
            prints = fingerprint_of({name: t[i] for name, t in snapshot.tensors.items()}, snapshot.facts[i])
            record = CheckpointRecord(state.trial, state.generation, state.epoch, f"{path}#{state.member}", *prints)
            saved.append(Saved(state.epoch, record=record))
        return saved

    @staticmethod
    def _packed(folder: Path, path: str, state: LaneState) -> Saved:
        own = folder / state.member
        own.mkdir()
        (own / STATE_FILE).write_bytes(LaneFile(folder / path).extracted(state.member))
        return Saved(state.epoch, payload=pack(own))


def array_name(session: int, number: int) -> str:
    """Of an array: the process too, since a driver that died early leaves its session's number to the next."""
    return f"{session:03d}-{number:03d}-{os.getpid()}"
