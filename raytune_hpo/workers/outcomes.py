"""What comes of letting a trial's function run on: reports, and how it ended."""

from __future__ import annotations

import bdb
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raytune_hpo.errors import placed_line, traceback_text
from raytune_hpo.storage.full_disk import DiskError, full_disk

#: Whose frames come before the user's own in every traceback.
FUNCTION_SESSION = str(Path(__file__).with_name("function_session.py"))


class RankLostError(Exception):
    """A process of a trial that is several of them has died."""


@dataclass(frozen=True)
class Met:
    """What a trial's code has asked for so far: as of `events.Discovered`."""

    values: dict[str, Any]
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """What a function reported: plain metrics, and the folder of its checkpoint if it saved one. at: when, by
    time.perf_counter. done: it said that it is done. met: what it has asked for, where that is new."""

    metrics: dict[str, Any]
    checkpoint: Path | None
    at: float = field(default=0.0, compare=False)
    done: bool = False
    met: Met | None = None


@dataclass(frozen=True)
class Returned:
    """The function returned."""


@dataclass(frozen=True)
class Raised:
    """The function raised. summary: one line; text: the traceback, ours left out; disk: what says that one is full;
    quit: somebody has left a debugger; lost: no fault of the trial's: one of its processes has died."""

    summary: str
    text: str
    out_of_memory: bool
    disk: DiskError | None = None
    quit: bool = False
    lost: bool = False


Outcome = Report | Returned | Raised


class RankFailedError(Exception):
    """Another process of a trial that is several of them has raised, and this one must end with it.

    raised: what. at: when, by time.time().
    """

    def __init__(self, rank: int, raised: Raised, at: float) -> None:
        self.raised = replace(raised, summary=f"rank {rank}: {raised.summary}")
        self.at = at
        super().__init__(self.raised.summary)


def raised(error: BaseException, run_path: Path | None = None, hint: str = "") -> Raised:
    """An exception as text: one line, and the traceback from the user's function on. Never raises, whatever the
    exception does when it is asked. run_path: as for `full_disk`. hint: for the end of the line."""
    if isinstance(error, RankFailedError):
        return error.raised
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == FUNCTION_SESSION:
        frames = frames.tb_next
    chain = _parts(error)
    memory = any(isinstance(e, MemoryError) or type(e).__name__ == "OutOfMemoryError" for e in chain)
    left = any(isinstance(e, bdb.BdbQuit) for e in chain)
    line = placed_line(error)[:500] + hint
    return Raised(
        line,
        traceback_text(error, frames),
        memory,
        full_disk(error, run_path),
        left,
        lost=isinstance(error, RankLostError),
    )


def _parts(error: BaseException) -> list[BaseException]:
    """An exception, and those in it where it is a group."""
    inner = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return [error, *(part for e in inner for part in _parts(e))]
