"""Taking up a run that was begun: its journal opened where it is sound."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raytune_hpo.atomic import sync_folder, write_atomically
from raytune_hpo.errors import ExperimentError, RaytuneHpoError
from raytune_hpo.journal import format1
from raytune_hpo.journal.events import CheckpointSaved, Noticed, Perturbed, Step, Suggested
from raytune_hpo.journal.file import Journal, Reading, read
from raytune_hpo.owned import OWN_FILE
from raytune_hpo.storage.run_directory import RunDirectory

ASIDE = "journal-damaged-{}.jsonl"
OLD = "journal.format1.jsonl"


def open_journal(directory: RunDirectory) -> tuple[Reading, Journal]:
    """What the journal says so far, and the journal to go on with.

    A run of format 1 becomes one of format 2, and its old journal is kept beside. A last line that is damaged is kept
    in a file of its own.
    """
    directory.check_folders()
    run_id, path = directory.description()["run_id"], directory.journal_path
    if not path.exists() and any(directory.path.glob("checkpoints/*/*")):
        expected = "is missing, though the run has checkpoints; restore it from a backup"
        raise ExperimentError("journal", str(path), expected)
    reading = read(path, run_id)
    damage = None
    if reading.damage is not None:
        aside = path.with_name(ASIDE.format(time.strftime("%Y%m%d-%H%M%S")))
        write_atomically(aside, reading.aside, OWN_FILE)
        damage = f"{reading.damage}: set aside in {aside.name}"
    else:
        damage = _unnoticed_damage(path, reading)
    # Format 1 has no chain that would tell of a line that was lost.
    doubted = damage is not None or reading.format == 1 or path.with_name(OLD).exists()
    doubted = doubted or any(directory.path.glob(ASIDE.format("*")))
    reading = replace(reading, damage=damage, doubted=doubted)
    if reading.format == 1 and reading.steps:
        _keep(path, path.with_name(OLD))
        content = format1.rewritten(reading.steps, run_id)
        write_atomically(path, content, OWN_FILE)
        again = read(path, run_id)
        reading = replace(again, damage=reading.damage, aside=reading.aside, doubted=True)
    directory.now_of_format_2()
    return reading, Journal(path, run_id, reading.link, reading.end)


def replay(steps: list[Step], move: Callable[[Step], None], path: Path) -> set[str]:
    """Move by every step, and forget them: the journal, which may be long, is on disk. Answers the paths of all
    checkpoints that were ever named.

    Raises ExperimentError that names the line where a step cannot have been written by this run.
    """
    named: set[str] = set()
    for step in steps:
        try:
            move(step)
        except RaytuneHpoError:
            raise
        except Exception as error:  # a journal of today's form, with content that the run's space or search never had
            expected = f"does not follow from the lines before it ({type(error).__name__}: {error})"
            raise ExperimentError("journal", f"{path}:{step.number}", expected) from error
        for event in step.events:
            if isinstance(event, CheckpointSaved | Perturbed | Suggested) and event.checkpoint is not None:
                named.add(event.checkpoint.path)
    steps.clear()
    return named


def _unnoticed_damage(path: Path, reading: Reading) -> str | None:
    """What an earlier session set aside, if it died before the journal could say so."""
    said = [e.text for step in reading.steps for e in step.events if isinstance(e, Noticed)]
    for aside in sorted(path.parent.glob(ASIDE.format("*"))):
        if not any(aside.name in text for text in said):
            return f"a damaged line of {path.name} was set aside in {aside.name}"
    return None


def _keep(path: Path, beside: Path) -> None:
    """A second name for a file that is about to be replaced."""
    if not beside.exists():
        os.link(path, beside)
        sync_folder(path.parent)
