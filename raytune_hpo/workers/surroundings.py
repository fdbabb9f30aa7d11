"""What surrounds a trial of a function: a directory and a seed of its own, and a process that is left as it was found.

Where the process is the driver's too, it is the trial's only while the trial's thread runs.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.settings import Resources
from raytune_hpo.workers import trial_directories
from raytune_hpo.workers.nested_tasks import LaunchCheck
from raytune_hpo.workers.process_state import ProcessState, TorchState, WorkingDirectory
from raytune_hpo.workers.when_imported import WhenImported, imported

#: Where a trial finds the directory that the run was begun in, as under Ray Tune.
ORIGINAL = "TUNE_ORIG_WORKING_DIR"
#: Of the user's: 0 leaves trials in that directory, as under Ray Tune.
CHDIR = "RAY_CHDIR_TO_TRIAL_DIR"


def trials_have_directories() -> bool:
    """As their working directories; whether this process's environment leaves it so."""
    return os.environ.get(CHDIR, "1").strip() != "0"


@dataclass(frozen=True)
class Place:
    """Where a trial runs.

    run_path: the run directory, None where this machine does not see it. original: the directory that the run was begun
    in. changes_directory: whether the trial works in its own. shared: with the driver. objective: the metric that must
    be a number. of_task: the trial is a task's: it works where the run was begun, and its trainer seeds itself.
    experiment: its name. resources: the trial's. most: as for `nested_tasks.LaunchCheck`. directory: of another
    process's, which the trial works in here too. checkpoint_every, max_epochs: the experiment's.
    """

    trial: str
    seed: int
    run_path: Path | None = None
    original: str | None = None
    changes_directory: bool = True
    shared: bool = False
    objective: str | None = None
    of_task: bool = False
    experiment: str = ""
    resources: Resources = field(default_factory=Resources)
    most: int | None = None
    directory: Path | None = None
    checkpoint_every: int = 1
    max_epochs: int | None = None


class Surroundings:
    """Of one trial on one worker."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.directory: Path | None = None
        self._state = WorkingDirectory if place.of_task and place.shared else ProcessState
        self._before: WorkingDirectory | ProcessState | None = None
        self._own: WorkingDirectory | ProcessState | None = None
        self._begun = False
        self.over = False  # the trial's code has ended: nothing of it is needed again
        self._torch = WhenImported("torch", self._torch_came)
        self._launches = LaunchCheck(place.resources, place.most)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The process is the trial's inside, and until `end` where it is not shared. Raises DiskError where the trial's
        directory cannot be made."""
        if self._before is None:
            if self.directory is None and not self.place.of_task:
                self.directory = self.place.directory or trial_directories.opened(self.place.run_path, self.place.trial)
            self._before = self._state.found()
            if not self.place.of_task:
                self._torch.wait()
            if self._own is not None:
                self._own.put_back()
            elif not self._begun:
                self._begin()
        try:
            yield
        finally:
            if self.place.shared:
                self._own = None if self.over else self._state.found()
                self._leave()

    def end(self) -> None:
        """The trial is over here. A directory that nothing lies in goes."""
        self._leave()
        directory, self.directory = self.directory, None
        if directory is not None and self.place.directory is None:
            trial_directories.left(self.place.run_path, directory)

    def hint(self, error: BaseException) -> str:
        """Of a file that was not found where the trial works, but lies where the run was begun."""
        errors = (error, error.__cause__, error.__context__)
        missing = next((e for e in errors if isinstance(e, FileNotFoundError)), None)
        name, original = getattr(missing, "filename", None), self.place.original
        if not isinstance(name, str) or not original or not self.place.changes_directory:
            return ""
        if self.directory is not None and os.path.isabs(name):  # some libraries tell it whole
            here = self.directory.resolve()
            name = os.path.relpath(name, here) if Path(name).is_relative_to(here) else name
        there = os.path.join(original, name)
        if os.path.isabs(name) or not os.path.exists(there):
            return ""
        return f" (a trial works in a directory of its own; the file is {there}, below what {ORIGINAL} says)"

    def _leave(self) -> None:
        before, self._before = self._before, None
        self._torch.cease()
        self._launches.end()
        if before is not None:
            before.put_back()

    def _begin(self) -> None:
        self._begun = True
        original = self.place.original or os.getcwd()
        if self.place.of_task:
            with contextlib.suppress(OSError):  # on another machine it need not be there
                os.chdir(original)
            return
        os.environ[ORIGINAL] = original
        if not self.place.shared:
            self._launches.begin()
        # Before the directory changes, which what is relative would go along with.
        sys.path[:] = [os.path.join(original, path) if path else original for path in sys.path]
        if self.place.changes_directory:
            assert self.directory is not None
            os.chdir(self.directory)
        seed = self.place.seed
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch = imported("torch")
        if torch is not None:
            _seed_torch(seed)

    def _torch_came(self, torch: Any) -> None:
        """It is in the middle of the trial that imports it."""
        if isinstance(self._before, ProcessState) and self._before.torch is None:
            self._before.torch = TorchState.of(torch)
            _seed_torch(self.place.seed)


def _seed_torch(seed: int) -> None:
    from raytune_hpo.training.random_states import seed_torch

    seed_torch(seed)
