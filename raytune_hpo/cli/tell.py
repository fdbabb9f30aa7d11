"""raytune-hpo tell RUN_DIR TRIAL --metrics '{"loss": 0.3}'"""

from __future__ import annotations

import argparse
import json
from typing import Any

from raytune_hpo.cli.ask import LEASE_S, TOKEN
from raytune_hpo.errors import ExperimentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument("trial", help="as `ask` has named it")
    parser.add_argument("--metrics", metavar="JSON", help='name: number; alone: the trial is over, as {"loss": 0.3}')
    parser.add_argument("--epoch", type=int, metavar="N", help="what this epoch has shown; the trial may go on")
    parser.add_argument("--checkpoint", metavar="DIR", help="with --epoch: a folder to go on from, which is copied")
    parser.add_argument("--error", metavar="TEXT", help="the trial has failed")
    parser.add_argument(
        "--lease", type=float, default=LEASE_S, metavar="SECONDS", help=f"as of ask, from now on (default {LEASE_S:g})"
    )
    parser.epilog = (
        'Prints {"decision": "continue"} or {"decision": "stop"}: then nothing more is to be told of the trial.'
    )


def main(options: argparse.Namespace) -> int:
    from raytune_hpo.asking import open_run

    metrics = None if options.metrics is None else _metrics(options.metrics)
    if options.epoch is not None and metrics is None:
        raise ExperimentError("--epoch", options.epoch, "needs --metrics: what it has shown")
    if options.epoch is not None and options.error is not None:
        raise ExperimentError("--error", options.error, "ends the trial, and goes without --epoch")
    if options.checkpoint is not None and options.epoch is None:
        raise ExperimentError("--checkpoint", options.checkpoint, "goes with --epoch, whose state it is")
    decision = "stop"
    with open_run(None, options.run_dir, lease_s=options.lease, token=TOKEN) as run:
        if options.epoch is not None and metrics is not None:
            decision = run.report(options.trial, options.epoch, metrics, options.checkpoint)
        else:
            run.tell(options.trial, metrics, error=options.error)
    print(json.dumps({"decision": decision}))
    return 0


def _metrics(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ExperimentError("--metrics", text, f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ExperimentError("--metrics", text, "must be an object, name: number")
    return found
