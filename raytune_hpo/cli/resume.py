"""raytune-hpo resume RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_run_options, own_stdout
from raytune_hpo.cli.intervention import WAIT_S
from raytune_hpo.cli.run import finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.set_defaults(wait=WAIT_S)
    add_code(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from rich.console import Console

    from raytune_hpo.cli.intervention import panda_of, send, takes_commands
    from raytune_hpo.display.panda_display import PandaProgress
    from raytune_hpo.display.progress import Progress
    from raytune_hpo.engine.run import resume
    from raytune_hpo.results.results import load_results
    from raytune_hpo.storage.run_directory import RunDirectory

    if load_results(options.run_dir).ledger.held and RunDirectory.open(options.run_dir).in_use():
        return send(options, panda_of(options.run_dir), "resume")  # a person's pause of a living process
    console = Console(stderr=options.json)
    display = PandaProgress if takes_commands(RunDirectory.open(options.run_dir)) else Progress
    listeners = [display(console, quiet=options.quiet)]
    with own_stdout(options):
        results = resume(
            options.run_dir,
            code=options.code,
            address=options.address,
            listeners=listeners,
            verbose=options.verbose,
        )
    return finish(results, options, console)
