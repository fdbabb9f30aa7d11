"""raytune-hpo serve FILE RUN_DIR"""

from __future__ import annotations

import argparse
import time

from raytune_hpo.cli.arguments import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", help="a Python file that defines `experiment`, whose task may be None")
    parser.add_argument("run_dir", help="the folder of the run, which is begun or gone on with")
    parser.epilog = "Owns the run until it is over, so that each ask and tell need not. Ctrl-C ends it; the run stays."


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.asking import open_run

    with open_run(options.experiment, options.run_dir) as run:
        say(f"serving {run.run_dir}: raytune-hpo ask {options.run_dir}")
        while not run.is_over:
            time.sleep(0.2)
    say("the run is over")
    return 0
