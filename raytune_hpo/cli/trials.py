"""raytune-hpo trials RUN_DIR"""

from __future__ import annotations

import argparse
import sys

from raytune_hpo.cli.arguments import add_json, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    form = parser.add_mutually_exclusive_group()
    add_json(form)  # type: ignore[arg-type]  # a group takes the same calls
    form.add_argument("--csv", action="store_true", help="print comma-separated values")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.results import load_results

    results = load_results(options.run_dir)
    if options.json:
        document = {"run_dir": str(results.run_dir), "status": results.status, "trials": results.rows()}
        print_json({**document, "rounds": results.rounds})
    elif options.csv:
        results.trials.to_csv(sys.stdout, index=False)
    else:
        from raytune_hpo.display.trial_table import round_table, trial_table

        print(trial_table(results))
        if results.rounds:
            print("\n" + round_table(results))
    return 0
