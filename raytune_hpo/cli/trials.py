"""raytune-hpo trials RUN_DIR"""

from __future__ import annotations

import argparse
import shutil
import sys

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.printable import printable_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    form = parser.add_mutually_exclusive_group()
    add_json(form)  # type: ignore[arg-type]  # a group takes the same calls
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only trials for which it holds, as 'lr<0.01' or status=failed; several: all of them",
    )
    parser.add_argument("--sort", metavar="FIELD", help="in this order; -FIELD: the largest first (--sort=-best)")
    parser.add_argument("--columns", metavar="FIELDS", help="these columns, as best,lr,units (not of --json)")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.results import load_results
    from raytune_hpo.results.selection import check_columns, selected

    results = load_results(options.run_dir)
    rows = selected(results, options.where, options.sort)
    columns = options.columns.split(",") if options.columns is not None else None
    check_columns(results, columns or [])
    if options.json:
        document = {"run_dir": str(results.run_dir), "status": results.status, "trials": rows}
        print_json({**document, "rounds": results.rounds})
    elif options.csv:
        text = results.table(rows, columns).to_csv(index=False)
        # Data stays as it is, except for a terminal, and what no encoding has.
        text = printable_lines(text) if sys.stdout.isatty() else text.encode("utf-8", "backslashreplace").decode()
        sys.stdout.write(text)
    else:
        from raytune_hpo.display.trial_table import round_table, trial_table

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        say(trial_table(results, rows, columns, width))
        if results.rounds and not (options.where or options.sort or columns):
            say("\n" + round_table(results))
    return 0
