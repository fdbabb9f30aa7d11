"""raytune-hpo retry RUN_DIR [TRIAL...]"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_run_options, own_stdout
from raytune_hpo.cli.run import finish, screen_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run, interrupted or finished")
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help="which failed trials (default: all that failed)")
    add_code(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.display.screen import retry

    with own_stdout(options):
        results = retry(
            options.run_dir,
            options.trials or None,
            code=options.code,
            address=options.address,
            verbose=options.verbose,
            screen=screen_of(options),
        )
    return finish(results, options)
