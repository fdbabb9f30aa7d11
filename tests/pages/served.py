"""A journal that grows as if a driver wrote it, and the server of its page, both in this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from written_run import RUN_ID, written_run

from raytune_hpo.journal.events import Event, SessionOpened
from raytune_hpo.journal.file import Journal, read
from raytune_hpo.pages.guard import own_hosts
from raytune_hpo.pages.server import Watched, application, listening
from raytune_hpo.storage.run_directory import RunDirectory

TOKEN = "a-token-of-the-tests"


@contextlib.contextmanager
def live_journal(path: Path) -> Iterator[Callable[..., None]]:
    """A new run that somebody has: append(event, ...) writes one step."""
    written_run(path, SessionOpened(1, 1, "host", "2026-01-01T00:00:00+0000"), max_epochs=100)
    directory = RunDirectory.open(path)
    directory.lock()
    reading = read(directory.journal_path, RUN_ID)
    journal = Journal(directory.journal_path, RUN_ID, reading.link, reading.end)
    seconds = [1.0]

    def append(*events: Event) -> None:
        seconds[0] += 1
        journal.append(seconds[0], events)

    try:
        yield append
    finally:
        journal.close()
        directory.unlock()


@contextlib.contextmanager
def served(path: Path, *, control: bool = False) -> Iterator[str]:
    """The link of a server that shows a run, or a folder of runs. control: and takes commands."""
    import uvicorn

    socket = listening("127.0.0.1", None)
    made = application(Watched(path), TOKEN, own_hosts("127.0.0.1"), control=control)
    config = uvicorn.Config(made, log_level="error", lifespan="off", timeout_graceful_shutdown=1, ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join(20)
        socket.close()
