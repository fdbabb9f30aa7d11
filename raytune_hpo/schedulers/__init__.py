"""Schedulers: names and options, checked without importing ray. The objects are Ray Tune's own.

`build` makes them; `ray_host` is what they are run on.
"""

from __future__ import annotations

from typing import Any

from raytune_hpo import checks
from raytune_hpo.checks import Option
from raytune_hpo.errors import ExperimentError
from raytune_hpo.space import SearchSpace
from raytune_hpo.training.task import Task

#: Schedulers that compare the members of a whole population, and copy checkpoints between them.
POPULATION_BASED = ("pbt", "pb2")

SCHEDULERS: dict[str, dict[str, Option]] = {
    "fifo": {},
    "asha": {
        "grace_period": Option(int, 1, low=1),
        "reduction_factor": Option(float, 3, low=1, open_low=True),
        "brackets": Option(int, 1, low=1, high=10),
    },
    "hyperband": {"reduction_factor": Option(float, 3, low=2)},
    "median": {
        "grace_period": Option(int, 1, low=1),
        "min_samples": Option(int, 3, low=1),
    },
    "pbt": {
        "interval": Option(int, None, low=1),
        "quantile": Option(float, 0.25, low=0, high=0.5, open_low=True),
        "resample_probability": Option(float, 0.25, low=0, high=1),
        "perturbation": Option(float, 0.1, low=0, high=1, open_low=True),
        "mutate": Option(list, None),
    },
    "pb2": {
        "interval": Option(int, None, low=1),
        "quantile": Option(float, 0.25, low=0, high=0.5, open_low=True),
        "resample_probability": Option(float, 0.25, low=0, high=1),
        "kappa": Option(float, 1.0, low=0, high=100),
        "mutate": Option(list, None),
    },
    "panda": {
        "parameter": Option(str, "lr"),
        "decay": Option(float, 0.5, low=0, high=1, open_low=True, open_high=True),
        "patience": Option(int, 10, low=1),
        "explode": Option(float, 4.0, low=1, open_low=True),
        "max_rollbacks": Option(int, 5, low=0),
        "nudge_every": Option(int, 10, low=0),
        "nudge_factor": Option(float, 1.25, low=1, open_low=True),
        "window": Option(int, 2, low=1),
        "keep_every": Option(int, 10, low=1),
    },
}
"""Options by scheduler.

asha         grace_period: epochs before a trial may be stopped. reduction_factor: 1 in this many survives a rung.
hyperband    reduction_factor: as for asha.
median       grace_period; min_samples: trials needed before a median counts.
pbt          interval: epochs between exploits (default max_epochs / 8). quantile: the share that copies and is
             copied. perturbation: how far explore moves, as a share of a parameter's own scale.
             mutate: the parameters that explore changes (default: those that do not change the model's shape).
pb2          as pbt, but explore asks a Gaussian process for the highest bound, mean + kappa deviations, on the gain
             of an interval. resample_probability: of the unordered choices, which the process does not decide.
panda        of one model, see schedulers.panda. parameter: the path of the learning rate. decay: its factor after a
             plateau of `patience` epochs, and after a divergence (a loss not finite, or `explode` times its best),
             of which max_rollbacks are undone without a new best between them. nudge_every (0: never),
             nudge_factor, window: nudges on trial, in epochs. keep_every: which epochs stay on disk to go back to,
             until there are 20 of them: then every second of those, and so on.
"""


def scheduler_options(value: Any, *, space: SearchSpace, max_epochs: int, task: Any) -> tuple[str, dict[str, Any]]:
    """The name and the complete options of the scheduler of an experiment over `space`. Raises ExperimentError."""
    name, given = checks.named("scheduler", value, SCHEDULERS)
    options = checks.options("scheduler", name, given, SCHEDULERS[name])
    if options.get("grace_period", 1) > max_epochs:
        raise ExperimentError(
            "scheduler.grace_period", options["grace_period"], f"must be at most max_epochs = {max_epochs}"
        )
    if name == "panda":
        path = options["parameter"]
        known = [*space.parameters, *space.constants]
        if path not in known:
            expected = f"{checks.no_such('parameter or constant', path, known)}; the space must hold the learning rate"
            raise ExperimentError("scheduler.parameter", path, expected)
    if name in POPULATION_BASED:
        options["interval"] = options["interval"] or max(1, max_epochs // 8)
        if options["interval"] > max_epochs:
            raise ExperimentError(
                "scheduler.interval", options["interval"], f"must be at most max_epochs = {max_epochs}"
            )
        options["mutate"] = _mutable(name, options["mutate"], space, task)
    return name, options


def _mutable(scheduler: str, named: list[str] | None, space: SearchSpace, task: Any) -> list[str]:
    paths = space.parameters
    fixed = task.structural_hyperparameters() if isinstance(task, Task) else set()
    mutable = [path for path in paths if path not in fixed]
    if named is not None:
        for path in named:
            if path not in paths:
                raise ExperimentError("scheduler.mutate", path, checks.no_such("parameter", path, paths))
            if path in fixed:
                raise ExperimentError(
                    "scheduler.mutate", path, f"cannot change in mid-training; {', '.join(mutable) or 'none'} can"
                )
        if not named:
            raise ExperimentError("scheduler.mutate", named, "must name at least one parameter")
        return named
    if not isinstance(task, Task):
        raise ExperimentError(
            "scheduler.mutate",
            None,
            f"must list the parameters that may change in mid-training, out of {', '.join(paths)}",
        )
    if not mutable:
        raise ExperimentError("scheduler", scheduler, "every parameter changes the model's shape; add one such as lr")
    return mutable
