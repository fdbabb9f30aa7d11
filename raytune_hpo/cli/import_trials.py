"""raytune-hpo import RUN_DIR --from OTHER_RUN

(The module is named otherwise since `import` is a word of Python's.)
"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.commanding import add_wait, say_answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run: it may run, have been interrupted, or have finished")
    parser.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="SOURCE",
        help="a run directory, optuna:sqlite:///x.db#STUDY, ray:FOLDER of Ray Tune's results, or a table runs.csv",
    )
    parser.add_argument("--metric", metavar="NAME", help="what the run's metric is called there, if it is another name")
    add_wait(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.commanding import import_trials

    answer = import_trials(options.run_dir, options.source, metric=options.metric, wait_s=options.wait)
    say_answer("import", answer, options.run_dir, goes_on=False)
    return 0
