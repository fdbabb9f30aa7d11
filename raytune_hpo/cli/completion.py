"""raytune-hpo completion SHELL"""

from __future__ import annotations

import argparse
import sys

from raytune_hpo.errors import ExperimentError

SHELLS = ("bash", "fish", "zsh")
FOLDERS, FILES = ("run_dir", "run_dirs", "path", "storage", "model"), ("file", "inputs", "output")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the script goes to stdout")


def main(options: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise ExperimentError(
            "completion", options.shell, "needs shtab: pip install 'raytune-hpo[completion]'"
        ) from error
    from raytune_hpo.cli.main import parser
    from raytune_hpo.figures import KINDS

    top = parser()
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                for own in verb._actions:
                    if own.dest == "kind":  # (the verb itself knows nearer what was meant than argparse does)
                        own.choices = [*KINDS, "all"]
                    if own.dest in FOLDERS or own.dest in FILES:
                        own.complete = shtab.DIRECTORY if own.dest in FOLDERS else shtab.FILE
    sys.stdout.write(shtab.complete(top, shell=options.shell))
    return 0
