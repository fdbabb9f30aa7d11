"""raytune-hpo lr-range FILE"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser, run_dir="to test the model of its experiment", examples=OF_A_MODEL)
    parser.add_argument("--low", type=float, default=1e-5, help="the first learning rate (default 1e-5)")
    parser.add_argument("--high", type=float, default=10.0, help="the last one (default 10)")
    parser.add_argument("--steps", type=int, default=500, help="optimizer steps from one to the other (default 500)")
    parser.add_argument("-o", "--output", help="the folder for lr_range.json and lr_range.png (default: under storage)")
    parser.add_argument("--apply", action="store_true", help="print the line for the space, to paste, and nothing else")
    add_json(parser)
    add_quiet(parser)


def main(options: argparse.Namespace) -> int:
    experiment = experiment_of(options).resolved
    task = experiment.task
    if not isinstance(task, Task):
        raise ExperimentError("task", "a function trainable", "trains by itself; a range test needs a Task")
    task.prepare()
    config = dict(experiment.start_points[0]) if experiment.start_points else experiment.usual_config()
    from raytune_hpo.atomic import write_atomically
    from raytune_hpo.display.lr_range_plot import lr_range_png
    from raytune_hpo.display.summary import shown_config, shown_path
    from raytune_hpo.probes.lr_range import lr_range_test

    recipe = experiment.recipe()
    data = recipe.data(recipe.load())[0]
    seed = recipe.trial_seed("lr-range")
    rates = {"low": options.low, "high": options.high, "steps": options.steps}
    try:
        with shown_headway(options) as headway:
            found = lr_range_test(task, data, config, seed, **rates, headway=headway)
    except TrialError as error:
        raise ExperimentError("task", type(task).__name__, f"cannot be trained: {error}") from error
    folder = Path(options.output or Path(experiment.storage) / f"{experiment.name}-lr-range")
    document = {"experiment": experiment.name, "config": config, **found.to_json()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "lr_range.json", (json.dumps(document, indent=2) + "\n").encode())
        write_atomically(folder / "lr_range.png", lr_range_png(found, f"{experiment.name}: learning-rate range test"))
    except OSError as error:
        raise ExperimentError("--output", str(folder), f"cannot be written: {error.strerror or error}") from error
    line = f'"lr": Float({found.low:.1e}, {found.high:.1e}, scale="log"),'
    if options.json:
        print_json(document)
    elif options.apply:
        say(line)
    else:
        config.pop("lr", None)
        say(f"{experiment.name}: {len(found.lrs)} steps of {shown_config(config)}")
        if not found.falls:
            say(f"the loss never falls between {found.low:.1e} and {found.high:.1e}: no range to suggest")
        else:
            say(f"range:    {found.low:.1e} to {found.high:.1e}, steepest at {found.point:.1e}")
            say(f"to paste: {line}")
        if found.exploded_at is not None:
            say(f"exploded: at {found.exploded_at:.1e}")
        say(f"written:  {shown_path((folder / 'lr_range.png').absolute())} and lr_range.json beside it")
    return 0
