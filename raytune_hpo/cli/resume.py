"""raytune-hpo resume RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_listen, add_notify, add_run_options, listeners_of, own_stdout
from raytune_hpo.cli.intervention import WAIT_S
from raytune_hpo.cli.run import finish, screen_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.set_defaults(wait=WAIT_S)
    add_code(parser)
    add_listen(parser)
    add_notify(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.cli.intervention import panda_of, send
    from raytune_hpo.display.screen import resume
    from raytune_hpo.results.results import load_results
    from raytune_hpo.storage.run_directory import RunDirectory

    if load_results(options.run_dir).ledger.held and RunDirectory.open(options.run_dir).in_use():
        return send(options, panda_of(options.run_dir), "resume")  # a person's pause of a living process
    listeners = listeners_of(options)
    if options.notify is not None:
        from raytune_hpo.engine.commanding import amend

        recorded = RunDirectory.open(options.run_dir).description()["experiment"]
        changes = {name: options.notify for name in ("on_finish", "on_failure") if recorded.get(name) != options.notify}
        if changes:
            amend(options.run_dir, changes)
    with own_stdout(options):
        results = resume(
            options.run_dir,
            code=options.code,
            address=options.address,
            listeners=listeners,
            verbose=options.verbose,
            screen=screen_of(options),
        )
    return finish(results, options)
