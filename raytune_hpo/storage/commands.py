"""Commands to a running experiment, from another shell: files in RUN_DIR/commands, taken by the driver in order.

A command is on disk when `send` returns, and is taken exactly once: the driver journals what came of it and
then deletes the file; a file whose id is in the journal is a leftover of a crash in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.journal.events import Commanded
from raytune_hpo.journal.file import Cursor

FOLDER = "commands"
Command = dict[str, Any]


def send(run_path: Path, command: str, **arguments: Any) -> str:
    """Leave a command for the run. Answers its id."""
    folder = run_path / FOLDER
    folder.mkdir(exist_ok=True)
    command_id = f"{time.time_ns():020d}-{os.getpid()}"
    document = {"id": command_id, "command": command, **arguments}
    write_atomically(folder / f"{command_id}.json", json.dumps(document).encode())
    return command_id


def pending(run_path: Path) -> list[Command]:
    """The commands that nobody has taken, oldest first. An unreadable file is none of ours and left alone."""
    found: list[Command] = []
    folder = run_path / FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        with contextlib.suppress(ValueError, OSError):
            document = json.loads(path.read_text())
            if isinstance(document, dict) and document.get("id") == path.stem:
                found.append(document)
    return found


def remove(run_path: Path, command_id: str) -> None:
    (run_path / FOLDER / f"{command_id}.json").unlink(missing_ok=True)


def wait_for(run_path: Path, run_id: str, command_id: str, timeout_s: float) -> Commanded | None:
    """The journal's event about a command, as soon as it is there; None after `timeout_s`."""
    cursor, deadline = Cursor(run_path / "journal.jsonl", run_id), time.monotonic() + timeout_s
    while True:
        for step in cursor.steps():
            for event in step.events:
                if isinstance(event, Commanded) and event.id == command_id:
                    return event
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
