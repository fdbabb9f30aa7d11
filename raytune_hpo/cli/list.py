"""raytune-hpo list [STORAGE]"""

from __future__ import annotations

import argparse
from pathlib import Path

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("storage", nargs="?", default="runs", help="the folder of run directories (default: runs)")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.listing import Listing
    from raytune_hpo.results.text_table import text_table

    storage = Path(options.storage)
    if not storage.is_dir():
        expected = "is no folder; raytune-hpo list FOLDER lists the runs of another"
        raise ExperimentError("storage", options.storage, expected)
    found = Listing(storage).runs()
    if options.json:
        print_json({"storage": str(storage), "runs": found})
        return 0
    rows = []
    for one in found:
        name = Path(one["run_dir"]).name
        if one["status"] == "damaged":
            rows.append([name, "damaged", "", "", "", one["reason"]])
            continue
        best = "-" if one["best"] is None else f"{one['best']:.5g}"
        rows.append([name, one["status"], one["created"][:19], str(one["trials"]), one["metric"], best])
    if rows:
        say(text_table(["run", "status", "begun", "trials", "metric", "best"], rows))
    else:
        say(f"no runs in {options.storage}")
    return 0
