"""raytune-hpo trial stop|pause|continue|clone|promote|tag|note RUN_DIR TRIAL"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import parse_changes
from raytune_hpo.cli.commanding import add_wait, give_each, say_answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in {
        "stop": "end trials that run or wait",
        "pause": "let trials wait after their running epoch, until they are continued",
        "continue": "let paused trials go on",
    }.items():
        sub = actions.add_parser(name, allow_abbrev=False, help=text)
        _add_run(sub)
        sub.add_argument("trials", nargs="+", metavar="TRIAL")
        add_wait(sub)
    sub = actions.add_parser("clone", allow_abbrev=False, help="a new trial that goes on from another's checkpoint")
    _add_trial(sub)
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        dest="changes",
        metavar="NAME=VALUE",
        help="what its config has otherwise, such as lr=0.003 (repeatable)",
    )
    sub.add_argument("--epoch", type=int, help="the checkpoint of which epoch (default: the newest)")
    add_wait(sub)
    sub = actions.add_parser(
        "promote", allow_abbrev=False, help="let a trial train on, whatever the scheduler says, one that ended too"
    )
    _add_trial(sub)
    sub.add_argument("--epochs", type=int, help="up to which epoch (default: the run's max_epochs)")
    add_wait(sub)
    sub = actions.add_parser("tag", allow_abbrev=False, help="give a trial tags, for tables and reports")
    _add_trial(sub)
    sub.add_argument("tags", nargs="*", metavar="TAG")
    sub.add_argument("--remove", action="append", default=[], metavar="TAG", help="take a tag away (repeatable)")
    add_wait(sub)
    sub = actions.add_parser("note", allow_abbrev=False, help="write a note on a trial")
    _add_trial(sub)
    sub.add_argument("text", help="the note; an empty one takes it away")
    add_wait(sub)


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run: it may run, have been interrupted, or have finished")


def _add_trial(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("trial", metavar="TRIAL")


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.engine.commanding import give

    run_dir, wait_s = options.run_dir, options.wait
    match options.action:
        case "stop":
            give_each(run_dir, options.trials, "stop", wait_s)
        case "pause":
            give_each(run_dir, options.trials, "hold", wait_s)
        case "continue":
            give_each(run_dir, options.trials, "release", wait_s)
        case "clone":
            changes = parse_changes(options.changes)
            more = {} if options.epoch is None else {"epoch": options.epoch}
            say_answer("clone", give(run_dir, "clone", wait_s, trial=options.trial, changes=changes, **more), run_dir)
        case "promote":
            more = {} if options.epochs is None else {"epochs": options.epochs}
            say_answer("promote", give(run_dir, "promote", wait_s, trial=options.trial, **more), run_dir)
        case "tag":
            tags = {"tags": options.tags, "untag": options.remove}
            say_answer("tag", give(run_dir, "mark", wait_s, trial=options.trial, **tags), run_dir, goes_on=False)
        case _:
            answer = give(run_dir, "mark", wait_s, trial=options.trial, note=options.text)
            say_answer("note", answer, run_dir, goes_on=False)
    return 0
