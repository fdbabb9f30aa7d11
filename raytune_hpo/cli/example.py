"""raytune-hpo example [NAME]"""

from __future__ import annotations

import argparse
import ast
import shutil
import sys
from pathlib import Path

from raytune_hpo.checks import no_such
from raytune_hpo.cli.arguments import say
from raytune_hpo.errors import ExperimentError

PACKAGE = Path(__file__).resolve().parents[1]
#: Where setup.py puts the files of experiments/ in a wheel, and where they are in a checkout.
FOLDERS = (PACKAGE / "examples", PACKAGE.parent / "experiments")
#: What the header of an experiment says that looks for its data, and may fetch them.
DATA = "RAYTUNE_HPO_DATA"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="print this one's file (default: list them)")


def main(options: argparse.Namespace) -> int:
    files = examples()
    if options.name is None:
        from raytune_hpo.results.text_table import text_table

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        rows = [[name, _header(file).partition("\n")[0]] for name, file in files.items()]
        say(text_table(["example", "what it shows"], rows, width))
        say("\nraytune-hpo example digits > my.py     writes one to a file, raytune-hpo run my.py runs it.")
        needy = [name for name, file in files.items() if DATA in _header(file)]
        say(f"Data that are not part of the installation are needed by: {', '.join(needy)}.")
        return 0
    if options.name not in files:
        raise ExperimentError("example", options.name, no_such("example", options.name, files))
    # Its header names the file as it lies in the repository.
    sys.stdout.write(files[options.name].read_text().replace("experiments/", ""))
    return 0


def examples() -> dict[str, Path]:
    """The experiment files that come with the package, by name. Raises ExperimentError."""
    for folder in FOLDERS:
        files = {file.stem: file for file in sorted(folder.glob("*.py"))}
        if files:
            return files
    raise ExperimentError("example", str(FOLDERS[0]), "has no files: this installation is not whole, install it again")


def _header(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text())) or ""
