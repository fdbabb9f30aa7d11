"""raytune-hpo report RUN_DIR... -o report.html"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from raytune_hpo.cli.arguments import add_json, print_json, say
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dirs", nargs="+", metavar="RUN_DIR", help="the folder of a run; several: side by side")
    parser.add_argument("-o", "--output", metavar="FILE", help="the page to write (default: RUN_DIR's name .html here)")
    add_json(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.atomic import write_atomically
    from raytune_hpo.pages.document import document
    from raytune_hpo.results.results import load_results
    from raytune_hpo.storage.run_directory import DESCRIPTION

    documents = [document(load_results(run_dir)) for run_dir in options.run_dirs]
    if options.json:
        print_json({"runs": documents})
        if options.output is None:
            return 0
    from raytune_hpo.pages.page import page

    names = "-".join(Path(os.path.normpath(one["run"]["run_dir"])).name for one in documents)
    target = Path(options.output or f"{names[:60]}.html")
    if (os.path.lexists(target) and not target.is_file()) or not target.absolute().parent.is_dir():
        raise ExperimentError("--output", str(target), "must be a file, in a folder that there is")
    if target.is_file() and (target.absolute().parent / DESCRIPTION).exists() and target.suffix != ".html":
        raise ExperimentError("--output", str(target), "is one of a run's own files")
    html = page(documents)
    try:
        write_atomically(target, html.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise ExperimentError("--output", str(target), f"cannot be written: {error.strerror or error}") from error
    if not options.json:
        say(f"{target}: {len(html) / 1e6:.1f} MB")
    return 0
