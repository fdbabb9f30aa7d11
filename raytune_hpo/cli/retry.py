"""raytune-hpo retry RUN_DIR [TRIAL...]"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_listen, add_run_options, listeners_of, own_stdout
from raytune_hpo.cli.run import finish, screen_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run, interrupted or finished")
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="which failed trials (default: all that failed)")
    add_code(parser)
    add_listen(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.display.screen import retry

    listeners = listeners_of(options)
    with own_stdout(options):
        results = retry(
            options.run_dir,
            options.trials or None,
            code=options.code,
            address=options.address,
            listeners=listeners,
            verbose=options.verbose,
            screen=screen_of(options),
        )
    return finish(results, options)
