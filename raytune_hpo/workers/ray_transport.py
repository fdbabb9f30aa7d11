"""Actors in processes of Ray's, on this machine or on a cluster."""

from __future__ import annotations

import functools
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raytune_hpo.errors import ExperimentError
from raytune_hpo.settings import Resources
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.workers.imports import Imports
from raytune_hpo.workers.machine import fits
from raytune_hpo.workers.transport import ActorLostError, CallFailedError
from raytune_hpo.workers.worker import called


class RayCall:
    def __init__(self, ref: Any) -> None:
        self.ref = ref

    def answer(self, timeout_s: float | None = None) -> Any:
        try:
            return ray.get(self.ref, timeout=timeout_s)
        except RayTaskError as error:
            raise CallFailedError(error.cause, str(error)) from error
        except RayActorError as error:
            raise ActorLostError(last_line(error), died=True) from error
        except RayError as error:
            raise ActorLostError(type(error).__name__, died=False) from error


class RayActor:
    """group: the placement group that is its own, and ends with it."""

    def __init__(self, handle: Any, group: Any = None) -> None:
        self._handle, self._group = handle, group

    def call(self, method: str, *arguments: Any) -> RayCall:
        return RayCall(getattr(self._handle, method).remote(*arguments))

    def do(self, function: Callable[..., Any], *arguments: Any) -> RayCall:
        # Bytes, so that they are unpickled in the method, whose process can import what the driver can by then.
        return RayCall(self._handle.do.remote(cloudpickle.dumps((function, arguments))))

    def kill(self) -> None:
        ray.kill(self._handle)
        if self._group is not None:
            ray.util.remove_placement_group(self._group)


class RayTransport:
    """The Ray that this process has started or joined."""

    concurrent = kills = True

    def __init__(self, imports: Imports | None = None) -> None:
        imports = imports or Imports()
        self._imports = replace(imports, paths=[path for path in sys.path if path])
        self._loading: Any = None  # a reference to the remarks of the data that are being loaded

    def actor(self, cls: type, resources: Resources, *arguments: Any, **options: Any) -> RayActor:
        one = resources.of_rank
        group, strategy = None, "SPREAD"
        if resources.ranks > 1:
            bundle = {name: n for name, n in (("CPU", one.cpus), ("GPU", one.gpus)) if n}
            group = ray.util.placement_group([bundle] * resources.ranks, strategy="PACK")
            strategy = PlacementGroupSchedulingStrategy(group, 0)
        made = ray.remote(cls).options(
            num_cpus=one.cpus, num_gpus=one.gpus, max_restarts=0, scheduling_strategy=strategy
        )
        return RayActor(made.remote(*arguments, **options), group)

    def answered(self, calls: Sequence[RayCall], timeout_s: float) -> list[RayCall]:
        if not calls:
            time.sleep(min(timeout_s, 0.05))
            return []
        by_ref = {call.ref: call for call in calls}
        refs = list(by_ref)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)  # all that has come
        if not ready:
            ready, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
        return [by_ref[ref] for ref in ready]

    def once(self, function: Callable[..., Any], *arguments: Any) -> RayCall:
        call = cloudpickle.dumps((function, arguments))
        return RayCall(ray.remote(num_cpus=0)(_called).remote(self._imports, call))

    def data(self, recipe: Recipe | None) -> Callable[[], Any]:
        """Loaded once, in a worker process; every node then holds one copy, which its workers share.

        Not a reference as it is: Ray starts no worker before its arguments are there, and workers have torch to import.
        """
        if recipe is None:
            return _nothing  # function trainables load their data themselves
        call = cloudpickle.dumps((loaded_with_remarks, (recipe,)))
        data, self._loading = ray.remote(num_cpus=0, num_returns=2)(_called).remote(self._imports, call)
        return functools.partial(ray.get, data)

    def remarks(self) -> list[str]:
        if self._loading is None or not ray.wait([self._loading], timeout=0)[0]:
            return []
        loading, self._loading = self._loading, None
        try:
            found: list[str] = ray.get(loading)
        except RayTaskError as error:
            if isinstance(error.cause, ExperimentError | OSError):
                raise error.cause from None
            raise ExperimentError("task", "its data", f"cannot be loaded: {last_line(error)}") from error
        except RayError as error:
            raise ExperimentError(
                "task", "its data", f"the process that loads them was lost: {last_line(error)}"
            ) from error
        return found

    def packed(self, value: Any) -> bytes:
        try:
            pickled: bytes = cloudpickle.dumps(value)
        except Exception as error:  # whatever a user's own __reduce__ raises
            expected = f'cannot travel to workers ({last_line(error)}); executor="inline" pickles nothing'
            raise ExperimentError("task", type(value).__name__, expected) from error
        return pickled

    def imports(self) -> Imports:
        return self._imports

    def capacity(self, resources: Resources) -> int:
        """In the cluster's living nodes."""
        nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
        one = resources.of_rank
        return sum(fits(one, have.get("CPU", 0.0), have.get("GPU", 0.0)) for have in nodes) // resources.ranks


def _nothing() -> None:
    return None


def loaded_with_remarks(recipe: Recipe) -> tuple[Any, list[str]]:
    data = recipe.load()
    return data, recipe.remarks(data)


def _called(imports: Imports, call: bytes) -> Any:
    imports.take()
    return called(call)


def last_line(error: Exception) -> str:
    """Of an error that Ray wrapped: what went wrong in the worker; without colours."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    return next((line for line in reversed(lines) if line), type(error).__name__)
