"""raytune-hpo max-batch FILE"""

from __future__ import annotations

import argparse
import dataclasses

from raytune_hpo import checks
from raytune_hpo.cli.arguments import (
    OF_A_MODEL,
    add_experiment,
    add_json,
    add_quiet,
    experiment_of,
    print_json,
    say,
    shown_headway,
)
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.training.task import Task

MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser, run_dir="to measure the models of its experiment", examples=OF_A_MODEL)
    parser.add_argument("--limit", type=int, help="try no larger batch than this")
    add_json(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    experiment = experiment_of(options).resolved
    task = experiment.task
    if not isinstance(task, Task):
        raise ExperimentError("task", "a function trainable", "trains by itself; max-batch needs a Task")
    if options.limit is not None:
        checks.integer("--limit", options.limit, 1)
    task.prepare()
    from raytune_hpo.display.summary import shown_config
    from raytune_hpo.probes.max_batch import max_batch

    data = experiment.recipe().load()
    try:
        with shown_headway(options) as headway:
            found = max_batch(task, data, experiment.space, experiment.seed, limit=options.limit, headway=headway)
    except TrialError as error:
        raise ExperimentError("task", type(task).__name__, f"cannot be trained: {error}") from error
    if options.json:
        print_json(dataclasses.asdict(found))
        return 0
    model = {k: v for k, v in found.config.items() if k in task.structural_hyperparameters()}
    say(f"{experiment.name}: the largest model has {found.parameters:,} parameters: {shown_config(model)}")
    why = {
        "memory": f"twice as much would not fit into {found.free_bytes / MIB:,.0f} MiB of free memory",
        "data": f"there are {len(data.train):,} training samples",
        "limit": "--limit",
    }[found.bound]
    if found.batch_size == 0:
        say(f"no batch fits on {found.device}: {found.free_bytes / MIB:,.0f} MiB are free")
        return 1
    for tried in found.tried[-3:]:
        say(f"  batch {tried.batch_size:>6}: {tried.bytes / MIB:,.0f} MiB at its peak")
    say(f"largest batch on {found.device}: {found.batch_size} (bound by: {why})")
    return 0
