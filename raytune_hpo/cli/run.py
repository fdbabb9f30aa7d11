"""raytune-hpo run FILE"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from raytune_hpo.cli.arguments import (
    add_experiment,
    add_listen,
    add_notify,
    add_run_options,
    entry_of,
    experiment_of,
    listeners_of,
    own_stdout,
    print_json,
)
from raytune_hpo.experiment.resolved import EXECUTORS

if TYPE_CHECKING:
    from raytune_hpo.display.screen import Screen
    from raytune_hpo.results.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--executor", choices=EXECUTORS, help="where trials run (default: the experiment's choice)")
    parser.add_argument("--run-dir", help="the folder of the run, new or empty (default: one under the storage folder)")
    add_listen(parser)
    add_notify(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    experiment = experiment_of(options)
    if options.executor is not None:
        experiment = experiment.override({"executor": options.executor})
    if options.notify is not None:
        experiment = experiment.override({"on_finish": options.notify, "on_failure": options.notify})
    from raytune_hpo.display.screen import run

    listeners = listeners_of(options)
    with own_stdout(options):
        results = run(
            experiment,
            options.run_dir,
            address=options.address,
            listeners=listeners,
            source=entry_of(options.file),
            verbose=options.verbose,
            screen=screen_of(options),
        )
    return finish(results, options)


def screen_of(options: argparse.Namespace, start: str | None = None) -> Screen:
    """Where a run shows itself; what came of it is not left out when it is to be quiet."""
    from raytune_hpo.display.screen import Screen
    from raytune_hpo.workers.phases import process_start

    return Screen(
        progress=not options.quiet,
        closing=not options.json,
        stderr=options.json,
        since=process_start(),
        start=start,
    )


def finish(results: Results, options: argparse.Namespace) -> int:
    """The end of `run`, `panda`, `resume` and `retry`: the JSON document if it is wanted, the exit code."""
    from raytune_hpo.engine.interrupt import EXIT_INTERRUPTED

    if options.json:
        print_json(results.to_json())
    if results.status != "finished":
        return EXIT_INTERRUPTED if results.close_reason is None else 1
    return 1 if results.counts["failed"] else 0
