"""The schedulers by name. Importing this package, or asking a scheduler what it is, imports no Ray.

What this folder may not do: train, or know where trials run. Ray Tune is imported for a user's object of its alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from raytune_hpo import checks
from raytune_hpo.objective import Objective
from raytune_hpo.options import options_of
from raytune_hpo.schedulers.scheduler import Scheduler, SchedulerOptions
from raytune_hpo.space import SearchSpace

__all__ = ["SCHEDULERS", "Scheduler", "SchedulerOptions", "build", "check_options", "scheduler_class"]

#: name -> "module:Class". A new scheduler costs its class and this line.
SCHEDULERS: dict[str, str] = {
    "fifo": "raytune_hpo.schedulers.scheduler:Scheduler",
    "asha": "raytune_hpo.schedulers.stopping:Asha",
    "hyperband": "raytune_hpo.schedulers.stopping:HyperBand",
    "median": "raytune_hpo.schedulers.stopping:Median",
    "pbt": "raytune_hpo.schedulers.populations:Pbt",
    "pb2": "raytune_hpo.schedulers.populations:Pb2",
    "freeze_thaw": "raytune_hpo.schedulers.freeze_thaw:FreezeThaw",
    "panda": "raytune_hpo.schedulers.panda:Panda",
}


def scheduler_class(scheduler: str | type[Scheduler]) -> type[Scheduler]:
    """The class called so, or itself. Raises ExperimentError naming the field `scheduler`."""
    if isinstance(scheduler, type):
        return scheduler
    module, _, attribute = SCHEDULERS[checks.one_of("scheduler", scheduler, SCHEDULERS)].partition(":")
    found: type[Scheduler] = getattr(importlib.import_module(module), attribute)
    return found


def check_options(
    scheduler: str | type[Scheduler],
    given: Mapping[str, Any],
    *,
    space: SearchSpace,
    max_epochs: int,
    structural: set[str] | None,
) -> SchedulerOptions:
    """The complete options of a scheduler for an experiment. Raises ExperimentError.

    structural: the parameters that may not change in mid-training, None where the task does not say.
    """
    cls = scheduler_class(scheduler)
    options = options_of(cls.Options, cls.name, given)
    return options.resolved(space=space, max_epochs=max_epochs, structural=structural)


def build(
    scheduler: str | type[Scheduler],
    options: SchedulerOptions,
    space: SearchSpace,
    objective: Objective,
    *,
    max_epochs: int,
    seed: int,
) -> Scheduler:
    """A fresh scheduler. options: complete, as `check_options` gives them."""
    cls = scheduler_class(scheduler)
    return cls(options, space=space, objective=objective, max_epochs=max_epochs, seed=seed)
