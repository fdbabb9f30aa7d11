"""Listeners in threads of their own, each with a cursor over the journal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.journal.events import Amended, Step
from raytune_hpo.journal.file import Cursor, Journal, read
from raytune_hpo.listeners.listener import Listener, RunView
from raytune_hpo.listeners.registry import made_listener, name_of
from raytune_hpo.printable import printable
from raytune_hpo.storage.run_directory import RunDirectory

POLL_S = 0.1
CLOSE_S = 20.0  # how long the end of a session waits for listeners that are behind


class Following:
    """One listener and its thread, from `begin` to `end`."""

    def __init__(self, listener: Listener, run: RunView, trouble: Callable[[str], None]) -> None:
        self.listener = listener
        self._run, self._trouble = run, trouble
        self._opened, self._closing = threading.Event(), threading.Event()
        self._journal: Journal | None = None
        self._held = 0
        # A daemon: a sink that hangs must not hang the end of the process.
        self._thread = threading.Thread(target=self._guarded, daemon=True, name=f"listener {name_of(listener)}")
        self._thread.start()

    def open(self, journal: Journal, held: int) -> None:
        """The journal is there to be followed. held: events that were in it when the session began."""
        self._journal, self._held = journal, held
        self._opened.set()

    def close(self) -> None:
        self._closing.set()
        self._opened.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it has come to its end."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _guarded(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # whatever a user's listener does: also sys.exit
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._trouble(f"listener {name_of(self.listener)} failed and is switched off: {text}")

    def _follow(self) -> None:
        listener = self.listener
        listener.begin(self._run)
        while not self._opened.wait(POLL_S):
            listener.idle()
        if self._journal is None:  # the session ended before there was a journal
            listener.end()
            return
        # A sink may hold more than the journal, whose last line was damaged: what comes in its place is new.
        first = min(listener.position(), self._held)
        cursor = Cursor(self._journal.path, self._run.run_id, self._journal)
        while True:
            last = self._closing.is_set()
            for step in cursor.steps():
                for event in step.events:
                    if isinstance(event, Amended):
                        self._run.experiment.update(event.changes)
                tell(step, listener, first)
            listener.idle()
            if last:
                break
            self._closing.wait(POLL_S)
        listener.end()


def tell(step: Step, listener: Listener, first: int) -> None:
    """Tell a listener a step's events, from the run's event number `first` on."""
    for number, event in enumerate(step.events, start=step.first):
        if number >= first:
            listener.event(number, event, step)
        else:
            listener.seen(number, event, step)


class Listening:
    """All listeners of a session. A context: they begin with it, and have been told everything when it ends."""

    def __init__(self, listeners: Sequence[Listener], run: RunView) -> None:
        self._troubles: list[str] = []
        self._closed = False
        self._all = [Following(listener, run, self._take_trouble) for listener in listeners]

    def open(self, journal: Journal, held: int) -> None:
        for following in self._all:
            following.open(journal, held)

    def troubles(self) -> list[str]:
        """What listeners had trouble with since the last call."""
        found, self._troubles = self._troubles, []
        return found

    def _take_trouble(self, text: str) -> None:
        self._troubles.append(text)

    def close(self) -> None:
        """Wait until every listener has been told everything, CLOSE_S at most, and say which has not. Once."""
        if self._closed:
            return
        self._closed = True
        for following in self._all:
            following.close()
        deadline = time.monotonic() + CLOSE_S
        for following in self._all:
            if not following.join(max(0.0, deadline - time.monotonic())):
                name = name_of(following.listener)
                self._take_trouble(f"listener {name} is behind: raytune_hpo.follow(run_dir, ...) tells it the rest")
        for text in self.troubles():  # too late for the journal
            print(f"raytune-hpo: {printable(text)}", file=sys.stderr)


def follow(run_dir: str | Path, listener: Any) -> None:
    """Tell a listener everything in the journal of a run that it has not been told, and return: an export.

    listener: as in `listeners=`. Raises ExperimentError if there is no run, or its journal is damaged; and whatever the
    listener raises.
    """
    directory = RunDirectory.open(run_dir)
    description = directory.description()
    steps = read(directory.journal_path, description["run_id"]).steps
    run = RunView(directory.path, description["run_id"], description["experiment"], resumed=True, live=False)
    tell_all(steps, made_listener(listener), run)


def tell_all(steps: Iterable[Step], listener: Listener, run: RunView) -> None:
    """From `begin` to `end`, of the steps of a run that goes on no more, as far as is known."""
    listener.begin(run)
    first = listener.position()
    for step in steps:
        tell(step, listener, first)
    listener.idle()
    listener.end()
