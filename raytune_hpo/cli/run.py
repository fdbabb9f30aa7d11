"""raytune-hpo run FILE"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_experiment, add_run_options, entry_of, experiment_of, own_stdout, print_json
from raytune_hpo.experiment.resolved import EXECUTORS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--executor", choices=EXECUTORS, help="where trials run (default: the experiment's choice)")
    parser.add_argument("--run-dir", help="the folder of the run, new or empty (default: one under the storage folder)")
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    experiment = experiment_of(options)
    if options.executor is not None:
        experiment = experiment.override({"executor": options.executor})
    from rich.console import Console

    from raytune_hpo.display.progress import Progress
    from raytune_hpo.engine.run import run

    console = Console(stderr=options.json)
    with own_stdout(options):
        results = run(
            experiment,
            options.run_dir,
            address=options.address,
            listeners=[Progress(console, quiet=options.quiet)],
            source=entry_of(options.file),
            verbose=options.verbose,
        )
    return finish(results, options, console)


def finish(results: object, options: argparse.Namespace, console: object) -> int:
    """The end of `run` and `resume`: print the results, choose the exit code."""
    from rich.console import Console

    from raytune_hpo.display.summary import summarize
    from raytune_hpo.engine.interrupt import EXIT_INTERRUPTED
    from raytune_hpo.results.results import Results
    from raytune_hpo.workers.phases import process_start

    assert isinstance(results, Results)
    assert isinstance(console, Console)
    if options.json:
        print_json(results.to_json())
    else:
        summarize(results, console, process_start())
    if results.status != "finished":
        return EXIT_INTERRUPTED
    return 1 if results.counts["failed"] else 0
