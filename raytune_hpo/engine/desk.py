"""The desk: a person's commands to a run, whatever it does, from whichever process sees its directory.

    commands/ID.json -> Desk.take -> events of what it does, and `Commanded`, in one step -> the answer
                                     (amend: an Amendment besides, which the caller puts into force)

A command that stands in the journal is taken, once, however often processes die: its id is there. It needs no worker
and no scheduler, so it is taken as well where no process runs the run (`engine.commanding`). What may not be is refused
in one line, which is journaled, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.engine.evidence import evidence_of, some_trials, use_of_evidence
from raytune_hpo.engine.interventions import active_values, checkpoint_of
from raytune_hpo.engine.supply import Adopt
from raytune_hpo.errors import ExperimentError, TrialError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.amending import Amendment, amended
from raytune_hpo.journal import events
from raytune_hpo.journal.events import Commanded, Event, Origin
from raytune_hpo.journal.names import TAG, number_of, trial_name
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space.configs import config_key, copied, nest
from raytune_hpo.states import Outcome, Status
from raytune_hpo.storage.commands import Command
from raytune_hpo.training.task import Task

MOST_CONFIGS = 10_000  # of one command


class Desk:
    """Of one run. do: moves it by an event, which becomes part of its step. check: raises ExperimentError for an
    experiment that cannot run where the run does."""

    def __init__(
        self,
        ledger: Ledger,
        experiment: ResolvedExperiment,
        adopt: Adopt,
        do: Callable[[Event], None],
        check: Callable[[ResolvedExperiment], None],
    ) -> None:
        self._check = check
        self._ledger, self._experiment, self._adopt, self._do = ledger, experiment, adopt, do
        self._amendment: Amendment | None = None

    def take(self, command: Command) -> Amendment | None:
        """Do what a command says, or say in the journal why not. Answers what is to be put into force."""
        if command["id"] in self._ledger.commands:
            return None  # journaled already: its file outlived a crash
        self._amendment = None
        trial, applied = None, True
        try:
            act = _ACTS.get(command["command"])
            if act is None:
                raise ExperimentError("command", command["command"], checks.no_such("command", "", _ACTS))
            trial, outcome = act(self, command)
        except ExperimentError as error:
            outcome, applied = str(error), False
        except Exception as error:  # of what somebody's program has sent; of a user's own class
            outcome, applied = f"{command['command']}: {type(error).__name__}: {error}", False
        self._do(Commanded(trial, command["id"], command["command"], applied, outcome))
        return self._amendment if applied else None

    # Of the run -----------------------------------------------------------------------------------

    def _amend(self, command: Command) -> tuple[None, str]:
        made = amended(self._experiment, _a(dict, command, "set"), _a(dict, command, "defaults", {}))
        stopped = self._ledger.stop_reason
        if stopped is not None and made.event.makes_work and not made.event.lifts(stopped):
            field = "time_budget_s=+2h" if stopped.startswith(events.OF_TIME) else "stop.target=..."
            expected = f"was stopped ({stopped}): it goes on by --set {field} besides"
            raise ExperimentError("amend", "the run", expected)
        if not made.of_driver:
            self._check(made.experiment)
        self._do(made.event)
        self._amendment = made
        return None, "; ".join([f"amended: {made.event.asked}", *made.remarks])

    def _enqueue(self, command: Command) -> tuple[None, str]:
        configs = _a(list, command, "configs")
        if not 0 < len(configs) <= MOST_CONFIGS:
            raise ExperimentError("enqueue", f"{len(configs)} configs", f"must be 1 to {MOST_CONFIGS:,}")
        self._check_open("enqueue")
        if self._experiment.scheduler.kind.is_of_one:
            raise ExperimentError("enqueue", self._experiment.scheduler.name, "is of one model: nudge it instead")
        space = self._experiment.space
        found = [
            space.complete(config, "--config" if len(configs) == 1 else f"config {number}")
            for number, config in enumerate(configs)
        ]  # all of them, before the first is taken
        first = len(self._ledger.trials)
        for number, config in enumerate(found, start=first):
            self._do(events.Suggested(trial_name(number), config, origin=Origin.ENQUEUED))
        last = trial_name(first + len(found) - 1)
        return None, trial_name(first) if len(found) == 1 else f"{trial_name(first)} to {last}"

    def _import(self, command: Command) -> tuple[None, str]:
        source, rows = _a(str, command, "source"), _a(list, command, "rows")
        known = self._ledger.evidence.get(source, {})
        found = []
        for number, row in enumerate(rows):  # all of them, before the first is taken
            config, curve = evidence_of(f"import {source}, trial {number}", row)
            self._experiment.space.check(config, f"import {source}, trial {number}")
            if max(curve, default=0) > known.get(config_key(config), -1):  # new, or it has trained on since
                found.append(events.EvidenceGiven(source, config, curve))
        if rows and not found:
            raise ExperimentError("import", source, f"all its {len(rows)} trials were imported before")
        if not found:
            raise ExperimentError("import", source, _a(str, command, "remarks", "") or "holds no trial")
        for event in found:
            self._do(event)
        before = f"; {len(rows) - len(found)} were imported before" if len(found) < len(rows) else ""
        remarks = _a(str, command, "remarks", "")
        text = f"{some_trials(len(found))} of {source}: {use_of_evidence(self._experiment)}{before}"
        return None, f"{text}; {remarks}" if remarks else text

    def _check_open(self, what: str) -> None:
        if self._ledger.stop_reason is not None:
            expected = f"was stopped ({self._ledger.stop_reason}): extend or amend it first"
            raise ExperimentError(what, "the run", expected)

    # Of a trial -----------------------------------------------------------------------------------

    def _stop(self, command: Command) -> tuple[str, str]:
        trial = self._live(command)
        self._do(events.Ended(trial.id, Outcome.STOPPED, events.BY_HAND))
        return trial.id, f"{trial.id} stopped after epoch {trial.epoch}"

    def _hold(self, command: Command) -> tuple[str, str]:
        trial = self._live(command)
        if trial.held:
            raise ExperimentError("trial pause", trial.id, "is paused by hand already")
        self._do(events.Held(trial.id))
        return trial.id, f"{trial.id} paused after epoch {trial.epoch + trial.running}"

    def _release(self, command: Command) -> tuple[str, str]:
        trial = self._live(command)
        if not trial.held:
            raise ExperimentError("trial continue", trial.id, f"is not paused by hand: it is {trial.status}")
        self._do(events.Released(trial.id))
        return trial.id, f"{trial.id} goes on after epoch {trial.epoch}"

    def _clone(self, command: Command) -> tuple[str, str]:
        parent, changes = self._trial(command), _a(dict, command, "changes", {})
        self._check_open("trial clone")
        if self._experiment.scheduler.kind.is_of_one:
            raise ExperimentError("trial clone", self._experiment.scheduler.name, "is of one model: nudge it instead")
        space, task = self._experiment.space, self._experiment.task
        for path in changes:
            if path not in space.parameters:
                expected = checks.no_such("parameter", path, space.parameters)
                raise ExperimentError(f"trial clone --set {path}", changes[path], expected)
        if isinstance(task, Task):
            fixed = sorted(changes.keys() & set(task.structural_hyperparameters()))
            if fixed:
                expected = "makes another model, which no checkpoint fits: raytune-hpo enqueue trains the config anew"
                raise ExperimentError(f"trial clone --set {fixed[0]}", changes[fixed[0]], expected)
        values = {path: space.recorded(path, value) for path, value in changes.items()}
        defaults = {name: value for a in self._ledger.amendments for name, value in a.defaults.items()}
        own = space.adapted(parent.config, defaults) or parent.config
        config = space.complete(nest(active_values(space, own, values)), "trial clone")
        epoch = _a(int, command, "epoch", 0)
        record = checkpoint_of(parent, epoch) if epoch else parent.resume_from
        if record is None:
            expected = "has no checkpoint to go on from: raytune-hpo enqueue trains a config from the beginning"
            raise ExperimentError("trial clone", parent.id, expected)
        if record.epoch >= self._experiment.max_epochs:
            expected = f"is at the last epoch, {record.epoch}: name an earlier one by --epoch, or extend --epochs first"
            raise ExperimentError("trial clone", parent.id, expected)
        name = trial_name(len(self._ledger.trials))
        try:
            adopted = self._adopt(record, name, 0)
        except TrialError as error:
            raise ExperimentError("trial clone", parent.id, str(error)) from error
        self._do(events.Suggested(name, config, parent=parent.id, checkpoint=adopted, origin=Origin.CLONED))
        return name, f"{name} goes on from {parent.id} after epoch {record.epoch}"

    def _promote(self, command: Command) -> tuple[str, str]:
        trial = self._trial(command)
        self._check_open("trial promote")
        epochs = _a(int, command, "epochs", 0) or self._experiment.max_epochs
        if trial.status in (Status.FAILED, Status.DIVERGED):
            expected = f"has {trial.status}" + (": raytune-hpo retry" if trial.status == Status.FAILED else "")
            raise ExperimentError("trial promote", trial.id, expected)
        if trial.replicate_of is not None:
            raise ExperimentError("trial promote", trial.id, f"trains {trial.replicate_of} again: promote that one")
        most = self._experiment.max_epochs
        if epochs > most:
            expected = f"is beyond max_epochs, {most}: raytune-hpo extend RUN_DIR --epochs {epochs} first"
            raise ExperimentError("trial promote --epochs", epochs, expected)
        if epochs <= trial.epoch:
            raise ExperimentError("trial promote --epochs", epochs, f"must be above {trial.epoch}, where {trial.id} is")
        if trial.epoch and trial.finished and trial.resume_from is None:
            raise ExperimentError("trial promote", trial.id, "has no checkpoint left to go on from")
        self._do(events.Promoted(trial.id, epochs))
        return trial.id, f"{trial.id} trains on from epoch {trial.epoch} to {epochs}"

    def _mark(self, command: Command) -> tuple[str, str]:
        trial = self._trial(command)
        added, taken = _a(list, command, "tags", []), _a(list, command, "untag", [])
        for tag in [*added, *taken]:
            if not isinstance(tag, str) or TAG.fullmatch(tag) is None:
                raise ExperimentError("trial tag", tag, "must be 1 to 40 letters, digits, '.', '_' or '-'")
        note = _a(str, command, "note", None)
        tags = [tag for tag in dict.fromkeys((*trial.tags, *added)) if tag not in taken]
        changed = tuple(tags) if tags != list(trial.tags) else None
        if changed is None and note is None:
            raise ExperimentError("trial tag", trial.id, f"has these tags already: {', '.join(trial.tags) or 'none'}")
        self._do(events.Marked(trial.id, changed, note))
        said = [f"tags: {', '.join(tags) or 'none'}"] if changed is not None else []
        said += ["noted" if note else "without a note"] if note is not None else []
        return trial.id, f"{trial.id}: {'; '.join(said)}"

    def _trial(self, command: Command) -> TrialState:
        name = _a(str, command, "trial")
        number = number_of(name)
        trial = self._ledger.trials.get(name if number is None else trial_name(number))
        if trial is None:
            known = self._ledger.trials
            there = f"there are {next(iter(known))} to {next(reversed(known))}" if known else "there is none"
            raise ExperimentError("trial", name, f"no such trial in this run; {there}")
        return trial

    def _live(self, command: Command) -> TrialState:
        trial = self._trial(command)
        if trial.finished:
            raise ExperimentError(f"trial {_SAID[command['command']]}", trial.id, f"has ended: it is {trial.status}")
        return trial


_SAID = {"stop": "stop", "hold": "pause", "release": "continue"}
_ACTS: Mapping[str, Callable[[Desk, Command], tuple[str | None, str]]] = {
    "amend": Desk._amend,
    "enqueue": Desk._enqueue,
    "import": Desk._import,
    "stop": Desk._stop,
    "hold": Desk._hold,
    "release": Desk._release,
    "clone": Desk._clone,
    "promote": Desk._promote,
    "mark": Desk._mark,
}
_MISSING: Any = object()


def _a(kind: type, command: Command, name: str, default: Any = _MISSING) -> Any:
    """A part of a command. Raises ExperimentError where it is not of the kind."""
    value = command.get(name, default)
    if value is default and value is not _MISSING:
        return copied(value)
    if value is _MISSING or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ExperimentError(f"{command['command']}.{name}", command.get(name), f"must be of type {kind.__name__}")
    return value
