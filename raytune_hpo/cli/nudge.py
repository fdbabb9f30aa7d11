"""raytune-hpo nudge RUN_DIR NAME=VALUE..."""

from __future__ import annotations

import argparse

from raytune_hpo.cli.intervention import add_common, panda_of, send
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment.file import parse_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("changes", nargs="+", metavar="NAME=VALUE", help="such as lr=0.003 momentum=0.95")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.interventions import checked_changes

    changes = {}
    for text in options.changes:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ExperimentError("nudge", text, "must be NAME=VALUE")
        changes[name] = parse_value(value)
    run = panda_of(options.run_dir)
    return send(options, run, "nudge", changes=checked_changes(run.experiment, run.trial.config, changes))
