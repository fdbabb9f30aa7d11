"""Commands to a running experiment, from another shell: files in RUN_DIR/commands, taken by the driver in order.

A command is on disk when `send` returns, and is taken exactly once: the driver journals what came of it and
then deletes the file; a file whose id is in the journal is a leftover of a crash in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.codec import read_plain_data
from raytune_hpo.journal.events import Commanded
from raytune_hpo.journal.file import Cursor
from raytune_hpo.owned import OWN_FILE, inside, make_folder, read_bytes

FOLDER = "commands"
LOOK_S = 0.05
WAIT_S = 30.0  # for an answer, unless a person says otherwise
Command = dict[str, Any]
_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


def send(run_path: Path, command: str, **arguments: Any) -> str:
    """Leave a command for the run. Answers its id."""
    folder = inside(run_path, FOLDER)
    make_folder(folder)
    command_id = f"{time.time_ns():020d}-{os.getpid()}"
    document = {"id": command_id, "command": command, **arguments}
    write_atomically(folder / f"{command_id}.json", json.dumps(document).encode(), OWN_FILE)
    return command_id


def pending(run_path: Path) -> list[Command]:
    """The commands that nobody has taken, oldest first. A file that is no command is none of ours and left alone."""
    found: list[Command] = []
    folder = run_path / FOLDER
    if folder.is_symlink() or not folder.is_dir():
        return found
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(ValueError, OSError, RecursionError, ExperimentError):
            document = read_plain_data(json.loads(read_bytes(path)), "command")
            named = isinstance(document.get("command"), str) and _ID.fullmatch(str(document.get("id")))
            if named and document["id"] == path.stem:
                found.append(document)
    return found


class Inbox:
    """The commands to a run, as its driver takes them."""

    def __init__(self, run_path: Path) -> None:
        self._path = run_path

    def pending(self) -> list[Command]:
        return pending(self._path)

    def remove(self, command_id: str) -> None:
        remove(self._path, command_id)


def remove(run_path: Path, command_id: str) -> None:
    inside(run_path, f"{FOLDER}/{command_id}.json").unlink(missing_ok=True)


class Answers:
    """What the journal says of commands that are sent after this is made."""

    def __init__(self, run_path: Path, run_id: str) -> None:
        self._cursor = Cursor.at_end(run_path / "journal.jsonl", run_id)

    def wait_for(self, command_id: str, timeout_s: float) -> Commanded | None:
        """The event about a command, as soon as it is there; None after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(FileNotFoundError):  # (none yet)
                for step in self._cursor.steps():
                    for event in step.events:
                        if isinstance(event, Commanded) and event.id == command_id:
                            return event
            if time.monotonic() > deadline:
                return None
            time.sleep(LOOK_S)
