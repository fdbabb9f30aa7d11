"""A run's results as they grow: its journal read by a cursor, in whatever process."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Amended, Step
from raytune_hpo.journal.file import Cursor, read
from raytune_hpo.results.results import apply, results_of
from raytune_hpo.storage.run_directory import RunDirectory


class Followed:
    """A run that may go on. results: of all that has been read; they change with `fresh`."""

    def __init__(self, run_dir: str | Path) -> None:
        """Raises ExperimentError where there is no run, or its journal is damaged."""
        self.directory = RunDirectory.open(run_dir)
        self._wrong: ExperimentError | None = None  # with what has been seen
        self.load()

    def load(self) -> None:
        """Read all of it anew, whichever run it is now. Raises ExperimentError."""
        path = self.directory.journal_path
        self._seen = _state(path)
        run_id: str = self.directory.description()["run_id"]
        reading = read(path, run_id)
        self.results = results_of(self.directory, reading)
        self._cursor = Cursor.after(path, run_id, reading)

    @property
    def status(self) -> str:
        """As of Results, "killed" where nobody has the run that says it is running."""
        status = self.results.status
        return "killed" if status == "running" and not self.directory.in_use() else status

    def fresh(self) -> list[Step] | None:
        """The steps since the last call, which `results` then hold; None where all was read anew: the journal was
        replaced, or its damaged end set aside. Raises ExperimentError, at each call, while it is gone or cannot be
        read."""
        path = self.directory.journal_path
        state, before = _state(path), self._seen
        if state == before:  # also of a damaged end: it is read again when something follows
            if self._wrong is not None:
                raise self._wrong
            return []
        if state is None:
            raise ExperimentError("journal", str(path), "is gone: it was moved or deleted")
        self._seen, self._wrong = state, None
        try:
            if before is None or (state[0] == before[0] and state[1] > before[1]):
                with contextlib.suppress(ExperimentError):  # `load` says what is wrong with it, if anything is
                    return self._taken(path)
            self.load()
            return None
        except OSError as error:
            self._wrong = ExperimentError("journal", str(path), f"cannot be read: {error.strerror or error}")
            raise self._wrong from error
        except ExperimentError as error:
            self._wrong = error
            raise

    def _taken(self, path: Path) -> list[Step]:
        steps = self._cursor.steps()
        for step in steps:
            apply(self.results.ledger, step, path)
            for event in step.events:
                if isinstance(event, Amended):
                    self.results.experiment.update(event.changes)
        self.results.steps.extend(steps)
        return steps


def _state(path: Path) -> tuple[int, int] | None:
    """Which file it is, and its size; None without one."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size
