"""`run --watch`: the live page of a run, served by a process of its own for as long as the run's session."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys

from raytune_hpo.errors import ExperimentError
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.pages.page import check_installed
from raytune_hpo.printable import printable

ENDS_S = 5.0


class PageBeside(Listener):
    """It serves whatever the run does, and ends when the run's process does, however that ends: its stdin closes."""

    name = "watch"

    def __init__(self) -> None:
        """Raises ExperimentError where what pages need is not installed."""
        check_installed()
        from raytune_hpo.pages.server import check_served

        check_served("--watch")
        self._process: subprocess.Popen[str] | None = None

    def begin(self, run: RunView) -> None:
        self._path = run.path
        command = [sys.executable, "-m", "raytune_hpo", "watch", str(run.path), "--while-stdin"]
        # A session of its own: Ctrl-C is for the run, which is still to be seen while it ends.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        link = self._process.stdout.readline().strip()
        if not link:
            raise ExperimentError("--watch", str(run.path), f"ended at once (exit code {self._process.wait()})")
        print(f"watch: {printable(link)}", file=sys.stderr, flush=True)

    def end(self) -> None:
        process = self._process
        if process is None:
            return
        shown = shlex.quote(printable(str(self._path)))
        print(
            f"watch: the page ends with the run; raytune-hpo watch {shown} shows it again", file=sys.stderr, flush=True
        )
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            process.communicate(timeout=ENDS_S)
        process.kill()
        process.wait()
