"""The checks of what a task says of itself, before its data are loaded: its kind, its groups, its numbers. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.checked_methods import check_methods
from raytune_hpo.training.data import KINDS
from raytune_hpo.training.hyperparameters import GROUP_HYPERPARAMETERS, TRAINER_HYPERPARAMETERS, as_hyperparameter
from raytune_hpo.training.task import Task


def check_task(task: Task) -> None:
    """Raise ExperimentError for a task that no data can be trained with."""
    name = type(task).__name__
    check_methods(task)
    checks.one_of(f"{name}.kind", task.kind, KINDS)
    own = task.has_own_loss or task.has_own_step or task.has_own_trainer
    if task.kind == "other" and not own:
        expected = "has no loss that would be known: write loss(self, model, batch, config)"
        raise ExperimentError(f"{name}.kind", task.kind, expected)
    if task.validate_every is not None:
        checks.integer(f"{name}.validate_every", task.validate_every, 1)
    checks.integer(f"{name}.decode_bytes", task.decode_bytes, 0)
    checks.integer(f"{name}.loader_workers", task.loader_workers, 0)
    if type(task).optimizers is not Task.optimizers and not task.has_own_step:
        expected = "is called with train_step alone, and that is not written"
        raise ExperimentError(name, f"{name}.optimizers", expected)
    known = _check_hyperparameters(f"{name}.model_hyperparameters", task.model_hyperparameters())
    _check_groups(f"{name}.groups", task.groups, known)


def _check_hyperparameters(field: str, found: Any) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise ExperimentError(field, found, "must be a dict of defaults, or of Hyperparameter, by name")
    for name, hyperparameter in found.items():
        if type(hyperparameter).__module__.startswith("raytune_hpo.space."):
            expected = (
                f"must be the default, a value: what is searched stands in the experiment's space={{{name!r}: ...}}"
            )
            raise ExperimentError(f"{field}[{name!r}]", hyperparameter, expected)
        own = as_hyperparameter(name, hyperparameter).name
        if own != name:
            raise ExperimentError(f"{field}[{name!r}].name", own, f"must be {name!r}, as its key is")
    return found


def _check_groups(field: str, groups: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(groups, tuple):
        hint = f": write ({groups!r},)" if isinstance(groups, str) else ""
        raise ExperimentError(field, groups, f"must be a tuple of names{hint}")
    for group in groups:
        if not isinstance(group, str) or not group.isidentifier():
            raise ExperimentError(field, group, "must be a word, as in lr_WORD")
        for own in (f"{name}_{group}" for name in GROUP_HYPERPARAMETERS):
            if own in TRAINER_HYPERPARAMETERS or own in known:
                raise ExperimentError(field, group, f"is no name for a group: {own} is another hyperparameter's name")
    if len(set(groups)) < len(groups):
        raise ExperimentError(field, groups, "must name each group once")
