"""confirm and retest with what people see of them, alike from Python and on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

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
    given: dict[str, Any] = {"test": test, "again": again, "task": task, "code": code, "address": address}
    return _shown(
        screen or Screen.of(quiet),
        lambda **shown: confirming.confirm(run_dir, k, seeds, **given, verbose=verbose, **shown),
        listeners,
        confirm_text,
    )


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
    given: dict[str, Any] = {"data": data, "changes": changes, "task": task, "code": code, "address": address}
    return _shown(
        screen or Screen.of(quiet),
        lambda **shown: retesting.retest(run_dir, k, fresh, seeds, **given, verbose=verbose, **shown),
        listeners,
        retest_text,
    )


V = TypeVar("V", Confirmation, Retest)


def _shown(
    screen: Screen,
    work: Callable[..., V | None],
    listeners: Sequence[Any],
    text: Callable[[V, Mapping[str, Any]], str],
) -> V | None:
    """Let `work` be watched, and say what came of it."""
    with screen.headway() as headway:
        made = work(listeners=[*screen.listeners(), *listeners], headway=headway)
    if screen.closing:
        screen.say("interrupted: the same command goes on" if made is None else text(made, space_of(made)))
    return made


def space_of(made: Confirmation | Retest) -> Mapping[str, Any]:
    space: Mapping[str, Any] = RunDirectory.open(made.run_dir).description()["experiment"]["space"]
    return space
