"""raytune-hpo plot RUN_DIR KIND -o x.png"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from raytune_hpo.checks import no_such
from raytune_hpo.cli.arguments import say
from raytune_hpo.errors import ExperimentError
from raytune_hpo.figures.kinds import KINDS, panels, titled_panels
from raytune_hpo.figures.pictures import FORMATS, drawn
from raytune_hpo.printable import printable

ALL = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("kind", metavar="KIND", help=f"{', '.join(KINDS)}; or all that the run has something for")
    parser.add_argument(
        "-o", "--output", required=True, help=f"the file to write, .{', .'.join(FORMATS)}; of `all` a folder"
    )
    parser.add_argument("--format", choices=FORMATS, help="of `all` (default: png)")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.atomic import write_atomically
    from raytune_hpo.results.facts import facts
    from raytune_hpo.results.results import load_results

    if options.kind not in (ALL, *KINDS):
        raise ExperimentError("figure", options.kind, no_such("kind of figure", options.kind, [*KINDS, ALL]))
    target, form = Path(options.output), _format(options)
    results = load_results(options.run_dir)
    _check(target, folder=options.kind == ALL)
    found = facts(results)
    kinds = [options.kind] if options.kind != ALL else [kind for kind in KINDS if panels(found, kind)]
    if not kinds:
        raise ExperimentError("figure", ALL, "this run has nothing to show yet")
    made, why = drawn([titled_panels(found, kind) for kind in kinds], form)
    files = [target if options.kind != ALL else target / f"{kind}.{form}" for kind in kinds]
    try:
        if options.kind == ALL:
            target.mkdir(exist_ok=True)
        for file, data in zip(files, made, strict=True):
            write_atomically(file, data)
    except OSError as error:
        raise ExperimentError("--output", str(target), f"cannot be written: {error.strerror or error}") from error
    if why is not None:
        print(f"raytune-hpo: drawn by matplotlib: {printable(why)}", file=sys.stderr)
    for file, data in zip(files, made, strict=True):
        say(f"{file}: {len(data) / 1000:.0f} kB")
    return 0


def _format(options: argparse.Namespace) -> str:
    if options.kind == ALL:
        return options.format or "png"
    if options.format is not None:
        raise ExperimentError("--format", options.format, "is of `all`; of one kind the file's ending says it")
    ending = Path(options.output).suffix[1:].lower()
    if ending not in FORMATS:
        raise ExperimentError("--output", options.output, f"must end on .{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]}")
    return ending


def _check(target: Path, *, folder: bool) -> None:
    if not target.absolute().parent.is_dir():
        raise ExperimentError("--output", str(target), "must be in a folder that there is")
    if folder and target.exists() and not target.is_dir():
        raise ExperimentError("--output", str(target), "must be a folder, for all kinds")
    if not folder and target.is_dir():
        raise ExperimentError("--output", str(target), "must be a file")
