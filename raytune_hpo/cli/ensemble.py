"""raytune-hpo ensemble RUN_DIR"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.cli.arguments import add_code, add_json, add_quiet, print_json, say, shown_headway
from raytune_hpo.errors import ExperimentError

if TYPE_CHECKING:
    from raytune_hpo.ensembles.ensemble import Ensemble
    from raytune_hpo.results.sealed_test import Opening


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("-k", type=int, default=10, metavar="N", help="members at most, 2 to 100 (default: 10)")
    parser.add_argument(
        "--method",
        default="greedy",
        help="greedy: selection over all kept checkpoints (default); top: the N best trials; snapshot: the "
        "winner's own checkpoints",
    )
    parser.add_argument("-o", "--output", metavar="FOLDER", help="write the ensemble as one model, new or empty folder")
    test = parser.add_mutually_exclusive_group()
    test.add_argument("--again", action="store_true", help="open the test split a second time, and record that")
    test.add_argument("--no-test", action="store_true", help="leave the test split sealed: validation figures only")
    add_code(parser)
    add_json(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.ensembles.ensemble import Builder
    from raytune_hpo.experiment.reopened import reopened
    from raytune_hpo.results.export import check_target
    from raytune_hpo.results.results import load_results
    from raytune_hpo.storage.run_directory import RunDirectory

    directory = RunDirectory.open(options.run_dir)
    output = None if options.output is None else Path(options.output).absolute()
    if output is not None:
        check_target(output)
    directory.lock()
    try:
        with reopened(directory, code=options.code) as taken:
            experiment = taken.say().resolved
            with shown_headway(options) as headway:
                builder = Builder(directory, load_results(directory.path), experiment, headway)
                ensemble = builder.choose(options.method, options.k)
                opening = None if options.no_test else builder.test(ensemble, again=options.again)
            for notice in ensemble.notices:
                say(f"notice: {notice}", file=sys.stderr)
            if options.json:
                print_json({"run_dir": str(directory.path), **ensemble.to_json(opening)})
            else:
                _show(ensemble, opening, builder.results.experiment["space"])
            if output is not None:
                with shown_headway(options) as builder.headway:
                    files = builder.export(ensemble, opening, output, taken.code)
                say(f"{options.output}: {', '.join(files)}", file=sys.stderr if options.json else sys.stdout)
    except OSError as error:
        raise ExperimentError("storage", error.filename or str(directory.path), str(error.strerror or error)) from error
    finally:
        directory.unlock()
    return 0


def _show(ensemble: Ensemble, opening: Opening | None, space: Mapping[str, Any]) -> None:
    from raytune_hpo.display.summary import shown_config, shown_value
    from raytune_hpo.results.text_table import plural, text_table

    say(f"{ensemble.method}: {plural(len(ensemble.members), 'member')} of {plural(ensemble.looked_at, 'checkpoint')}")
    weighted = sorted(zip(ensemble.members, ensemble.weights, strict=True), key=lambda pair: -pair[1])
    rows = [
        [
            member.record.trial,
            str(member.record.epoch),
            f"{weight:.3g}",
            shown_value(member.validation[ensemble.metric]),
            shown_config(member.config, space),
        ]
        for (member, _), weight in weighted
    ]
    say(text_table(["trial", "epoch", "weight", f"validation {ensemble.metric}", "config"], rows))
    single = ensemble.single
    say(
        "validation: "
        + ", ".join(f"{k} {v:.5g} (single {single.validation[k]:.5g})" for k, v in ensemble.validation.items())
        + f"; single: {single.record.trial} at epoch {single.record.epoch}"
    )
    if opening is None or opening.metrics is None:
        say("test:       sealed")
        return
    found = opening.metrics
    names = [name.removeprefix("test_") for name in found if name.startswith("test_")]
    pairs = [(n, _shown(found.get(f"test_{n}")), _shown(found.get(f"single_test_{n}"))) for n in names]
    figures = ", ".join(f"{n} {own} (single {single})" for n, own, single in pairs)
    say(f"test:       {figures}; opened {opening.begun}{', again' if opening.again else ''}")
    for name in names:
        gain, low, high = (found.get(f"gain_{name}{end}") for end in ("", "_low", "_high"))
        if gain is not None and low is not None and high is not None:
            say(f"gain:       {name} {gain:+.4g}, 95 % interval {low:+.4g} to {high:+.4g}: {_verdict(low, high)}")
    say(f"            (paired bootstrap over {opening.figures['samples']:.0f} test samples, positive is better)")


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.5g}"


def _verdict(low: float, high: float) -> str:
    if low <= 0 <= high:
        return "it contains 0, so this may be chance"
    return "better than the single winner" if low > 0 else "worse than the single winner"
