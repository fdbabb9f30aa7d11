"""run and resume: from an Experiment, or a run directory, to Results."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.engine.interrupt import Interrupt
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment, ResolvedExperiment
from raytune_hpo.experiment.file import written_again
from raytune_hpo.experiment.references import (
    FunctionTrainable,
    check_not_loading,
    code_version,
    to_reference,
)
from raytune_hpo.experiment.resolve import check_is_local
from raytune_hpo.journal.events import Closed, ExecutorChanged, SessionOpened
from raytune_hpo.journal.file import Reading
from raytune_hpo.listeners.following import Listening, made_listeners
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.results.winner import record_test
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.workers.executors import Before, Executors
from raytune_hpo.workers.phases import Phases
from raytune_hpo.workers.ray_runtime import check_address, check_local_resources, importable_by_value, ray_session
from raytune_hpo.workers.transport import ActorLostError, CallFailedError, DebuggerLeftError

if TYPE_CHECKING:
    from raytune_hpo.engine.population import Population
    from raytune_hpo.workers.pool import Workers


_RUN = threading.Lock()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Ray, signals, working directories and random states are a process's, and so is a run."""
    if not _RUN.acquire(blocking=False):
        expected = "another run is going on in this process; wait for it, or start this one in a process of its own"
        raise ExperimentError("thread", threading.current_thread().name, expected)
    try:
        yield
    finally:
        _RUN.release()


@_one_at_a_time()
def run(
    experiment: Experiment,
    run_dir: str | Path | None = None,
    *,
    address: str | None = None,
    listeners: Sequence[Any] = (),
    source: Path | None = None,
    verbose: bool = False,
) -> Results:
    """Run an experiment to its end, or to an interruption (`Results.status`).

    run_dir: a new or empty folder; default: one under `experiment.storage`. address: a Ray cluster to run
    on ("auto", "HOST:PORT"), None for this machine. listeners: of this session, besides the experiment's own.
    source: the experiment file, copied into the run.

    Raises ExperimentError, before anything is started, if the experiment cannot run here.
    """
    check_not_loading()
    resolved = experiment.resolved
    if run_dir is not None:
        check_is_local("run directory", run_dir)
    path = Path(run_dir).absolute() if run_dir is not None else RunDirectory.new_path(resolved.storage, resolved.name)
    RunDirectory.check_new(path)
    _check_place(resolved, address)
    if resolved.searcher.is_object:
        resolved.new_search()  # whether it can be used at all is known then
    if isinstance(resolved.task, Task):
        resolved.task.prepare()
    source = source or _source_of(resolved)
    with contextlib.nullcontext() if address is None else ray_session(address, verbose=verbose):
        directory = RunDirectory.create(path, resolved.to_json(), source)
        return _session(directory, resolved, address, listeners, verbose, resumed=False)


def resume(
    run_dir: str | Path,
    *,
    task: Task | FunctionTrainable | None = None,
    searcher: Any = None,
    scheduler: Any = None,
    address: str | None = None,
    listeners: Sequence[Any] = (),
    verbose: bool = False,
) -> Results:
    """Go on with a run after an interruption or a crash; of a finished run, just its results.

    task: in place of the recorded one, for tasks defined in a prompt or a notebook. searcher, scheduler: of a run
    whose searcher or scheduler was an object, one built as that was; left out, the experiment file makes it anew, as
    it does the experiment's listeners. listeners: of this session, besides those.
    Raises ExperimentError if there is no run, another process has it, or it cannot go on here.
    """
    given = {"task": task, "searcher": searcher, "scheduler": scheduler}
    return go_on(run_dir, given, address, listeners, verbose)


@_one_at_a_time()
def go_on(
    run_dir: str | Path,
    given: dict[str, Any],
    address: str | None,
    listeners: Sequence[Any],
    verbose: bool,
    *,
    reopen: Callable[[Results], list[str]] | None = None,
) -> Results:
    """`resume`, and `retry`, whose `reopen` says which of the failed trials are tried again."""
    check_not_loading()
    directory = RunDirectory.open(run_dir)
    directory.lock()
    try:
        resolved = written_again(directory, given).resolved
        results = load_results(directory.path)
        reopened = [] if reopen is None else reopen(results)
        if results.status == RunStatus.FINISHED and not reopened:
            directory.unlock()
            return results
        _check_place(resolved, address)
        if isinstance(resolved.task, Task):
            resolved.task.prepare()
    except BaseException:
        directory.unlock()
        raise
    return _session(directory, resolved, address, listeners, verbose, resumed=True, reopened=reopened)


def _source_of(experiment: ResolvedExperiment) -> Path | None:
    """The file that makes the experiment, where its task tells, or where an object in it has to be made again."""
    file = to_reference(experiment.task).get("file")
    objects = experiment.searcher.is_object or experiment.scheduler.is_object or experiment.listeners
    if file is None and (objects or "made" in to_reference(experiment.task)):
        file = getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file) if file else None


def _check_place(experiment: ResolvedExperiment, address: str | None) -> None:
    if address is None:
        check_local_resources(experiment.resources)
    elif experiment.executor == "inline":
        raise ExperimentError("executor", "inline", "trains in this process: it cannot go with --address")
    else:
        check_address(address)


def _session(
    directory: RunDirectory,
    experiment: ResolvedExperiment,
    address: str | None,
    listeners: Sequence[Any],
    verbose: bool,
    resumed: bool,
    reopened: Sequence[str] = (),
) -> Results:
    with contextlib.ExitStack() as stack:
        stack.callback(directory.unlock)
        interrupt = stack.enter_context(Interrupt())
        description = directory.description()
        view = RunView(directory.path, description["run_id"], description["experiment"], resumed)
        listening = Listening(made_listeners((*listeners, *experiment.listeners)), view)
        stack.callback(listening.close)
        phases = Phases()
        phases.since_process_start()
        ledger = _drive(directory, experiment, interrupt, listening, phases, address, verbose, reopened)
    return Results(directory.path, description["experiment"], ledger)


def _drive(
    directory: RunDirectory,
    experiment: ResolvedExperiment,
    interrupt: Interrupt,
    listening: Listening,
    phases: Phases,
    address: str | None,
    verbose: bool,
    reopened: Sequence[str],
) -> Ledger:
    @contextlib.contextmanager
    def ray() -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with interrupt.kept_from_children():
                stack.enter_context(ray_session(address, verbose=verbose))
            interrupt.arm()
            stack.enter_context(importable_by_value(experiment.task))
            yield

    try:
        with contextlib.ExitStack() as stack:
            reading, journal = open_journal(directory)
            stack.callback(journal.close)
            code = code_version(experiment.task, *experiment.own_classes)
            session, before, notices = _earlier(reading, code)
            executors = Executors(
                directory, experiment, session, ray, phases, address=address, verbose=verbose, notice=notices.append
            )
            # Workers start while this process still imports the scheduler and replays the journal.
            opened = stack.enter_context(executors.opened(before))
            pool = opened.pool
            stack.callback(listening.close)  # before Ray is gone, which listeners may use
            with phases("imports"):
                from raytune_hpo.engine.driver import Driver
                from raytune_hpo.engine.population import Population
                from raytune_hpo.schedulers.host import SchedulerHost

            store = CheckpointStore(directory.path, session, deletes=reading.damage is None)
            with phases("searcher and scheduler"):
                host = SchedulerHost(experiment.new_scheduler())
                population = Population(experiment, experiment.new_search(), host, store.adopt)
            with phases("replay"):
                for step in reading.steps:
                    population.replay(step)
                reading.steps.clear()  # the journal, which may be long, is on disk
            if population.mismatches:
                text = "recorded decisions would be made otherwise today; the recorded ones stand"
                notices.append(f"{population.mismatches} {text}")
            store.clean(record for trial in population.trials.values() for record in trial.checkpoints)
            began = SessionOpened(
                number=session,
                pid=os.getpid(),
                host=socket.gethostname(),
                started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                executor=opened.executor,
                room=opened.room,
                code=code,
                reason=opened.reason,
            )
            population.open_session(began)
            population.reopen(reopened)
            for phase in phases.take():
                population.do(phase)
            for notice in notices:
                population.notice(notice)
            driver = Driver(directory, population, journal, store, pool, listening.troubles)
            listening.open(journal, reading.link.events)
            driver.commit()
            status = driver.drive(interrupt)
            if status == RunStatus.FINISHED:
                with phases("test"):
                    _test_winner(directory, experiment, population, pool)
                for phase in phases.take():
                    population.do(phase)
            population.close_session(status)
            driver.commit()
            return population.ledger
    except OSError as error:
        place = error.filename or directory.path
        if not _of_storage(error, directory.path):
            raise  # of a user's own code, which has no wish to be told of a disk
        raise ExperimentError(
            "storage", str(place), f"cannot be written ({error.strerror or error}); mend that, then resume"
        ) from error


def _earlier(reading: Reading, code: str | None) -> tuple[int, Before, list[str]]:
    """The number of the session that begins, what is known of the one before, and what people should know."""
    told = SessionOpened | ExecutorChanged | Closed
    happened = [e for step in reading.steps for e in step.events if isinstance(e, told)]
    sessions = [e for e in happened if isinstance(e, SessionOpened)]
    notices = []
    if sessions and sessions[-1].code not in (None, code):
        notices.append("the code has changed since the last session: trials that go on are of both")
    if reading.damage is not None:
        notices.append(f"{reading.damage}; no checkpoint is deleted in this session")
    executors = [e.executor for e in happened if not isinstance(e, Closed)]
    before = Before(executors[-1], died=not isinstance(happened[-1], Closed)) if executors else Before()
    return 1 + len(sessions), before, notices


def _of_storage(error: OSError, path: Path) -> bool:
    """Whether an error is the run directory's, or a disk's that takes no more."""
    inside = isinstance(error.filename, str) and Path(error.filename).is_relative_to(path)
    return inside or full_disk(error) is not None or (error.filename is None and error.errno == errno.EIO)


def _test_winner(
    directory: RunDirectory, experiment: ResolvedExperiment, population: Population, pool: Workers
) -> None:
    """Open the test split, once, for the winner."""
    winner = population.ledger.winner()
    if winner is None or not isinstance(experiment.task, Task):
        return
    if winner.repeat is not None:
        return  # the luckiest repetition says little: `confirm` judges configs, and opens the split for one of them

    try:
        record_test(directory, experiment, winner, pool.once)
    except (CallFailedError, ActorLostError, DebuggerLeftError) as error:  # in the task's code: no result is lost by it
        text = error.line if isinstance(error, CallFailedError) else str(error) or "the debugger was left"
        population.notice(f"the winner {winner.id} was not tested: {text}")
