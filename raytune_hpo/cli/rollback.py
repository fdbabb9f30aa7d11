"""raytune-hpo rollback RUN_DIR --epoch N"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.intervention import add_common, panda_of, send


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument(
        "--epoch",
        type=int,
        required=True,
        help="the epoch to go back to; it must have a checkpoint. The weights are that epoch's, the config stays "
        "today's: nudge it as well where it is what went wrong",
    )


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.interventions import checkpoint_of

    run = panda_of(options.run_dir)
    return send(options, run, "rollback", epoch=checkpoint_of(run.trial, options.epoch).epoch)
