"""A task is tried before any trial is begun: a batch of each split through all of its methods, for a few configs.

    data, configs -> deep_check -> remarks, or a TaskError that names the method, the file and the line
                     first_check -> the same before a run: as little as finds a fault that all configs share

No file is written, and the process's random states are as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raytune_hpo.errors import TaskError, of_memory
from raytune_hpo.training import oddities
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.first_step import FirstOwnStep, FirstStep, check_alike, one_batch
from raytune_hpo.training.random_states import preserved_random_states, seed_everything
from raytune_hpo.training.task import Task
from raytune_hpo.training.watched_task import blamed_on, watched

SEED = 0
NAMED = 4  # parameters that a remark names

Config = Mapping[str, Any]


def deep_check(
    task: Task, data: TrialData, configs: Sequence[Config], device: str | None, metric: str | None = None
) -> list[str]:
    """What a person should know of the task. Raises TaskError, the first config's, where none of the configs can be
    trained; a fault of some of them alone is a remark.

    data: what trials see. configs: some of the space's, the usual one first. device: as of a trainer.
    metric: the experiment's.
    """
    faults: list[tuple[Config, TaskError]] = []
    found: list[str] = []
    read: set[str] = set()
    measured: set[str] = set()
    tried = 0
    _parts(watched(task), data, configs[0])  # what cannot be read, whatever the config
    for config in configs:
        try:
            found += _tried(task, data, config, device, read, measured)
            if not tried:
                found += oddities.of_models(task, config, SEED)
            tried += 1
        except TaskError as error:
            faults.append((config, error))
        except (RuntimeError, MemoryError) as error:
            if not of_memory(error):
                raise
            found.append(f"the memory here is too small for {dict(config)}")
    if len(faults) == len(configs):
        raise faults[0][1]
    found += [f"not every config can be trained: {error} (tried: {dict(config)})" for config, error in faults[:1]]
    found += oddities.of_preprocessing(task, data)
    if not faults:
        found += oddities.unread(task, configs, read)
    if metric == "validation_loss":
        found += oddities.measured_otherwise(task, configs, measured)
    return list(dict.fromkeys(found))


def first_check(task: Task, data: TrialData, configs: Sequence[Config], device: str | None) -> list[str]:
    """As little of it as a run can do before its first trial: the first config that can be trained ends it.

    Raises TaskError, the first config's, where each of them fails at the same place. (A fault of one config is its
    trials' own failure; memory that is used up may be.) Answers remarks.
    """
    faults: list[TaskError] = []
    for config in configs:
        try:
            return _tried(task, data, config, device)
        except TaskError as error:
            faults.append(error)
        except (RuntimeError, MemoryError) as error:
            if not of_memory(error):
                raise
            return []
    if faults and len({error.where for error in faults}) == 1:
        raise faults[0]
    return []


def _tried(
    task: Task,
    data: TrialData,
    config: Config,
    device: str | None,
    read: set[str] | None = None,
    measured: set[str] | None = None,
) -> list[str]:
    """One config: a step, and a measurement. read: as of `FirstStep`; measured: takes its `measured_by`. Answers
    remarks. Raises TaskError."""
    seen = watched(task, read)
    kind = FirstOwnStep if task.has_own_step else FirstStep
    with preserved_random_states():
        seed_everything(SEED)
        part = _parts(seen, data, config)
        with blamed_on(seen, "preprocess"):
            trainer = kind(seen, data, part, device, read)
        try:
            trainer.setup(config, SEED)
            trainer.train_epoch()
        except Exception as error:
            with blamed_on(seen, trainer.stage):
                raise error
    found = [f"groups: {name!r} holds no parameter" for name in trainer.unfilled]
    if measured is not None:
        measured |= trainer.measured_by
    for name in (n for n in trainer.unmoved if n in config):
        found.append(f"{name} is no parameter's: each is in a group with one of its own")
    if trainer.normalised:
        found.append("the model answers probabilities, and the loss takes logits: leave its softmax or sigmoid out")
    names = trainer.without_gradient
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        found.append(f"no gradient reaches {', '.join(names[:NAMED])}{more}: the loss does not depend on it")
    return found


def _parts(task: Task, data: TrialData, config: Config) -> TrialData:
    """A batch of each split, of the config's size. Raises TaskError where it cannot be read."""
    size = task.resolved(config)["batch_size"]
    held_out = data.validation if len(data.validation) else data.train  # of folds, which need none
    train, validation = one_batch(task, data.train, size, "train"), one_batch(task, held_out, size, "validation")
    check_alike(task, train, validation)
    return TrialData(train, validation, data.statistics)
