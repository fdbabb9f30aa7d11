"""Taking up a run that was begun: its journal opened where it is sound."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from raytune_hpo.atomic import sync_folder, write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal import format1
from raytune_hpo.journal.events import Noticed
from raytune_hpo.journal.file import Journal, Reading, read
from raytune_hpo.storage.run_directory import RunDirectory


def open_journal(directory: RunDirectory) -> tuple[Reading, Journal]:
    """What the journal says so far, and the journal to go on with.

    A run of format 1 becomes one of format 2, and its old journal is kept beside. A last line that is damaged is kept
    in a file of its own.
    """
    run_id, path = directory.description()["run_id"], directory.journal_path
    if not path.exists() and any(directory.path.glob("checkpoints/*/*")):
        expected = "is missing, though the run has checkpoints; restore it from a backup"
        raise ExperimentError("journal", str(path), expected)
    reading = read(path, run_id)
    damage = None
    if reading.damage is not None:
        aside = path.with_name(f"journal-damaged-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
        write_atomically(aside, reading.aside)
        damage = f"{reading.damage}: set aside in {aside.name}"
    else:
        damage = _unnoticed_damage(path, reading)
    reading = replace(reading, damage=damage)
    if reading.format == 1 and reading.steps:
        _keep(path, path.with_name("journal.format1.jsonl"))
        content = format1.rewritten(reading.steps, run_id)
        write_atomically(path, content)
        again = read(path, run_id)
        reading = replace(again, damage=reading.damage, aside=reading.aside)
    directory.now_of_format_2()
    return reading, Journal(path, run_id, reading.link, reading.end)


def _unnoticed_damage(path: Path, reading: Reading) -> str | None:
    """What an earlier session set aside, if it died before the journal could say so."""
    said = [e.text for step in reading.steps for e in step.events if isinstance(e, Noticed)]
    for aside in sorted(path.parent.glob("journal-damaged-*.jsonl")):
        if not any(aside.name in text for text in said):
            return f"a damaged line of {path.name} was set aside in {aside.name}"
    return None


def _keep(path: Path, beside: Path) -> None:
    """A second name for a file that is about to be replaced."""
    if not beside.exists():
        os.link(path, beside)
        sync_folder(path.parent)
