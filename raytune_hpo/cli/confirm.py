"""raytune-hpo confirm RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_run_options, own_stdout, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("-k", type=int, default=5, metavar="N", help="how many of the best configs (default: 5)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="how often each is trained (default: 5)")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--again", action="store_true", help="open the test split a second time, and record that")
    test.add_argument("--no-test", action="store_true", help="leave the test split sealed: validation figures only")
    add_code(parser)
    add_run_options(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.cli.run import screen_of
    from raytune_hpo.display.verdict_screen import confirm
    from raytune_hpo.engine.interrupt import EXIT_INTERRUPTED

    with own_stdout(options):
        made = confirm(
            options.run_dir,
            options.k,
            options.seeds,
            test=not options.no_test,
            again=options.again,
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
    return 1 if any(status == "failed" for c in made.contenders for _, status in c.repeated.failures) else 0
