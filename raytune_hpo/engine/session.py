"""A session of a run: one process takes it on and drives it to its end, or to an interruption."""

from __future__ import annotations

import bdb
import contextlib
import errno
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.engine import hooks
from raytune_hpo.engine.interrupt import Interrupt
from raytune_hpo.engine.reopening import open_journal, replay
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment, kept_code
from raytune_hpo.experiment.amending import Amendment
from raytune_hpo.experiment.project import Code
from raytune_hpo.journal.events import Closed, EvidenceGiven, ExecutorChanged, SessionOpened, Step
from raytune_hpo.journal.file import Journal, Reading, read
from raytune_hpo.listeners.following import Listening
from raytune_hpo.listeners.listener import RunView
from raytune_hpo.listeners.registry import made_listeners
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.results import Results
from raytune_hpo.results.winner import record_test
from raytune_hpo.states import RunStatus
from raytune_hpo.storage.checkpoints import CheckpointStore, drop_half_written, exists
from raytune_hpo.storage.commands import Inbox
from raytune_hpo.storage.full_disk import full_disk
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.task import Task
from raytune_hpo.workers.before_start import check_place
from raytune_hpo.workers.executors import Before, Executors, Opened
from raytune_hpo.workers.imports import Imports, record_more
from raytune_hpo.workers.phases import Phases
from raytune_hpo.workers.ray_runtime import importable_by_value, ray_session
from raytune_hpo.workers.transport import ActorLostError, CallFailedError, DebuggerLeftError

if TYPE_CHECKING:
    from raytune_hpo.engine.population import Population
    from raytune_hpo.workers.pool import Workers


#: (checkpoints, the steps so far) -> what stands in for executors.
Opening = Callable[[CheckpointStore, list[Step]], AbstractContextManager[Opened]]


@dataclass(frozen=True)
class Hosting:
    """Of a run whose trials others train. opening: their workers; interrupt: what ends the session."""

    opening: Opening
    interrupt: Interrupt


@dataclass(frozen=True)
class Session:
    """One session of a run: what it is to do, and with what.

    code: as the run trains with it. notices: to be said. again: failed trials to be tried again. evidence: for its
    searcher, where it begins. hosting: of a run whose trials others train.
    """

    directory: RunDirectory
    experiment: ResolvedExperiment
    code: Code
    notices: Sequence[str]
    address: str | None
    listeners: Sequence[Any]
    verbose: bool
    resumed: bool
    again: Sequence[str] = ()
    evidence: Sequence[EvidenceGiven] = ()
    hosting: Hosting | None = None

    def results(self) -> Results:
        """Drive it to its end, or to an interruption. The run's lock, which is held, is given up."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.directory.unlock)
            interrupt = stack.enter_context(Interrupt()) if self.hosting is None else self.hosting.interrupt
            phases = Phases()
            phases.since_process_start()
            work, ledger = self, None
            try:
                while ledger is None:
                    ended, amendment = work._driven(interrupt, phases)
                    if amendment is None or interrupt.requested:
                        ledger = ended
                    else:  # what workers know of was amended: others go on
                        work = work._amended(amendment)
            except Exception as error:
                hooks.tell(self.directory.path, error=error)
                raise
        experiment = self.directory.description()["experiment"]
        results = Results(self.directory.path, experiment, ledger)
        hooks.tell(self.directory.path, results=results)
        return results

    def _driven(self, interrupt: Interrupt, phases: Phases) -> tuple[Ledger, Amendment | None]:
        description = self.directory.description()
        view = RunView(self.directory.path, description["run_id"], description["experiment"], self.resumed)
        listening = Listening(made_listeners((*self.listeners, *self.experiment.listeners)), view)
        try:
            return _drive(self, interrupt, listening, phases)
        except (DebuggerLeftError, bdb.BdbQuit):
            expected = "was left before the first trial: nothing has been trained"
            raise ExperimentError("debugger", "q", expected) from None
        finally:
            listening.close()

    def _amended(self, amendment: Amendment) -> Session:
        """The one that comes after this."""
        return replace(self, experiment=amendment.experiment, notices=(), resumed=True, again=(), evidence=())

    @contextlib.contextmanager
    def ray(self, interrupt: Interrupt) -> Iterator[None]:
        """Ray, for the run's workers."""
        with contextlib.ExitStack() as stack:
            with interrupt.kept_from_children():
                stack.enter_context(ray_session(self.address, verbose=self.verbose))
            interrupt.arm()
            stack.enter_context(importable_by_value())
            yield


def _drive(
    work: Session, interrupt: Interrupt, listening: Listening, phases: Phases
) -> tuple[Ledger, Amendment | None]:
    directory, experiment = work.directory, work.experiment

    try:
        with contextlib.ExitStack() as stack:
            reading, journal = open_journal(directory)
            stack.callback(journal.close)
            described = kept_code.is_described(directory.path)
            source, code = kept_code.keep(work.code, directory.path)
            imports = Imports(code=code, source=str(source))
            stack.callback(record_more, imports.source)
            if work.hosting is None:  # (who trains there has a process of his own, and this is it)
                stack.enter_context(imports.found_by_name())
            session, before, notices = _earlier(reading, code.version if described else None)
            notices += work.notices
            store = CheckpointStore(directory.path, session, doubted=reading.doubted)
            # Workers start while this process still imports the scheduler and replays the journal.
            opening = (
                _executors(work, session, interrupt, phases, imports, notices).opened(before)
                if work.hosting is None
                else work.hosting.opening(store, list(reading.steps))
            )
            opened = stack.enter_context(opening)
            pool = opened.pool
            stack.callback(listening.close)  # before Ray is gone, which listeners may use
            with phases("imports"):
                from raytune_hpo.engine.driver import Driver
                from raytune_hpo.engine.making import new_population

            with phases("searcher and scheduler"):
                population = new_population(experiment, store.adopt, reading.steps)
            with phases("replay"):
                named = _replay(population, reading, directory.journal_path, notices)
            store.clean((c for t in population.trials.values() for c in t.checkpoints), population.trials, named)
            population.open_session(_began(session, opened, code))
            for event in work.evidence:
                population.do(event)
            population.settle(functools.partial(exists, directory.path))
            population.reopen(work.again)
            for phase in phases.take():
                population.do(phase)
            for notice in notices:
                population.notice(notice)

            driver = Driver(
                directory,
                population,
                journal,
                store,
                pool,
                Inbox(directory.path),
                functools.partial(_remade, journal, store),
                functools.partial(check_place, address=work.address),
                lambda: [*opened.remarks(), *listening.troubles()],
            )
            listening.open(journal, reading.link.events)
            driver.commit()
            status = driver.drive(interrupt)
            population = driver.population
            if status == RunStatus.FINISHED and work.hosting is None:
                with phases("test"):
                    _test_winner(directory, population.experiment, population, pool)
                for phase in phases.take():
                    population.do(phase)
            population.close_session(status)
            driver.commit()
            return population.ledger, driver.amendment
    except OSError as error:
        place = error.filename or directory.path
        if not _of_storage(error, directory.path):
            raise  # of a user's own code, which has no wish to be told of a disk
        with contextlib.suppress(OSError):
            drop_half_written(directory.path)
        raise ExperimentError(
            "storage", str(place), f"cannot be written ({error.strerror or error}); mend that, then resume"
        ) from error


def _executors(
    work: Session, session: int, interrupt: Interrupt, phases: Phases, imports: Imports, notices: list[str]
) -> Executors:
    return Executors(
        work.directory,
        work.experiment,
        session,
        functools.partial(work.ray, interrupt),
        phases,
        imports=imports,
        address=work.address,
        verbose=work.verbose,
        notice=notices.append,
    )


def _replay(population: Population, reading: Reading, path: Path, notices: list[str]) -> set[str]:
    """Move the population to where the run stands. Answers the paths of all checkpoints that were ever named."""
    named = replay(reading.steps, population.replay, path)
    if population.mismatches:
        text = "recorded decisions would be made otherwise today; the recorded ones stand"
        notices.append(f"{population.mismatches} {text}")
    return named


def _remade(journal: Journal, store: CheckpointStore, amendment: Amendment) -> Population:
    """The population of an amended run, from what is journaled so far."""
    from raytune_hpo.engine.making import new_population

    steps = read(journal.path, journal.run_id).steps
    made = new_population(amendment.experiment, store.adopt, steps)
    replay(steps, made.replay, journal.path)
    return made


def _began(session: int, opened: Opened, code: Code) -> SessionOpened:
    return SessionOpened(
        number=session,
        pid=os.getpid(),
        host=socket.gethostname(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        executor=opened.executor,
        room=opened.room,
        code=code.version,
        reason=opened.reason,
    )


def _earlier(reading: Reading, code: str | None) -> tuple[int, Before, list[str]]:
    """The number of the session that begins, what is known of the one before, and what people should know."""
    told = SessionOpened | ExecutorChanged | Closed
    happened = [e for step in reading.steps for e in step.events if isinstance(e, told)]
    sessions = [e for e in happened if isinstance(e, SessionOpened)]
    notices = []
    if sessions and code is not None and sessions[-1].code not in (None, code):
        notices.append("the code has changed since the last session: trials that go on from a checkpoint are of both")
    if reading.damage is not None:
        notices.append(f"{reading.damage}; no checkpoint of before is deleted")
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
