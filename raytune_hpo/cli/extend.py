"""raytune-hpo extend RUN_DIR --samples +64 --epochs 81 --time +2h"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.commanding import add_wait, say_answer
from raytune_hpo.errors import ExperimentError

FIELDS = {"samples": "num_samples", "epochs": "max_epochs", "time": "time_budget_s"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run: it may run, have been interrupted, or have finished")
    parser.add_argument("--samples", metavar="N", help="trials: so many more (+64), or in all (128)")
    parser.add_argument("--epochs", metavar="N", help="the last epoch: so many more (+54), or which (81)")
    parser.add_argument("--time", metavar="T", help="the time budget: so much more (+2h, +90m), or in all (8h)")
    add_wait(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.commanding import amend

    changes = {field: getattr(options, name) for name, field in FIELDS.items() if getattr(options, name) is not None}
    if not changes:
        raise ExperimentError("extend", options.run_dir, "needs --samples, --epochs or --time")
    say_answer("extend", amend(options.run_dir, changes, wait_s=options.wait), options.run_dir)
    return 0
