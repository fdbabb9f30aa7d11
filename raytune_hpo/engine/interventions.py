"""What a person does to a running panda: nudge, rollback, pause, resume.

Each is checked where it is given (the command line) and again where it is taken, between two epochs: the
trial may have moved on. A nudge and a rollback are perturb events of the trial with itself as the donor, so the
lineage of its weights is in the journal whoever changed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.engine.population import Population
from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import By, CheckpointRecord, Commanded
from raytune_hpo.results.trial import TrialState
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, flatten, nest
from raytune_hpo.storage.commands import Command
from raytune_hpo.training.hyperparameters import check_value
from raytune_hpo.training.rules import RULES
from raytune_hpo.training.task import Task

#: Commands that are of a panda: they are taken between two of its epochs.
OF_A_PANDA = ("nudge", "rollback", "pause", "resume")
OF_AN_OPTIMIZER = {name for rule in RULES.values() for name in rule.movable}
NEAREST = 5  # epochs that a refused rollback names


def checked_changes(experiment: ResolvedExperiment, config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` (path -> value) as plain values.

    Raises ExperimentError for one that cannot be made in mid-training, or that would do nothing.
    """
    task = experiment.task
    active_values(experiment.space, config, changes)
    if not changes:
        raise ExperimentError("nudge", dict(changes), "needs at least one NAME=VALUE, such as lr=0.003")
    if not isinstance(task, Task):
        here = flatten(config)
        for path, value in changes.items():
            if path not in here:
                raise ExperimentError("nudge", path, checks.no_such("value in the config", path, here))
            if checks.is_number(here[path]) != checks.is_number(value):
                raise ExperimentError(f"nudge.{path}", value, f"must be of the kind of {here[path]!r}")
        return dict(changes)
    known = task.hyperparameters()
    movable = [name for name in known if name not in task.structural_hyperparameters()]
    for path in changes:
        if path not in movable:
            what = "cannot change in mid-training" if path in known else "is no hyperparameter"
            raise ExperimentError("nudge", path, f"{what}; these can: {', '.join(movable)}")
    _check_used(str(config.get("optimizer", known["optimizer"].default)), changes)
    return {path: check_value(known[path], value) for path, value in changes.items()}


def active_values(space: SearchSpace, config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `changes`, path -> value, without what becomes inactive by them.

    Raises ExperimentError for a change of a parameter that is inactive then, and for a parameter that becomes
    active and has no value.
    """
    values = {**flatten(config, {*space.parameters, *space.constants, *changes}), **changes}
    for path in space.order:  # parents first, so that an inactive one is gone when its children are looked at
        failing = space.unmet(path, values)
        if not failing and path not in values:
            raise ExperimentError("nudge", path, "becomes active by this change: give it a value as well")
        if failing and path in changes:
            c = failing[0]
            present = f"{c.parent} is {values[c.parent]}" if c.parent in values else f"{c.parent} is inactive too"
            raise ExperimentError(
                "nudge",
                path,
                f"is inactive in this config: it is there if {c.parent} {c.op} {c.operand}, and {present}",
            )
        if failing:
            values.pop(path, None)
    return values


def _check_used(optimizer: str, changes: Mapping[str, Any]) -> None:
    rule = RULES[optimizer]
    for path in changes:
        if path in OF_AN_OPTIMIZER and path not in rule.movable:
            raise ExperimentError("nudge", path, f"is not used by {optimizer}, which has {', '.join(rule.movable)}")
        if path == "eps" and path not in rule.others:
            why = "only the adaptive optimizers divide by it"
            raise ExperimentError("nudge", path, f"is not used by {optimizer}: {why}")


def checkpoint_of(trial: TrialState, epoch: int) -> CheckpointRecord:
    """The newest checkpoint of an epoch. Raises ExperimentError naming the nearest epochs that have one."""
    found = [record for record in trial.checkpoints if record.epoch == epoch]
    if not found:
        epochs = {record.epoch for record in trial.checkpoints}
        nearest = sorted(sorted(epochs, key=lambda e: abs(e - epoch))[:NEAREST])
        there = ", ".join(map(str, nearest)) or "none yet"
        which = "the nearest" if len(epochs) > NEAREST else "the epochs"
        raise ExperimentError("--epoch", epoch, f"has no checkpoint; {which} that have one: {there}")
    return found[-1]


def take(population: Population, trial: TrialState, command: Command) -> None:
    """Do what a command says, or say in the journal why not."""
    if command["id"] in population.ledger.commands:
        return  # journaled already: its file outlived a crash
    try:
        outcome, applied = _do(population, trial, command), True
    except ExperimentError as error:
        outcome, applied = str(error), False
    population.do(Commanded(trial.id, command["id"], command["command"], applied, outcome))


def _do(population: Population, trial: TrialState, command: Command) -> str:
    name = command["command"]
    _check_form(command)
    if trial.finished:
        raise ExperimentError(name, trial.id, "has ended")
    if name == "pause":
        return f"paused after epoch {trial.epoch}"
    if name == "resume":
        return f"resumed after epoch {trial.epoch}"
    if name == "nudge":
        changes = checked_changes(population.experiment, trial.config, command["changes"])
        record, config = (
            _present(trial),
            nest(active_values(population.experiment.space, trial.config, changes)),
        )
        before = flatten(trial.config)
        text = ", ".join(f"{path} {before.get(path, 'default')} -> {value}" for path, value in changes.items())
        # The perturb event has both configs, so its reason need not say what changed.
        reason, outcome = "nudge by hand", f"nudge by hand: {text}, from the end of epoch {record.epoch} on"
    else:
        record, config = checkpoint_of(trial, command["epoch"]), trial.config
        parameter = _learning_rate(population.experiment)
        reason = f"rollback by hand, with the present config ({parameter} {flatten(config)[parameter]:.4g})"
        outcome = f"{reason}, from epoch {trial.epoch} to {record.epoch}"
    if not population.perturb(trial, trial.id, record, config, reason, by=By.HAND):
        raise ExperimentError(name, record.path, "this checkpoint is damaged or gone")
    return outcome


def _check_form(command: Command) -> None:
    """Raise ExperimentError for a command that has not what is read of it."""
    match command:
        case {"command": "nudge", "changes": dict()} | {"command": "pause" | "resume"}:
            return
        case {"command": "rollback", "epoch": int(epoch)} if not isinstance(epoch, bool):
            return
    raise ExperimentError(command["command"], command, "is no such command")


def _present(trial: TrialState) -> CheckpointRecord:
    record = trial.resume_from
    if record is None or record.epoch != trial.epoch:
        raise ExperimentError("nudge", trial.id, "its present state is not saved: the trainable writes no checkpoints")
    return record


def _learning_rate(experiment: ResolvedExperiment) -> str:
    """The path of the learning rate that the scheduler takes care of."""
    options = experiment.scheduler.options
    assert options is not None
    return str(options.to_json()["parameter"])
