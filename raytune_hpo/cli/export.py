"""raytune-hpo export RUN_DIR -o FOLDER"""

from __future__ import annotations

import argparse
from pathlib import Path

from raytune_hpo.cli.arguments import add_code, say
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("-o", "--output", required=True, help="the folder to write, new or empty")
    parser.add_argument("--trial", help="a trial's id (default: the winner)")
    add_code(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.export import export
    from raytune_hpo.results.results import load_results

    results = load_results(options.run_dir)
    try:
        files = export(results, Path(options.output), options.trial, code=options.code)
    except OSError as error:
        raise ExperimentError("--output", options.output, f"cannot be written: {error.strerror or error}") from error
    say(f"{options.output}: {', '.join(files)}")
    return 0
