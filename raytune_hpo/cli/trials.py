"""raytune-hpo trials RUN_DIR"""

from __future__ import annotations

import argparse
import sys

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.printable import printable_lines


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
        text = results.trials.to_csv(index=False)
        # Data stays as it is, except for a terminal, and what no encoding has.
        text = printable_lines(text) if sys.stdout.isatty() else text.encode("utf-8", "backslashreplace").decode()
        sys.stdout.write(text)
    else:
        from raytune_hpo.display.trial_table import round_table, trial_table

        say(trial_table(results))
        if results.rounds:
            say("\n" + round_table(results))
    return 0
