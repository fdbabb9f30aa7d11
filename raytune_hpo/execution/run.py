"""run and resume: from an Experiment, or a run directory, to Results."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.execution.executors import has_room, import_paths, open_pool
from raytune_hpo.execution.interrupt import Interrupt
from raytune_hpo.execution.ray_runtime import check_address, check_local_resources, ray_session
from raytune_hpo.execution.worker import called
from raytune_hpo.experiment import Experiment
from raytune_hpo.experiment_checks import FOREIGN
from raytune_hpo.experiment_file import load_experiment
from raytune_hpo.reference import FILE_MODULE_PREFIX, FunctionTrainable
from raytune_hpo.results.results import Results, load_results
from raytune_hpo.results.winner import record_test
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.journal import Journal, Step, read
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task

if TYPE_CHECKING:
    from raytune_hpo.execution.pool import Workers
    from raytune_hpo.execution.population import Population


class Silent:
    """A listener that shows nothing."""

    def opened(self, run: RunDirectory, experiment: Experiment, resumed: bool) -> None: ...

    def started(self, executor: str) -> None: ...

    def update(self, population: Population, workers: int) -> None: ...

    def failure(self, trial_id: str, error: str, file: str | None) -> None: ...

    def notice(self, text: str) -> None: ...

    def happened(self, event: dict[str, Any]) -> None: ...

    def interrupted(self) -> None: ...

    def closed(self) -> None: ...


def run(
    experiment: Experiment,
    run_dir: str | Path | None = None,
    *,
    address: str | None = None,
    listener: Silent | None = None,
    source: Path | None = None,
    verbose: bool = False,
) -> Results:
    """Run an experiment to its end, or to an interruption (`Results.status`).

    run_dir: a new or empty folder; default: one under `experiment.storage`. address: a Ray cluster to run
    on ("auto", "HOST:PORT"), None for this machine. source: the experiment file, copied into the run.

    Raises ExperimentError, before anything is started, if the experiment cannot run here.
    """
    path = (
        Path(run_dir).absolute() if run_dir is not None else RunDirectory.new_path(experiment.storage, experiment.name)
    )
    RunDirectory.check_new(path)
    _check_place(experiment, address)
    if isinstance(experiment.task, Task):
        experiment.task.prepare()
    if source is None:
        file = experiment.to_json()["task"].get("file")
        source = Path(file) if file else None
    with contextlib.nullcontext() if address is None else ray_session(address, verbose=verbose):
        directory = RunDirectory.create(path, experiment.to_json(), source)
        return _session(directory, experiment, address, listener or Silent(), verbose, resumed=False)


def resume(
    run_dir: str | Path,
    *,
    task: Task | FunctionTrainable | None = None,
    searcher: Any = None,
    address: str | None = None,
    listener: Silent | None = None,
    verbose: bool = False,
) -> Results:
    """Go on with a run after an interruption or a crash; of a finished run, just its results.

    task: in place of the recorded one, for tasks defined in a prompt or a notebook. searcher: of a run whose
    searcher was an object, one built as that was; left out, the experiment file makes it anew.
    Raises ExperimentError if there is no run, another process has it, or it cannot go on here.
    """
    directory = RunDirectory.open(run_dir)
    directory.lock()
    try:
        recorded = directory.description()["experiment"]
        searcher = _remade_searcher(recorded, directory) if searcher is None else searcher
        experiment = Experiment.from_json(recorded, source=directory.source, task=task, searcher=searcher)
        if load_results(directory.path).status == "finished":
            return load_results(directory.path)
        _check_place(experiment, address)
        if isinstance(experiment.task, Task):
            experiment.task.prepare()
    except BaseException:
        directory.unlock()
        raise
    return _session(directory, experiment, address, listener or Silent(), verbose, resumed=True)


def _remade_searcher(recorded: dict[str, Any], directory: RunDirectory) -> Any:
    """The searcher that the run's copy of its experiment file builds, if the run's was an object."""
    if recorded["searcher"]["name"] != FOREIGN:
        return None
    files = sorted(directory.source.glob("*.py")) if directory.source.is_dir() else []
    return load_experiment(str(files[0])).foreign_searcher if files else None


def _check_place(experiment: Experiment, address: str | None) -> None:
    if address is None:
        check_local_resources(experiment.trial_resources)
    else:
        check_address(address)


def _session(
    directory: RunDirectory, experiment: Experiment, address: str | None, listener: Silent, verbose: bool, resumed: bool
) -> Results:
    with contextlib.ExitStack() as stack:
        stack.callback(directory.unlock)
        interrupt = stack.enter_context(Interrupt(listener.interrupted))
        listener.opened(directory, experiment, resumed)
        stack.callback(listener.closed)
        stack.enter_context(ray_session(address, verbose=verbose))
        interrupt.arm()
        stack.enter_context(_importable_by_value(experiment.runnable))
        _drive(directory, experiment, interrupt, listener, verbose)
    return load_results(directory.path)


def _drive(
    directory: RunDirectory, experiment: Experiment, interrupt: Interrupt, listener: Silent, verbose: bool
) -> None:
    steps: list[Step] = []
    offset = 0
    if directory.journal_path.exists():
        for step, end in read(directory.journal_path):
            steps.append(step)
            offset = end
    sessions = [e for s in steps for e in s["events"] if e["event"] == "session"]
    session = 1 + len(sessions)
    recorded = sessions[-1].get("executor", "processes") if sessions else None
    try:
        with contextlib.closing(Journal(directory.journal_path, offset)) as journal, contextlib.ExitStack() as stack:
            # The workers start while this process still imports Ray Tune and replays the journal.
            executor, pool = open_pool(
                directory, experiment, session, _data(experiment), recorded, verbose=verbose, notice=listener.notice
            )
            stack.callback(pool.shutdown)
            listener.started(executor)
            from raytune_hpo.execution.driver import Driver
            from raytune_hpo.execution.population import Population
            from raytune_hpo.schedulers.build import build
            from raytune_hpo.schedulers.ray_host import SchedulerHost

            store = CheckpointStore(directory.path, session)
            population = Population(experiment, experiment.search(), SchedulerHost(build(experiment)), store.adopt)
            for step in steps:
                population.replay(step)
            if population.mismatches:
                listener.notice(
                    f"{population.mismatches} recorded decisions would be made otherwise today; the recorded ones stand"
                )
            store.clean(record for trial in population.trials.values() for record in trial.checkpoints)
            population.open_session(
                pid=os.getpid(),
                host=socket.gethostname(),
                started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                executor=executor,
                room=has_room(experiment, executor),
            )
            driver = Driver(directory, population, journal, store, pool, listener)
            driver.commit()
            status = driver.drive(interrupt)
            if status == "finished":
                _test_winner(directory, experiment, population, pool)
            population.close_session(status)
            driver.commit()
    except OSError as error:
        place = error.filename or directory.path
        raise ExperimentError(
            "storage", str(place), f"cannot be written ({error.strerror or error}); mend that, then resume"
        ) from error


def _data(experiment: Experiment) -> Callable[[], Any]:
    """Gives what trials see of the data: loaded once, in a worker process; every node then holds one copy, which its
    workers share.

    Not a reference as it is: Ray starts no worker before its arguments are there, and workers have torch to import.
    """
    import ray

    if not isinstance(experiment.task, Task):
        return lambda: None  # function trainables load their data themselves
    return partial(ray.get, _begin_in_worker(_load_data, experiment.task, experiment.seed))


def _begin_in_worker(function: Callable[..., Any], *arguments: Any) -> Any:
    """A reference to what function(*arguments) will answer, called in a process of Ray's."""
    import ray
    from ray import cloudpickle

    call = cloudpickle.dumps((function, arguments))
    return ray.remote(num_cpus=0)(_called).remote(import_paths(), call)


def _called(paths: list[str], call: bytes) -> Any:
    sys.path.extend(p for p in paths if p not in sys.path)
    return called(call)


def _load_data(task: Task, seed: int) -> Any:
    return task.load(seed).for_trials()


def _test_winner(directory: RunDirectory, experiment: Experiment, population: Population, pool: Workers) -> None:
    """Open the test split, once, for the winner."""
    import ray
    from ray import cloudpickle

    winner = population.ledger.winner()
    if winner is None or not isinstance(experiment.task, Task):
        return
    if winner.repeat is not None:
        return  # the luckiest repetition says little: `confirm` judges configs, and opens the split for one of them

    def answered(function: Callable[..., Any], *arguments: Any) -> Any:
        actors = pool.actors()
        if not actors:
            return ray.get(_begin_in_worker(function, *arguments))
        return ray.get(actors[0].call.remote(cloudpickle.dumps((function, arguments))))

    record_test(directory, experiment, winner, answered)


@contextlib.contextmanager
def _importable_by_value(task: Task | FunctionTrainable) -> Iterator[None]:
    """Let workers have code of an experiment file, which they cannot import by name."""
    from ray import cloudpickle

    target: Any = type(task) if isinstance(task, Task) else task
    module = sys.modules.get(target.__module__)
    if module is None or not module.__name__.startswith(FILE_MODULE_PREFIX):
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
