"""run and resume: from an Experiment, or a run directory, to Results."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from raytune_hpo.engine.evidence import first_evidence
from raytune_hpo.engine.session import Hosting, Session
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import Experiment, ResolvedExperiment
from raytune_hpo.experiment.asked import check_can_be_asked, check_is_trained
from raytune_hpo.experiment.automatic import chosen, pairing
from raytune_hpo.experiment.loading import check_not_loading
from raytune_hpo.experiment.project import Code, loaded_code
from raytune_hpo.experiment.references import FunctionTrainable, to_reference
from raytune_hpo.experiment.reopened import CodeChoice, reopened
from raytune_hpo.experiment.resolve import check_is_local, check_programs
from raytune_hpo.listeners.registry import check_listeners
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.commands import pending
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.workers.before_start import check_place
from raytune_hpo.workers.ray_runtime import ray_session

_RUN = threading.Lock()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Ray, signals, working directories and random states are a process's, and so is a run."""
    check_not_loading()
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
    code: Code | None = None,
    verbose: bool = False,
    hosting: Hosting | None = None,
) -> Results:
    """Run an experiment to its end, or to an interruption (`Results.status`).

    run_dir: a new or empty folder; default: one under `experiment.storage`. address: a Ray cluster to run
    on ("auto", "HOST:PORT"), None for this machine. listeners: of this session, besides the experiment's own.
    source: the experiment file, copied into the run with the modules of its project. code: that copy, where it is
    another run's. hosting: of a run whose trials others train.

    Raises ExperimentError, before anything is started, if the experiment cannot run here.
    """
    resolved = experiment.resolved
    check_listeners("listeners", listeners)
    if hosting is None:
        check_is_trained(resolved.task)
    else:
        check_can_be_asked(resolved)
    if run_dir is not None:
        check_is_local("run directory", run_dir)
    path = Path(run_dir).absolute() if run_dir is not None else RunDirectory.new_path(resolved.storage, resolved.name)
    RunDirectory.check_new(path, or_beside=run_dir is None)
    evidence, told = first_evidence(resolved)
    check_place(resolved, address)
    check_programs(resolved.to_json())
    if resolved.searcher.is_object:
        resolved.new_search()  # whether it can be used at all is known then
    if isinstance(resolved.task, Task):
        resolved.task.prepare()
    code = loaded_code(source or _source_of(resolved)) if code is None else code
    entry = None if code.entry is None else Path(code.root, code.entry)
    origin = {"cwd": os.getcwd()}
    with contextlib.nullcontext() if address is None else ray_session(address, verbose=verbose):
        directory = RunDirectory.create(
            path, resolved.to_json(), entry, code.documents(), origin, or_beside=run_dir is None
        )
        notices = [*chosen(experiment), *pairing(resolved), *told]
        if code.left_out:
            notices.append(f"{code.left_out} files of the project are not copied: it is too large")
        try:
            return Session(
                directory,
                resolved,
                code,
                notices,
                address,
                listeners,
                verbose,
                resumed=False,
                evidence=evidence,
                hosting=hosting,
            ).results()
        except ExperimentError:
            directory.discard()
            raise


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
    verbose: bool = False,
) -> Results:
    """Go on with a run after an interruption, a crash or an amendment; of a finished run, just its results.

    task: in place of the recorded one, for tasks defined in a prompt or a notebook. space: likewise, for the classes,
    arrays and other objects in it, which are recorded by name alone; what is searched stays. searcher, scheduler: of a
    run whose searcher or scheduler was an object, one built as that was; left out, the experiment file makes it anew,
    as it does the experiment's listeners. code: "recorded" is the run's copy of it, where today's is another; "current"
    today's, whose trials are marked in the tables. listeners: of this session, besides those.
    Raises ExperimentError if there is no run, another process has it, or it cannot go on here.
    """
    given = {"task": task, "space": space, "searcher": searcher, "scheduler": scheduler}
    return go_on(run_dir, given, code, address, listeners, verbose)


@_one_at_a_time()
def go_on(
    run_dir: str | Path,
    given: dict[str, Any],
    code: CodeChoice,
    address: str | None,
    listeners: Sequence[Any],
    verbose: bool,
    *,
    reopen: Callable[[Results], list[str]] | None = None,
    hosting: Hosting | None = None,
) -> Results:
    """`resume`, and `retry`, whose `reopen` says which of the failed trials are tried again."""
    directory = RunDirectory.open(run_dir)
    directory.lock()
    try:
        results = load_results(directory.path)
        again = [] if reopen is None else reopen(results)
        directory.amend(results.experiment)  # unless it tells of all amendments already
        if results.status == RunStatus.FINISHED and not again and not pending(directory.path):
            return results
        with reopened(directory, given, code=code, moves=hosting is None) as taken:
            resolved = taken.experiment.resolved
            if hosting is None:
                check_is_trained(resolved.task)
            else:
                check_can_be_asked(resolved)
            check_place(resolved, address)
            if isinstance(resolved.task, Task):
                resolved.task.prepare()
            # Of a run that was cut off before it had begun.
            evidence, told = first_evidence(resolved) if not results.ledger.sessions else ([], [])
            return Session(
                directory,
                resolved,
                taken.code,
                [*taken.notices, *told],
                address,
                listeners,
                verbose,
                resumed=True,
                again=again,
                evidence=evidence,
                hosting=hosting,
            ).results()
    finally:
        directory.unlock()


def _source_of(experiment: ResolvedExperiment) -> Path | None:
    """The file that the experiment's task is defined in, where its task tells; else it is the script that runs."""
    file = to_reference(experiment.task).get("file")
    return Path(file) if file else None
