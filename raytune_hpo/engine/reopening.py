"""Taking up a run that was begun: its experiment made again, its journal opened where it is sound."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_hpo.atomic import sync_folder, write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.chosen import OBJECT
from raytune_hpo.experiment.file import load_experiment
from raytune_hpo.experiment.references import import_first
from raytune_hpo.journal import format1
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
    if missing and file is not None:
        made = load_experiment(file)
        given.update((name, getattr(made, name)) for name in missing)
        for name in ("searcher", "scheduler"):
            _check_same(name, recorded[name], getattr(made.resolved, name).described if name in missing else None)
    return Experiment.from_json(recorded, source=directory.source, given=given)


def _check_same(name: str, recorded: Mapping[str, Any], found: str | None) -> None:
    if found is not None and found != recorded["class"]:
        expected = f"is what the experiment file makes now; the run was begun with {recorded['class']}"
        raise ExperimentError(name, found or "a name", expected)


def open_journal(directory: RunDirectory) -> tuple[Reading, Journal]:
    """What the journal says so far, and the journal to go on with.

    A run of format 1 becomes one of format 2, and its old journal is kept beside. A last line that is damaged is kept
    in a file of its own.
    """
    run_id, path = directory.description()["run_id"], directory.journal_path
    reading = read(path, run_id)
    if reading.damage is not None:
        aside = path.with_name(f"journal-damaged-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
        write_atomically(aside, reading.aside)
    if reading.format == 1 and reading.steps:
        _keep(path, path.with_name("journal.format1.jsonl"))
        content = format1.rewritten(reading.steps, run_id)
        write_atomically(path, content)
        again = read(path, run_id)
        reading = Reading(again.steps, again.link, again.end, reading.damage, reading.aside)
    directory.now_of_format_2()
    return reading, Journal(path, run_id, reading.link, reading.end)


def _keep(path: Path, beside: Path) -> None:
    """A second name for a file that is about to be replaced."""
    if not beside.exists():
        os.link(path, beside)
        sync_folder(path.parent)
