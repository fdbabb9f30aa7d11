"""raytune-hpo ask RUN_DIR"""

from __future__ import annotations

import argparse
import json
import sys

from raytune_hpo.cli.arguments import say
from raytune_hpo.errors import ExperimentError

OVER, NONE_NOW = 1, 3
#: What shells are known by: any of them may report what another one has asked for.
TOKEN = "shell"
LEASE_S = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run; with --experiment it may be one to begin")
    parser.add_argument("--experiment", metavar="FILE", help="begin the run of this file, where there is none yet")
    parser.add_argument(
        "--lease",
        type=float,
        default=LEASE_S,
        metavar="SECONDS",
        help=f"a trial that was not reported on for so long goes to somebody else (default {LEASE_S:g})",
    )
    parser.add_argument(
        "--wait", type=float, default=60.0, metavar="SECONDS", help="how long to wait for a trial (default 60)"
    )
    parser.epilog = (
        "Prints a trial as JSON: trial, config, epoch, checkpoint, seed. Exit code 1: the run is over; 3: there is "
        "none now, since others are to be reported on first."
    )


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.asking import open_run

    if options.wait < 0:
        raise ExperimentError("--wait", options.wait, "must be seconds, 0 or more")
    with open_run(options.experiment, options.run_dir, lease_s=options.lease, token=TOKEN) as run:
        try:
            trial = run.ask(timeout_s=options.wait)
        except TimeoutError as error:
            say(f"raytune-hpo: {error}", file=sys.stderr)
            return NONE_NOW
    if trial is None:
        return OVER
    place = None if trial.checkpoint is None else str(trial.checkpoint)
    document = {"trial": trial.id, "config": trial.config, "epoch": trial.epoch, "checkpoint": place}
    print(json.dumps({**document, "seed": trial.seed}))
    return 0
