"""raytune-hpo panda FILE"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import (
    add_experiment,
    add_listen,
    add_run_options,
    changes_of,
    entry_of,
    listeners_of,
    own_stdout,
)
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.file import load_experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(
        parser,
        run_dir="to train one model of its experiment",
        examples="max_epochs=200, scheduler.patience=20, space.lr=0.01",
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="RUN_DIR",
        help="start with the config of this run's winner (default: the first of start_points, else each "
        "hyperparameter's default)",
    )
    parser.add_argument("--run-dir", help="the folder of the run, new or empty (default: one under the storage folder)")
    add_listen(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    experiment, start = panda_experiment(options)
    from raytune_hpo.cli.run import finish, screen_of
    from raytune_hpo.display.screen import run

    listeners = listeners_of(options)
    with own_stdout(options):
        results = run(
            experiment,
            options.run_dir,
            address=options.address,
            listeners=listeners,
            source=entry_of(options.file),
            verbose=options.verbose,
            screen=screen_of(options, start),
        )
    return finish(results, options)


def panda_experiment(options: argparse.Namespace) -> tuple[Experiment, str]:
    """The file's experiment as one model under care, and where its first config comes from. Raises ExperimentError."""
    changes, loaded = changes_of(options), load_experiment(options.file)
    experiment = loaded.as_panda(changes)
    if options.start is None:
        if changes.get("start_points", loaded.start_points):
            return experiment, "the first of start_points"
        return experiment, "the usual defaults (--from RUN_DIR: with the config of a run's winner)"
    from raytune_hpo.results.results import load_results

    best = load_results(options.start).best
    if best is None:
        raise ExperimentError("--from", options.start, "has no report yet")
    return experiment.override({"start_points": [best.config]}), f"the config of {best.trial_id}, the winner of --from"
