"""Commands to a run from outside: amend, enqueue, and what is done to one trial.

A process that has the run takes them (`desk`): they are left in its folder, and its answer is read from the journal. A
run that none has is taken for as long as the command needs, and `resume` goes on by it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_hpo.engine.desk import Desk
from raytune_hpo.engine.evidence import rows_of, trials_for
from raytune_hpo.engine.interventions import OF_A_PANDA
from raytune_hpo.engine.reopening import open_journal
from raytune_hpo.errors import ExperimentError, RefusedError
from raytune_hpo.experiment.reopened import reopened
from raytune_hpo.journal.events import Commanded, Event
from raytune_hpo.objective import Objective
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.results import apply
from raytune_hpo.space.configs import plain
from raytune_hpo.space.parameter import Parameter
from raytune_hpo.space.parameters import json_value
from raytune_hpo.storage import commands
from raytune_hpo.storage.checkpoints import CheckpointStore, exists
from raytune_hpo.storage.commands import WAIT_S, Answers, Command
from raytune_hpo.storage.run_directory import RunDirectory

LOOK_S = 2.0  # after so long it is looked whether anybody has the run still
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
    for config in configs:
        if not isinstance(config, Mapping):
            raise ExperimentError("--config", config, "must be an object, parameter name: value")
    return give(run_dir, "enqueue", wait_s, configs=[plain("enqueue", dict(config)) for config in configs])


def import_trials(run_dir: str | Path, source: str, *, metric: str | None = None, wait_s: float = WAIT_S) -> Answer:
    """Tell a run's searcher of the trials of another run, as `source` names it (`evidence.sources.read`). They are
    evidence, and never trials or the winner of this run. metric: as it is called there, unless it is this run's.

    Raises ExperimentError where it cannot be read, or nothing of it lies in the space.
    """
    told = trials_for(run_dir, source, metric)
    return give(run_dir, "import", wait_s, source=told.source, rows=rows_of(told), remarks=told.text)


def give(run_dir: str | Path, command: str, wait_s: float = WAIT_S, **arguments: Any) -> Answer:
    """Give a run a command of `desk`. Raises ExperimentError where it is refused."""
    directory = RunDirectory.open(run_dir)
    if not _locked(directory):
        return _answered(directory, command, wait_s, arguments)
    try:
        document = {"id": f"{time.time_ns():020d}-{os.getpid()}", "command": command, **arguments}
        return _answer(_taken(directory, document), is_running=False)
    finally:
        directory.unlock()


def _answered(directory: RunDirectory, command: str, wait_s: float, arguments: Mapping[str, Any]) -> Answer:
    """By the process that has the run; by this one, where it gives the run up meanwhile."""
    answers = Answers(directory.path, directory.description()["run_id"])
    command_id = commands.send(directory.path, command, **arguments)
    deadline = time.monotonic() + wait_s
    while True:
        event = answers.wait_for(command_id, min(LOOK_S, max(0.0, deadline - time.monotonic())))
        if event is not None or time.monotonic() >= deadline:
            return _answer(event, is_running=True)
        if _locked(directory):
            try:
                _taken(directory)
            finally:
                directory.unlock()
            return _answer(answers.wait_for(command_id, 0.0), is_running=False)


def _locked(directory: RunDirectory) -> bool:
    """Claim the run, unless another process has it. Raises ExperimentError where it cannot be claimed."""
    if directory.in_use():
        return False
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


def _taken(directory: RunDirectory, *documents: Command) -> Commanded | None:
    """Take commands of a run that no process has, after those that are waiting there. The answer to the last."""
    reading, journal = open_journal(directory)
    with contextlib.closing(journal), contextlib.ExitStack() as stack:
        recorded = directory.description()["experiment"]
        ledger = Ledger(Objective(recorded["metric"], recorded["mode"]))
        for step in reading.steps:
            apply(ledger, step, directory.journal_path)
        changes = {name: value for event in ledger.amendments for name, value in event.changes.items()}
        directory.amend(changes)
        for trial in ledger.trials.values():  # which ones are kept is not in the journal
            trial.checkpoints = [record for record in trial.checkpoints if exists(directory.path, record)]
        waiting = [c for c in commands.pending(directory.path) if c["command"] not in OF_A_PANDA]
        given: Any = None
        if any(c["command"] not in _WITHOUT_EXPERIMENT for c in (*waiting, *documents)):
            given = stack.enter_context(reopened(directory)).say().resolved
        store = CheckpointStore(directory.path, ledger.sessions, doubted=reading.doubted)
        answer: Commanded | None = None
        for command in (*waiting, *documents):
            happened: list[Event] = []

            def do(event: Event, happened: list[Event] = happened) -> None:
                ledger.apply(event)
                happened.append(event)

            amendment = Desk(ledger, given, store.adopt, do, lambda experiment: None).take(command)
            if happened:
                journal.append(ledger.seconds, happened)
            commands.remove(directory.path, command["id"])
            answer = next((e for e in happened if isinstance(e, Commanded)), None)
            if amendment is not None:
                directory.amend(amendment.event.changes)
                given = amendment.experiment
        return answer


def _plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON: a parameter as what `amending` reads again. Raises ExperimentError for what is none."""
    found = {}
    for path, value in changes.items():
        if isinstance(value, Parameter):
            found[path] = {"parameter": value.to_json()}
        else:
            data = (
                dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
            )
            found[path] = json_value(f"amend {path}", data)
    return found
