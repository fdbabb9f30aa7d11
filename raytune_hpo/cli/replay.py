"""raytune-hpo replay RUN_DIR"""

from __future__ import annotations

import argparse

from raytune_hpo.cli.arguments import add_code, add_quiet, say, shown_headway


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("--trial", help="a trial's id, for its newest checkpoint (default: the winner's best one)")
    add_code(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.results.results import load_results
    from raytune_hpo.results.text_table import plural
    from raytune_hpo.verdicts.replay import replay

    with shown_headway(options) as headway:
        replayed = replay(load_results(options.run_dir), options.trial, say, code=options.code, headway=headway)
    epochs, segments = plural(replayed.epochs, "epoch"), plural(len(replayed.segments), "segment")
    what = f"{replayed.trial}: {epochs} in {segments} trained again"
    if replayed.differing and replayed.of_lane:
        say(f"{what}: not the same to the bit, which only lanes of linear layers promise: {_some(replayed.differing)}")
        return 1
    if replayed.differing:
        say(f"{what}: DIFFERENT from {replayed.checkpoint} in {_some(replayed.differing)}")
        return 1
    say(f"{what}: the same weights, optimizer and random states to the bit")
    return 0


def _some(names: list[str]) -> str:
    return ", ".join(names[:5])
