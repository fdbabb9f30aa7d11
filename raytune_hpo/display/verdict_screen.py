"""confirm and retest with what people see of them, alike from Python and on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.display.confirm_text import confirm_text
from raytune_hpo.display.retest_text import retest_text
from raytune_hpo.display.screen import Screen
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import CodeChoice
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.verdicts import confirm as confirming
from raytune_hpo.verdicts import retest as retesting
from raytune_hpo.verdicts.confirmation import Confirmation
from raytune_hpo.verdicts.retesting import Retest


def confirm(
    run_dir: str | Path,
    k: int = 5,
    seeds: int = 5,
    *,
    test: bool = True,
    again: bool = False,
    task: Task | FunctionTrainable | None = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    quiet: bool = False,
    verbose: bool = False,
    screen: Screen | None = None,
) -> Confirmation | None:
    """Train the k best distinct configs of a run `seeds` times each, and judge them; None if it was interrupted.

    How it goes, and the judgement, are shown as those of `run` are. The rest as of `verdicts.confirm.confirm`.
    """
    screen = screen or Screen.of(quiet)
    with screen.headway() as headway:
        made = confirming.confirm(
            run_dir,
            k,
            seeds,
            test=test,
            again=again,
            task=task,
            code=code,
            address=address,
            listeners=[*screen.listeners(), *listeners],
            verbose=verbose,
            headway=headway,
        )
    if screen.closing:
        screen.say("interrupted: the same command goes on" if made is None else confirm_text(made, space_of(made)))
    return made


def retest(
    run_dir: str | Path,
    k: int = 5,
    fresh: int = 5,
    seeds: int = 3,
    *,
    data: str | None = None,
    changes: Mapping[str, Any] | None = None,
    task: Task | FunctionTrainable | None = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    quiet: bool = False,
    verbose: bool = False,
    screen: Screen | None = None,
) -> Retest | None:
    """Train the k old best configs and `fresh` random samples of the space `seeds` times each, and judge the old one.

    How it goes, and the judgement, are shown as those of `run` are. The rest as of `verdicts.retest.retest`.
    """
    screen = screen or Screen.of(quiet)
    with screen.headway() as headway:
        made = retesting.retest(
            run_dir,
            k,
            fresh,
            seeds,
            data=data,
            changes=changes,
            task=task,
            code=code,
            address=address,
            listeners=[*screen.listeners(), *listeners],
            verbose=verbose,
            headway=headway,
        )
    if screen.closing:
        screen.say("interrupted: the same command goes on" if made is None else retest_text(made, space_of(made)))
    return made


def space_of(made: Confirmation | Retest) -> Mapping[str, Any]:
    space: Mapping[str, Any] = RunDirectory.open(made.run_dir).description()["experiment"]["space"]
    return space
