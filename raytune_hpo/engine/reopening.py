"""Taking up a run that was begun: its experiment made again, its journal opened where it is sound."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import sync_folder, write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.chosen import OBJECT
from raytune_hpo.experiment.file import load_experiment
from raytune_hpo.experiment.references import FILE_MODULE_PREFIX, import_first
from raytune_hpo.journal import format1
from raytune_hpo.journal.events import Noticed
from raytune_hpo.journal.file import Journal, Reading, read
from raytune_hpo.storage.run_directory import RunDirectory


def written_again(directory: RunDirectory, given: Mapping[str, Any]) -> Experiment:
    """The run's experiment. What was an object in it, and is not `given`, the experiment file in the run makes anew.

    Raises ExperimentError where that cannot be.
    """
    recorded = directory.description()["experiment"]
    given = {name: value for name, value in given.items() if value is not None}
    objects = [name for name in ("searcher", "scheduler") if recorded[name]["name"] == OBJECT]
    objects += ["task"] if "made" in recorded["task"] else []
    objects += ["listeners"] if recorded.get("listeners") else []
    missing = [name for name in objects if name not in given]
    file = directory.entry
    if file is not None:
        import_first(str(file.parent))  # what is named by its module may stand beside it
    made = None
    if missing and file is not None:
        try:
            made = load_experiment(file)
        except ExperimentError as error:
            if missing != ["listeners"]:
                raise
            # Listeners follow a run; that they cannot be made again is no reason not to go on with it.
            print(f"raytune-hpo: without the experiment's listeners: {error}", file=sys.stderr)
    if made is not None:
        given.update((name, getattr(made, name)) for name in missing)
        for name in ("searcher", "scheduler"):
            _check_same(name, recorded[name], getattr(made.resolved, name).described if name in missing else None)
    return Experiment.from_json(recorded, source=directory.source, given=given)


def _check_same(name: str, recorded: Mapping[str, Any], found: str | None) -> None:
    if found is not None and _same_file(found) != _same_file(recorded["class"]):
        expected = f"is what the experiment file makes now; the run was begun with {recorded['class']}"
        raise ExperimentError(name, found or "a name", expected)


def _same_file(described: str) -> str:
    """A class's description, in which a script run by itself and the same one loaded by name are one."""
    module, _, name = described.partition(":")
    return name if module == "__main__" or module.startswith(FILE_MODULE_PREFIX) else described


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
