"""run, resume and retry with what people see of them, alike from Python and on the command line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.display.console import LastingConsole
from raytune_hpo.display.headway_bar import HeadwayBar
from raytune_hpo.display.lasting import some_streams
from raytune_hpo.display.notebook import CellOutput, in_notebook
from raytune_hpo.display.notebook_progress import HeadwayCell, NotebookProgress
from raytune_hpo.display.panda_display import PandaProgress
from raytune_hpo.display.progress import Progress
from raytune_hpo.display.summary import stopped_line, summarize
from raytune_hpo.engine import retry as retrying
from raytune_hpo.engine import run as running
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.experiment.reopened import CodeChoice
from raytune_hpo.headway import UNSEEN, Headway
from raytune_hpo.listeners.listener import Listener
from raytune_hpo.printable import printable_lines
from raytune_hpo.results.results import Results
from raytune_hpo.schedulers import SCHEDULERS, scheduler_class
from raytune_hpo.space import SearchSpace
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task


class Screen:
    """Where a run is shown, and how much of it.

    progress: the header, how it goes, each distinct failure once. closing: the lines after it. stderr: there instead of
    on stdout, which is for JSON. since: when the command was given, in seconds since 1970; None for now. start: where
    a panda's first config comes from, in words. In a notebook it is the cell that shows the run, in one output.
    """

    def __init__(
        self,
        *,
        progress: bool = True,
        closing: bool = True,
        stderr: bool = False,
        since: float | None = None,
        start: str | None = None,
    ) -> None:
        self.console = LastingConsole(stderr=stderr)
        self.progress, self.closing = progress, closing
        self.since = time.time() if since is None else since
        self.start = start
        self._in_cell = not stderr and in_notebook()

    @classmethod
    def of(cls, quiet: bool) -> Screen:
        return cls(progress=not quiet, closing=not quiet)

    def listeners(self, scheduler: str = "") -> list[Listener]:
        """Who shows a run under the scheduler of that name as it goes."""
        if not self.progress:
            return []
        of_panda = scheduler in SCHEDULERS and scheduler_class(scheduler).takes_commands
        if self._in_cell:
            return [NotebookProgress(CellOutput(), of_panda=of_panda, start=self.start)]
        if of_panda:
            return [PandaProgress(self.console, quiet=False, start=self.start)]
        return [Progress(self.console, quiet=False)]

    def headway(self) -> contextlib.AbstractContextManager[Headway]:
        """A context in which work that is no run shows how far it is."""
        if not self.progress:
            return contextlib.nullcontext(UNSEEN)
        return HeadwayCell(CellOutput()) if self._in_cell else HeadwayBar(self.console)

    def show(self, scheduler: str, work: Callable[[list[Listener]], Results]) -> Results:
        """Let `work` be watched, and sum up what came of it."""
        with some_streams():
            shown = self.listeners(scheduler)
            results = work(shown)
        in_cell = next((one for one in shown if isinstance(one, NotebookProgress)), None)
        if self.closing and in_cell is not None:
            in_cell.close(results, self.since)
        elif self.closing:
            summarize(results, self.console, self.since)
        elif self.progress or self.console.stderr:
            self.say(stopped_line(results))
        return results

    def say(self, text: str | None) -> None:
        if text is not None:
            self.console.print(printable_lines(text), soft_wrap=True, highlight=False, markup=False)


def run(
    experiment: Experiment,
    run_dir: str | Path | None = None,
    *,
    address: str | None = None,
    listeners: Sequence[Any] = (),
    source: Path | None = None,
    quiet: bool = False,
    verbose: bool = False,
    screen: Screen | None = None,
) -> Results:
    """Run an experiment to its end, or to an interruption (`Results.status`), and show how it goes.

    run_dir: a new or empty folder; default: one under `experiment.storage`. address: a Ray cluster to run
    on ("auto", "HOST:PORT"), None for this machine. listeners: of this session, besides the experiment's own.
    source: the experiment file, copied into the run. quiet: show nothing. verbose: Ray's and the trials' own output
    too. screen: where and what is shown, in place of `quiet`.

    Raises ExperimentError, before anything is started, if the experiment cannot run here.
    """
    return (screen or Screen.of(quiet)).show(
        experiment.resolved.scheduler.name,
        lambda shown: running.run(
            experiment, run_dir, address=address, listeners=[*shown, *listeners], source=source, verbose=verbose
        ),
    )


def resume(
    run_dir: str | Path,
    *,
    task: Task | FunctionTrainable | None = None,
    space: SearchSpace | Mapping[str, Any] | None = None,
    searcher: Any = None,
    scheduler: Any = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    quiet: bool = False,
    verbose: bool = False,
    screen: Screen | None = None,
) -> Results:
    """Go on with a run after an interruption or a crash; of a finished run, just its results. Shown as `run` is.

    task: in place of the recorded one, for tasks defined in a prompt or a notebook. space: likewise, for the classes,
    arrays and other objects in it, which are recorded by name alone; what is searched stays. searcher, scheduler: of a
    run whose searcher or scheduler was an object, one built as that was; left out, the experiment file makes it anew,
    as it does the experiment's listeners. code: "recorded" is the run's copy of it, where today's is another; "current"
    today's, whose trials are marked in the tables. listeners: of this session, besides those.
    Raises ExperimentError if there is no run, another process has it, or it cannot go on here.
    """
    given: dict[str, Any] = {"task": task, "space": space, "searcher": searcher, "scheduler": scheduler}
    return (screen or Screen.of(quiet)).show(
        scheduler_of(run_dir),
        lambda shown: running.resume(
            run_dir, **given, code=code, address=address, listeners=[*shown, *listeners], verbose=verbose
        ),
    )


def retry(
    run_dir: str | Path,
    trials: Sequence[str] | None = None,
    *,
    task: Task | FunctionTrainable | None = None,
    space: SearchSpace | Mapping[str, Any] | None = None,
    searcher: Any = None,
    scheduler: Any = None,
    code: CodeChoice = "recorded",
    address: str | None = None,
    listeners: Sequence[Any] = (),
    quiet: bool = False,
    verbose: bool = False,
    screen: Screen | None = None,
) -> Results:
    """Try failed trials of an interrupted or finished run again, and go on with the run, as `resume` does.

    trials: which; None for all that failed. Each goes on from its newest checkpoint, if one is left, and its failures
    count from 0. The rest as of `resume`. The winner's test split stays as it was opened, if it was.
    Raises ExperimentError, before anything is started, for a trial that is not there or has not failed.
    """
    given: dict[str, Any] = {"task": task, "space": space, "searcher": searcher, "scheduler": scheduler}
    return (screen or Screen.of(quiet)).show(
        scheduler_of(run_dir),
        lambda shown: retrying.retry(
            run_dir, trials, **given, code=code, address=address, listeners=[*shown, *listeners], verbose=verbose
        ),
    )


def scheduler_of(run_dir: str | Path) -> str:
    """The name of a run's scheduler. Raises ExperimentError if there is no run."""
    return str(RunDirectory.open(run_dir).description()["experiment"]["scheduler"]["name"])
