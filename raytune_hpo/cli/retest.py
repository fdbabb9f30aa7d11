"""raytune-hpo retest RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_run_options, changes_of, own_stdout, print_json, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("-k", type=int, default=5, metavar="N", help="how many of the old best configs (default: 5)")
    parser.add_argument("--fresh", type=int, default=5, metavar="N", help="how many random samples (default: 5)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="how often each is trained (default: 3)")
    parser.add_argument("--data", metavar="FOLDER", help="today's data: the task's option data_dir")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="changes",
        help="another option of the task, resources.NAME or max_concurrent (repeatable)",
    )
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from rich.console import Console

    from raytune_hpo.display.progress import Progress
    from raytune_hpo.display.retest_text import retest_text
    from raytune_hpo.engine.interrupt import EXIT_INTERRUPTED
    from raytune_hpo.storage.run_directory import RunDirectory
    from raytune_hpo.verdicts.retest import retest

    with own_stdout(options):
        made = retest(
            options.run_dir,
            options.k,
            options.fresh,
            options.seeds,
            data=options.data,
            changes=changes_of(options),
            address=options.address,
            listeners=[Progress(Console(stderr=options.json), quiet=options.quiet)],
            verbose=options.verbose,
        )
    if made is None:
        if options.json:
            print_json({"run_dir": options.run_dir, "status": "interrupted"})
        else:
            say("interrupted: the same command goes on")
        return EXIT_INTERRUPTED
    if options.json:
        print_json(made.to_json())
    else:
        space = RunDirectory.open(made.run_dir).description()["experiment"]["space"]
        say(retest_text(made, space["constants"]))
    return 1 if any(status == "failed" for row in made.rows for _, status in row.repeated.failures) else 0
