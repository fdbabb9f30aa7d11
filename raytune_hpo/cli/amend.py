"""raytune-hpo amend RUN_DIR --set FIELD=VALUE"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import changes_of, parse_changes
from raytune_hpo.cli.commanding import add_wait, say_answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run: it may run, have been interrupted, or have finished")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help="what is to change, such as num_samples=+64, max_epochs=81, max_concurrent=8, searcher=bayesopt, "
        "scheduler.grace_period=3 or 'space.lr=Float(1e-5, 1e-2, scale=\"log\")' (repeatable)",
    )
    parser.add_argument(
        "--default",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="defaults",
        help="what the trials so far have of a parameter that is new, where the task does not say (repeatable)",
    )
    add_wait(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.commanding import amend

    changes, defaults = changes_of(options), parse_changes(options.defaults, "--default")
    answer = amend(options.run_dir, changes, defaults=defaults, wait_s=options.wait)
    say_answer("amend", answer, options.run_dir)
    return 0
