"""What nudge, rollback, pause and resume share: the run they are meant for, and how a command is sent."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from raytune_hpo.cli.arguments import say
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.reopened import reopened
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers import SCHEDULERS, scheduler_class
from raytune_hpo.storage import commands
from raytune_hpo.storage.run_directory import RunDirectory

WAIT_S = 10.0


@dataclass(frozen=True)
class PandaRun:
    """A panda's run. is_running: whether a process has it now; held: paused by a person."""

    directory: RunDirectory
    experiment: ResolvedExperiment
    trial: TrialState
    is_running: bool
    held: bool


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", help="the folder of the run")
    parser.add_argument(
        "--wait", type=float, default=WAIT_S, metavar="SECONDS", help="how long to wait until it is taken (default 10)"
    )


def panda_of(run_dir: str) -> PandaRun:
    """Raises ExperimentError unless `run_dir` holds a panda's run that has begun and is not finished."""
    from raytune_hpo.results.results import load_results

    results = load_results(run_dir)
    directory = RunDirectory.open(run_dir)
    if not takes_commands(directory):
        scheduler = results.experiment["scheduler"]["name"]
        raise ExperimentError(
            "run directory", run_dir, f"is a run under {scheduler}; only a panda's takes interventions"
        )
    if results.status == "finished":
        raise ExperimentError("run directory", run_dir, "has finished")
    trial = next(iter(results.ledger.trials.values()), None)
    if trial is None or not (trial.metrics or trial.epoch):
        raise ExperimentError("run directory", run_dir, "has no finished epoch yet")
    with reopened(directory) as taken:
        experiment = taken.say().resolved
    return PandaRun(directory, experiment, results.kept(trial), directory.in_use(), results.ledger.held)


def takes_commands(directory: RunDirectory) -> bool:
    """Whether a person may change the trials of a run while they train."""
    name = directory.description()["experiment"]["scheduler"]["name"]
    return name in SCHEDULERS and scheduler_class(name).takes_commands


def send(options: argparse.Namespace, run: PandaRun, command: str, **arguments: object) -> int:
    """Leave the command, wait for its fate, print it. Exit code 2 if it was refused."""
    path = run.directory.path
    answers = commands.Answers(path, run.directory.description()["run_id"])
    command_id = commands.send(path, command, **arguments)
    if not run.is_running:
        say(f"{command}: noted; no process runs it now, so it is taken when the run is resumed")
        return 0
    event = answers.wait_for(command_id, options.wait)
    if event is None:
        say(f"{command}: noted; it is taken at the end of the running epoch")
        return 0
    if not event.applied:
        raise ExperimentError(command, command_id, f"was refused: {event.outcome}")
    say(event.outcome)
    return 0
