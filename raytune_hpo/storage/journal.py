"""The journal: the truth of a run, an append-only file of JSON lines.

A line is one step of the run, {"t": seconds of running, "events": [...]}; its events happened together
or, if the line is torn, not at all. Everything else about a run (what the searcher and the scheduler
know, which trial stands where, the tables that users read) is derived by reading it from the start.

Events, in the field "event":
    session     a process took the run on: number, pid, host, started, executor (lanes or processes; before there were
                lanes, none), room (whether all trials can run at the same time)
    suggest     trial, config; where the search planned more than a config also limit (its last epoch), parent and
                checkpoint (what it goes on from), repeat, note; suggested: the search's own, where config differs
    lr_range    trial, structure, low, high: a range test's answer
    narrow      trial, config: its lr is moved into its structure's range
    start       trial, epoch (0: from scratch), host: a worker there has it
    result      trial, generation, epoch, metrics, seconds, decision (continue, pause, stop or exploited: the
                scheduler's; diverged, complete, plateau or halt: made before it is asked), note (a panda's)
    checkpoint  trial, generation, epoch, path (a folder, or FILE#LANE), bytes, crc32: safely on disk
    perturb     trial, donor (PBT: another trial; panda: itself), donor_epoch, donor_generation, generation, old_config,
                new_config, checkpoint, reason, by (scheduler or hand)
    command     trial, id, command (nudge, rollback, pause or resume), applied, outcome: a person's, taken
    lost_checkpoint  trial, path: damaged or gone, not to be used again
    retry       trial, epoch, error, file, lost_worker, blame (if not 1): it failed and will go on from its checkpoint
    end         trial, status (completed, stopped, diverged, failed), reason, error, file
    exhausted   no trial will be added: the search, or num_samples, is used up
    stop        reason: the run accepts no more work (target reached, budget used, ...)
    close       status (finished, interrupted): the session's last line
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raytune_hpo.errors import ExperimentError

Event = dict[str, Any]
Step = dict[str, Any]


def read(path: Path) -> Iterator[tuple[Step, int]]:
    """The steps of a journal, each with the offset of the byte after it.

    A torn last line (a crash in mid-write) is left out. Raises ExperimentError for a damaged line that
    is followed by others: that is no crash's doing.
    """
    with path.open("rb") as file:
        end = 0
        damaged: int | None = None
        for number, line in enumerate(file, start=1):
            step = _parse(line)
            if damaged is not None and step is not None:
                raise ExperimentError(
                    "journal", f"{path}:{damaged}", "is damaged in the middle; restore it from a backup"
                )
            if step is None:
                damaged = damaged or number
                continue
            end += len(line)
            yield step, end


def _parse(line: bytes) -> Step | None:
    if not line.endswith(b"\n"):
        return None
    try:
        step = json.loads(line)
    except ValueError:
        return None
    return step if isinstance(step, dict) and "events" in step else None


class Journal:
    """Writes steps. Each `append` is one write and one fsync: what it returned from survives a power cut."""

    def __init__(self, path: Path, offset: int | None = None) -> None:
        """offset: where the sound part ends; what follows (a torn line) is cut off."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        if offset is not None:
            os.ftruncate(self._file, offset)
        os.lseek(self._file, 0, os.SEEK_END)

    def append(self, t: float, events: list[Event]) -> None:
        line = json.dumps({"t": round(t, 4), "events": events}, allow_nan=True, separators=(",", ":")) + "\n"
        view = memoryview(line.encode())
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)
