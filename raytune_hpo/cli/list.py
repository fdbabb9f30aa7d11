"""raytune-hpo list [STORAGE]"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.errors import ExperimentError
from raytune_hpo.storage.run_directory import DESCRIPTION, RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("storage", nargs="?", default="runs", help="the folder of run directories (default: runs)")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.results import load_results
    from raytune_hpo.results.text_table import text_table

    storage = Path(options.storage)
    if not storage.is_dir():
        raise ExperimentError("storage", options.storage, "is no folder")
    found = sorted(path.parent for path in storage.glob(f"*/{DESCRIPTION}"))
    documents: list[dict[str, Any]] = []
    rows: list[list[str]] = []
    for path in found:
        try:
            results = load_results(path)
        except ExperimentError as error:  # one that is damaged hides no other
            documents.append({"run_dir": str(path), "status": "damaged", "reason": str(error)})
            rows.append([path.name, "damaged", "", "", "", str(error)])
            continue
        status = results.status
        if status == "running" and not RunDirectory(path).in_use():
            status = "killed"
        best, trials = results.best, len(results.ledger.trials)
        created = str(RunDirectory(path).description().get("created", ""))
        value = None if best is None else best.metric
        documents.append(
            {"run_dir": str(path), "status": status, "created": created, "trials": trials, "metric": results.metric,
             "best": value}
        )  # fmt: skip
        shown = "-" if value is None else f"{value:.5g}"
        rows.append([path.name, status, created[:19], str(trials), results.metric, shown])
    if options.json:
        print_json({"storage": str(storage), "runs": documents})
    elif rows:
        say(text_table(["run", "status", "begun", "trials", "metric", "best"], rows))
    else:
        say(f"no runs in {options.storage}")
    return 0
