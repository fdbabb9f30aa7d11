"""What the verbs share that command a run: arguments, and what is printed of the answer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raytune_hpo.cli.arguments import say
from raytune_hpo.storage.commands import WAIT_S

if TYPE_CHECKING:
    from raytune_hpo.engine.commanding import Answer


def add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=float,
        default=WAIT_S,
        metavar="SECONDS",
        help=f"how long to wait for the answer of the process that has the run (default {WAIT_S:g})",
    )


def say_answer(what: str, answer: Answer, run_dir: str, *, goes_on: bool = True) -> None:
    """goes_on: whether a run that no process has is to be resumed for it to take effect."""
    if answer.outcome is None:
        say(f"{what}: noted; the process that has the run has not answered yet")
        return
    say(answer.outcome)
    if goes_on and not answer.is_running:
        say(f"raytune-hpo resume {run_dir} goes on with it")


def give_each(run_dir: str, trials: Sequence[str], command: str, wait_s: float, **arguments: object) -> None:
    from raytune_hpo.engine.commanding import give

    for trial in trials:
        answer = give(run_dir, command, wait_s, trial=trial, **arguments)
        say_answer(command, answer, run_dir, goes_on=False)
