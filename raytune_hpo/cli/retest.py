"""raytune-hpo retest RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_run_options, changes_of, own_stdout, print_json


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
    add_code(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.cli.run import screen_of
    from raytune_hpo.display.verdict_screen import retest
    from raytune_hpo.engine.interrupt import EXIT_INTERRUPTED

    with own_stdout(options):
        made = retest(
            options.run_dir,
            options.k,
            options.fresh,
            options.seeds,
            data=options.data,
            changes=changes_of(options),
            code=options.code,
            address=options.address,
            verbose=options.verbose,
            screen=screen_of(options),
        )
    if made is None:
        if options.json:
            print_json({"run_dir": options.run_dir, "status": "interrupted"})
        return EXIT_INTERRUPTED
    if options.json:
        print_json(made.to_json())
    return 1 if any(status == "failed" for row in made.rows for _, status in row.repeated.failures) else 0
