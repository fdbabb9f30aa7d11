"""raytune-hpo export RUN_DIR -o FOLDER, or a run for another tool: --to NAME"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_hpo.cli.arguments import add_code, add_quiet, say, shown_headway
from raytune_hpo.errors import ExperimentError
from raytune_hpo.results.text_table import plural

if TYPE_CHECKING:
    from raytune_hpo.results.results import Results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("-o", "--output", required=True, help="the folder to write, new or empty; with --to a new one")
    parser.add_argument("--trial", help="a trial's id (default: the winner)")
    parser.add_argument(
        "--to",
        choices=("csv", "mlflow", "optuna", "parquet", "tensorboard", "wandb"),
        help="write the run, not a model: a folder of tables, of TensorBoard's event files, of an MLflow store or of "
        "W&B's offline runs, or an Optuna study (a database where the name ends on .db, else a journal)",
    )
    add_code(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.export import export
    from raytune_hpo.results.results import load_results

    results = load_results(options.run_dir)
    if options.to is not None:
        return _exported(results, options)
    try:
        with shown_headway(options) as headway:
            files = export(results, Path(options.output), options.trial, code=options.code, headway=headway)
    except OSError as error:
        raise ExperimentError("--output", options.output, f"cannot be written: {error.strerror or error}") from error
    say(f"{options.output}: {', '.join(files)}")
    return 0


def _exported(results: Results, options: argparse.Namespace) -> int:
    from raytune_hpo.exports.exports import export_to

    if options.trial is not None:
        raise ExperimentError("--trial", options.trial, "is of a model's export; --to writes all trials")
    try:
        with shown_headway(options) as headway:
            export_to(results, options.to, Path(options.output), code=options.code, headway=headway)
    except OSError as error:
        raise ExperimentError("--output", options.output, f"cannot be written: {error.strerror or error}") from error
    say(f"{options.output}: {plural(len(results.ledger.trials), 'trial')}")
    return 0
