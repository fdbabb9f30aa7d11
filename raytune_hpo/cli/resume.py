"""raytune-hpo resume RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_run_options
from raytune_hpo.cli.run import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from rich.console import Console

    from raytune_hpo.execution.run import resume
    from raytune_hpo.report.progress import Progress

    console = Console(stderr=options.json)
    listener = Progress(console, quiet=options.quiet)
    results = resume(options.run_dir, address=options.address, listener=listener, verbose=options.verbose)
    return finish(results, options, console)
