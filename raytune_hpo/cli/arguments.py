"""Arguments that several verbs share, and their meaning."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.file import load_experiment, parse_value
from raytune_hpo.experiment.reopened import CHOICES
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.listeners.registry import LISTENERS, listener_called
from raytune_hpo.printable import printable_lines
from raytune_hpo.storage.run_directory import RunDirectory

OF_A_SEARCH = "num_samples=128, scheduler=fifo, searcher.n_initial=10, space.lr=0.01"
OF_A_MODEL = "space.batch_size=256, seed=3"


def add_experiment(
    parser: argparse.ArgumentParser, *, run_dir: str = "to run its experiment again", examples: str = OF_A_SEARCH
) -> None:
    """FILE and --set. run_dir: what a run directory in place of the file is for."""
    parser.add_argument("file", help=f"a Python file that builds one Experiment, or a run directory, {run_dir}")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help=f"override a field, such as {examples}, or a task's option such as data_dir=DIR (repeatable)",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="a Ray cluster to run on: auto, or HOST:PORT (default: this machine)")
    add_json(parser)
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("--quiet", action="store_true", help="print nothing but errors and the result")
    loudness.add_argument("--verbose", action="store_true", help="show Ray's and the trials' own output too")


def add_listen(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="NAME",
        help=f"tell this listener of the run, too: {', '.join(LISTENERS)}, or module:Class (repeatable)",
    )
    parser.add_argument(
        "--watch", action="store_true", help="serve a live page of the run meanwhile, and print its link"
    )


def add_notify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notify",
        metavar="COMMAND",
        help="run this when the run has finished, or has ended otherwise by itself, with what came of it as JSON on "
        "its standard input (the experiment's on_finish and on_failure)",
    )


def listeners_of(options: argparse.Namespace) -> list[Any]:
    """Those of --listen and --watch. Raises ExperimentError for one that is not there; of a module it is known in the
    run alone, which finds its code."""
    for name in options.listen:
        if ":" not in name:
            listener_called(name, "--listen")
    found: list[Any] = list(options.listen)
    if options.watch:
        from raytune_hpo.pages.beside import PageBeside

        found.append(PageBeside())
    return found


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document on stdout, all else on stderr")


def add_code(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--code",
        choices=CHOICES,
        default="recorded",
        help="where today's files are other than the run's copy of them: the copy (default), or today's",
    )


def add_quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="do not show how far it is")


def shown_headway(options: argparse.Namespace) -> contextlib.AbstractContextManager[Headway]:
    """A context in which a verb's long work shows how far it is: on stderr, since stdout is for what came of it."""
    if options.quiet:
        return contextlib.nullcontext(UNSEEN)
    from raytune_hpo.display.console import LastingConsole
    from raytune_hpo.display.headway_bar import HeadwayBar

    return HeadwayBar(LastingConsole(stderr=True))


def own_stdout(options: argparse.Namespace) -> contextlib.AbstractContextManager[Any]:
    """A context in which what the experiment's code prints in this process goes to stderr, where stdout is for JSON."""
    return contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()


def parse_changes(texts: Sequence[str], argument: str = "--set") -> dict[str, Any]:
    """FIELD=VALUE texts as what `Experiment.override` takes. argument: which they were given by.

    Raises ExperimentError.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ExperimentError(argument, text, "must be FIELD=VALUE")
        if key in changes:
            raise ExperimentError(argument, text, f"{key} is set twice")
        changes[key] = parse_value(value)
    return changes


def changes_of(options: argparse.Namespace) -> dict[str, Any]:
    """The --set overrides. Raises ExperimentError."""
    return parse_changes(options.changes)


def experiment_of(options: argparse.Namespace) -> Experiment:
    """The experiment of the command line, with its --set overrides. Raises ExperimentError."""
    changes = changes_of(options)
    experiment = load_experiment(options.file)
    return experiment.override(changes) if changes else experiment


def entry_of(file: str) -> Path | None:
    """The experiment file that a run is to hold a copy of: `file`, or that of the run directory in its place."""
    if file.endswith(".py"):
        return Path(file)
    path = Path(file)
    return RunDirectory.open(path if path.is_dir() else path.parent).entry


def say(text: str, file: TextIO | None = None) -> None:
    """Print text for people, of which a terminal obeys nothing."""
    print(printable_lines(text), file=file)


def print_json(document: Any) -> None:
    print(json.dumps(document, indent=2, allow_nan=False))
