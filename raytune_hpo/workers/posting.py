"""What an actor is told of the run that it serves, and how it prepares its process for that."""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from raytune_hpo.storage.run_directory import DESCRIPTION
from raytune_hpo.workers import deaths, trial_log
from raytune_hpo.workers.imports import Imports
from raytune_hpo.workers.phases import Phases
from raytune_hpo.workers.process_state import WorkingDirectory
from raytune_hpo.workers.trial_log import TrialLog
from raytune_hpo.workers.warning_count import WarningCount


@dataclass(frozen=True)
class Posting:
    """What an actor that trains is told of the run it serves.

    run_path, run_id, session: the run directory, and how to recognize it on the actor's machine. cpus: the actor's.
    imports: what the driver can import; None for an actor in the driver's own process. cwd: the directory that the run
    was begun in. own_directories: whether trials of a function work in directories of their own. name, seed, objective:
    the experiment's; checkpoint_every, max_epochs too. gpus: the actor's. most: actors of the run at a time, None for
    as many as fit.
    """

    run_path: str
    run_id: str
    session: int
    cpus: float
    imports: Imports | None
    verbose: bool
    cwd: str | None = None
    own_directories: bool = True
    name: str = ""
    seed: int = 0
    objective: str | None = None
    gpus: float = 0.0
    most: int | None = None
    checkpoint_every: int = 1
    max_epochs: int | None = None

    def prepare_process(self) -> None:
        """Before anything of the user's is unpickled. The driver's own process is left as it is."""
        if self.imports is None:
            return
        if self.cwd is not None:
            WorkingDirectory(self.cwd).put_back()  # on another machine it need not be there
        self.imports.take()
        logging.getLogger("ray").setLevel(logging.ERROR)  # its own matters are none of a trial's
        deaths.leave_traces()

    def listening(self, is_own: Callable[[str], bool]) -> tuple[TrialLog, WarningCount, str]:
        """What hears the trials of an actor: their logs, their warnings, and the folder of the logs. is_own: whether
        the thread that asks is one of this trial's, or log's, where the process is the driver's own."""
        worker = f"{socket.gethostname()}-{os.getpid()}"
        if self.imports is None:
            folder = Path(self.run_path) / trial_log.FOLDER
            heard = trial_log.ThreadLog(folder, worker, is_own)
            return heard, WarningCount(is_own, heard.hear, whole=False), str(folder)
        if self.sees_run:
            folder = Path(self.run_path) / trial_log.FOLDER
        else:
            folder = Path(tempfile.mkdtemp(prefix="raytune_hpo_logs_"))
        log = trial_log.ProcessLog(folder, worker, live=self.verbose)
        return log, WarningCount(lambda _: True, print, whole=True), str(folder)

    def phases(self) -> Phases:
        """Of the actor, from the start of its process on."""
        phases = Phases(f"{socket.gethostname()}-{os.getpid()}")
        if self.imports is not None:
            phases.since_process_start()
        return phases

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    @property
    def sees_run(self) -> bool:
        """Whether this machine sees the run directory."""
        try:
            description = json.loads((Path(self.run_path) / DESCRIPTION).read_text())
        except (OSError, ValueError):
            return False
        return bool(description.get("run_id") == self.run_id)
