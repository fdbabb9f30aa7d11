"""raytune-hpo pause RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.intervention import add_common, panda_of, send
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)


def main(options: argparse.Namespace) -> int:
    run = panda_of(options.run_dir)
    if not run.is_running:
        raise ExperimentError("run directory", options.run_dir, "no process runs it: there is nothing to pause")
    return send(options, run, "pause")
