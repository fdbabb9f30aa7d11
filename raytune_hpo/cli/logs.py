"""raytune-hpo logs RUN_DIR TRIAL"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

from raytune_hpo.errors import ExperimentError
from raytune_hpo.owned import inside, opened

FOLLOW_EVERY_S = 0.3
#: What a terminal is not shown of what a trial has printed: all control characters and sequences but colours.
CONTROL = re.compile(r"\x1b(?!\[[\d;]*m)[@-_]?|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f\x80-\x9f]")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("trial", help="a trial's id, such as t00003")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the trial or the run has ended")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.checks import no_such
    from raytune_hpo.journal.events import Started
    from raytune_hpo.results.results import load_results
    from raytune_hpo.storage.run_directory import RunDirectory

    results = load_results(options.run_dir)
    if options.trial not in results.ledger.trials:
        raise ExperimentError("trial", options.trial, no_such("trial", options.trial, list(results.ledger.trials)))
    directory = RunDirectory(results.run_dir)
    shown: dict[Path, int] = {}
    while True:
        trial = results.ledger.trials[options.trial]
        last = not options.follow or trial.finished or not directory.in_use()
        started = [event for event in results.of(Started) if event.trial == trial.id]
        for name in dict.fromkeys(event.log for event in started):
            file = _file(results.run_dir, name)
            if file is not None:
                _show(file, shown)
            elif name is not None and last:
                print(f"raytune-hpo: more of it is on another machine: {name}", file=sys.stderr)
        if last:
            break
        time.sleep(FOLLOW_EVERY_S)
        results = load_results(options.run_dir)
    if not shown:
        said = "has said nothing" if started else "has not begun"
        print(f"raytune-hpo: {trial.id} {said}", file=sys.stderr)
    return 0


def _file(run_dir: Path, name: str | None) -> Path | None:
    """The file of a log's name in the journal, if it is one of this run's: a journal may be a stranger's.

    Raises ExperimentError for one that is reached through a link.
    """
    if name is None or not re.fullmatch(r"logs/[^/]+\.log", name):
        return None
    return inside(run_dir, name)


def _show(file: Path, shown: dict[Path, int]) -> None:
    """Print what has come to a file since it was last shown; what was cut from a long one meanwhile is not."""
    try:
        descriptor = opened(file)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as stream:
        stream.seek(min(shown.get(file, 0), os.fstat(descriptor).st_size))
        text = stream.read().decode(errors="replace")
        shown[file] = stream.tell()
    sys.stdout.write(CONTROL.sub("", text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
