"""Ray tasks and actors that a trial starts: one that will never have room is refused at once, as Ray Tune does.

The workers hold all that they have room for as long as the run lasts, whether or not they have a trial. So what a
trial's own tasks may have is what is left over, and a task that asks for more would wait for ever without a word.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from raytune_hpo.errors import TrialError
from raytune_hpo.settings import Resources
from raytune_hpo.workers.machine import fits

#: Of the user's: Ray Tune's own way to do without.
DISABLED = "TUNE_DISABLE_RESOURCE_CHECKS"


class LaunchCheck:
    """Between `begin` and `end`, in a worker process. trial: what a worker holds. most: workers at a time, None for as
    many as fit."""

    def __init__(self, trial: Resources, most: int | None) -> None:
        self._trial, self._most = trial, most
        self._fit: set[tuple[float, float]] = set()  # that were found to
        self._before: tuple[Any, Any] | None = None

    def begin(self) -> None:
        if "ray" not in sys.modules or DISABLED in os.environ:
            return
        from ray import actor, remote_function

        other = getattr(remote_function._task_launch_hook, "__self__", None)
        if isinstance(other, LaunchCheck):  # of a trial that should have ended
            other.end()
        self._before = actor._actor_launch_hook, remote_function._task_launch_hook
        actor._actor_launch_hook = remote_function._task_launch_hook = self._launched

    def end(self) -> None:
        if self._before is None:
            return
        from ray import actor, remote_function

        actor._actor_launch_hook, remote_function._task_launch_hook = self._before
        self._before = None

    def _launched(self, function: Any, resources: Mapping[str, float], strategy: Any) -> None:
        """Ray's hook. Raises TrialError."""
        wanted = resources.get("CPU", 0) or 0, resources.get("GPU", 0) or 0
        if not any(wanted) or wanted in self._fit or getattr(strategy, "placement_group", None) is not None:
            return
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not has_room(wanted, [(have.get("CPU", 0), have.get("GPU", 0)) for have in nodes], self._trial, self._most):
            what = f"actor {function.class_name}" if function.class_name else f"task {function.function_name}"
            asked = ", ".join(f"{n:g} {w}" for n, w in zip(wanted, ("CPUs", "GPUs"), strict=True) if n)
            raise TrialError(
                f"Ray {what} asks for {asked}, and the trials hold all there is: it would wait for ever. "
                "Leave room for it by max_concurrent, or give it num_cpus=0"
            )
        self._fit.add(wanted)


def has_room(wanted: tuple[float, float], nodes: list[tuple[float, float]], trial: Resources, most: int | None) -> bool:
    """Whether (CPUs, GPUs) are left for something besides the workers. nodes: what each has of both."""
    workers = [fits(trial, *node) for node in nodes]
    if most is None or sum(workers) <= most:
        left = [(cpus - n * trial.cpus, gpus - n * trial.gpus) for (cpus, gpus), n in zip(nodes, workers, strict=True)]
        return any(cpus >= wanted[0] and gpus >= wanted[1] for cpus, gpus in left)
    # Which nodes they are on is not known.
    cpus, gpus = (sum(node[i] for node in nodes) for i in (0, 1))
    return cpus - most * trial.cpus >= wanted[0] and gpus - most * trial.gpus >= wanted[1]
