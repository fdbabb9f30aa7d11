"""Commands to a run from outside: amend, enqueue, and what is done to one trial.

A process that has the run takes them (`desk`): they are left in its folder, and its answer is read from the journal. A
run that none has is taken for as long as the command needs, and `resume` goes on by it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.engine.desk import Desk
from raytune_hpo.engine.interventions import OF_A_PANDA
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.errors import ExperimentError, RefusedError
from raytune_hpo.experiment.reopened import reopened
from raytune_hpo.journal.events import Commanded, Event
from raytune_hpo.objective import Objective
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.results import apply
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.storage import commands
from raytune_hpo.storage.checkpoints import CheckpointStore
from raytune_hpo.storage.commands import Answers, Command
from raytune_hpo.storage.run_directory import RunDirectory

WAIT_S = 30.0
#: What needs no code of the run's.
_WITHOUT_EXPERIMENT = ("stop", "hold", "release", "mark")


@dataclass(frozen=True)
class Answer:
    """What came of a command. outcome: in words; None where nobody has answered in time: it is taken later. trial:
    which it is about, or has made. is_running: whether a process has the run."""

    outcome: str | None
    trial: str | None
    is_running: bool


def amend(
    run_dir: str | Path,
    changes: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any] | None = None,
    wait_s: float = WAIT_S,
) -> Answer:
    """Change the experiment of a run that runs, was interrupted or has finished.

    changes: path -> value, as of `Experiment.override`: {"num_samples": "+64", "max_epochs": 81, "time_budget_s":
    "+2h", "space.lr": Float(1e-5, 1e-2, scale="log"), "scheduler.grace_period": 3}. defaults: path -> what the trials
    so far have of a parameter that is new. wait_s: how long an answer is waited for.
    Raises ExperimentError for what may not change: the line says why, and what to do instead.
    """
    return give(run_dir, "amend", wait_s, set=_plain(changes), defaults=dict(defaults or {}))


def enqueue(run_dir: str | Path, configs: Sequence[Mapping[str, Any]], *, wait_s: float = WAIT_S) -> Answer:
    """Let a run try these configs next, besides its num_samples. Constants of the space may be left out.

    Raises ExperimentError for one that does not lie in the space; then none is taken.
    """
    return give(run_dir, "enqueue", wait_s, configs=[dict(config) for config in configs])


def give(run_dir: str | Path, command: str, wait_s: float = WAIT_S, **arguments: Any) -> Answer:
    """Give a run a command of `desk`. Raises ExperimentError where it is refused."""
    directory = RunDirectory.open(run_dir)
    if not _locked(directory):
        answers = Answers(directory.path, directory.description()["run_id"])
        command_id = commands.send(directory.path, command, **arguments)
        return _answer(answers.wait_for(command_id, wait_s), is_running=True)
    try:
        document = {"id": f"{time.time_ns():020d}-{os.getpid()}", "command": command, **arguments}
        return _answer(_taken(directory, document), is_running=False)
    finally:
        directory.unlock()


def _locked(directory: RunDirectory) -> bool:
    """Claim the run, unless another process has it. Raises ExperimentError where it cannot be claimed."""
    try:
        directory.lock()
    except ExperimentError:
        if not directory.in_use():
            raise
        return False
    return True


def _answer(event: Commanded | None, *, is_running: bool) -> Answer:
    if event is not None and not event.applied:
        raise RefusedError(event.outcome)
    return Answer(event.outcome if event is not None else None, event.trial if event is not None else None, is_running)


def _taken(directory: RunDirectory, document: Command) -> Commanded | None:
    """Take a command of a run that no process has, after those that are waiting there."""
    reading, journal = open_journal(directory)
    with contextlib.closing(journal), contextlib.ExitStack() as stack:
        recorded = directory.description()["experiment"]
        ledger = Ledger(Objective(recorded["metric"], recorded["mode"]))
        for step in reading.steps:
            apply(ledger, step, directory.journal_path)
        for event in ledger.amendments:
            directory.amend(event.changes)
        waiting = [c for c in commands.pending(directory.path) if c["command"] not in OF_A_PANDA]
        given: Any = None
        if any(c["command"] not in _WITHOUT_EXPERIMENT for c in (*waiting, document)):
            given = stack.enter_context(reopened(directory)).say().resolved
        store = CheckpointStore(directory.path, ledger.sessions, doubted=reading.doubted)
        answer: Commanded | None = None
        for command in (*waiting, document):
            happened: list[Event] = []

            def do(event: Event, happened: list[Event] = happened) -> None:
                ledger.apply(event)
                happened.append(event)

            amendment = Desk(ledger, given, store.adopt, do).take(command)
            if happened:
                journal.append(ledger.seconds, happened)
            commands.remove(directory.path, command["id"])
            answer = next((e for e in happened if isinstance(e, Commanded)), None)
            if amendment is not None:
                directory.amend(amendment.event.changes)
                given = amendment.experiment
        return answer


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON: a parameter as what `amending` reads again."""
    return {
        path: {"parameter": value.to_json()} if isinstance(value, Parameter) else value
        for path, value in changes.items()
    }
