"""Where trials run: in processes of their own, as lanes of arrays, or in the driver's process either way.

`opened` starts what they need, and nothing else: an inline run has no Ray. A resumed run goes on as it began.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment, copied_modules
from raytune_hpo.experiment.references import FunctionTrainable, innermost
from raytune_hpo.journal.events import Executor, ExecutorChanged
from raytune_hpo.owned import inside
from raytune_hpo.settings import Resources
from raytune_hpo.space.named import Objects, with_objects
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.data import ArraySplit
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task
from raytune_hpo.workers import choice, trial_log
from raytune_hpo.workers.choice import concurrent_lanes
from raytune_hpo.workers.first_check import configs_to_try, first_remarks
from raytune_hpo.workers.growing_pool import GrowingPool, Growth
from raytune_hpo.workers.imports import Imports
from raytune_hpo.workers.inline_transport import InlineTransport, own_debugger
from raytune_hpo.workers.phases import Phases
from raytune_hpo.workers.posting import Posting
from raytune_hpo.workers.surroundings import trials_have_directories
from raytune_hpo.workers.transport import Actor, Transport

if TYPE_CHECKING:
    from raytune_hpo.workers.lane_pool import LanePool
    from raytune_hpo.workers.pool import Pool, Workers

MOST_LANES = {"cpu": 256, "cuda": 512}  # of an array: from there on more lanes are no faster
Configs = Sequence[dict[str, Any]]
#: In the run directory while a task's own code is tried in the driver's process: found there, it has killed one.
TRYING = "trying"


@dataclass(frozen=True)
class Opened:
    """executor: which one; reason: why, where the experiment left it open; room: whether all trials fit at once;
    remarks: as of `Transport`."""

    executor: Executor
    pool: Workers
    reason: str | None
    room: bool
    remarks: Callable[[], list[str]]


@dataclass(frozen=True)
class Before:
    """What is known of the run's earlier sessions. executor: of the last, None if this is the first; died: it did not
    close."""

    executor: Executor | None = None
    died: bool = False


class Executors:
    """The executors of one session.

    ray: a context in which Ray is there, entered only where trials need workers. imports: what they are to import.
    notice: for people to read.
    """

    def __init__(
        self,
        directory: RunDirectory,
        experiment: ResolvedExperiment,
        session: int,
        ray: Callable[[], AbstractContextManager[None]],
        phases: Phases,
        *,
        imports: Imports,
        address: str | None,
        verbose: bool,
        notice: Callable[[str], None],
    ) -> None:
        self._directory, self._experiment, self._session = directory, experiment, session
        self._ray, self._phases = ray, phases
        self._imports = imports
        self._address, self._verbose, self._notice = address, verbose, notice

    @contextlib.contextmanager
    def opened(self, before: Before) -> Iterator[Opened]:
        """Raises ExperimentError where no machine has a trial's resources."""
        trial_log.clean(self._directory.path)
        inline = InlineTransport()
        with own_debugger():
            found = self._chosen(before, inline)
        with contextlib.ExitStack() as stack:
            transport: Transport = inline
            if found is None or not found.executor.is_inline:
                with self._phases("ray"):
                    stack.enter_context(self._ray())
                from raytune_hpo.workers.ray_transport import RayTransport

                transport = RayTransport(self._imports)
            else:
                stack.enter_context(own_debugger())
            with self._phases("pool"):
                data = transport.data(_recipe(self._experiment))
                pool: Workers
                first = configs_to_try(self._experiment) if before.executor is None else []
                if found is None:
                    found, pool = self._found_out(transport, data, first)
                elif found.executor.of_lanes:
                    pool = self._lanes(transport, data, first)
                else:
                    pool = self._processes(transport, data, first)
                if found.executor.is_inline and self._experiment.executor == "auto":
                    pool = GrowingPool(pool, self._growth(found))
                stack.callback(trial_log.clean, self._directory.path)
                stack.callback(pool.shutdown)
                pool.ensure()
            room = has_room(self._experiment, found.executor, transport)
            yield Opened(found.executor, pool, found.reason, room, transport.remarks)

    def _chosen(self, before: Before, inline: InlineTransport) -> choice.Choice | None:
        """None where an array has to find out whether lanes are faster."""
        experiment = self._experiment
        if before.executor is not None and before.executor != Executor.ASKED:
            return self._again(before.executor, before.died)
        lanes = experiment.lanes_refusal is None
        if experiment.executor == "inline":
            if lanes:
                with self._phases("data"):
                    loaded = inline.data(_recipe(experiment))()
                lanes = isinstance(loaded.train, ArraySplit) and isinstance(loaded.validation, ArraySplit)
            return choice.Choice(Executor.INLINE_LANES if lanes else Executor.INLINE)
        if experiment.executor != "auto":
            return choice.Choice(Executor(experiment.executor))
        if choice.refusal(experiment, self._address) is not None:
            return None if lanes else choice.Choice(Executor.PROCESSES)
        return self._tried(inline)

    def _again(self, executor: Executor, died: bool) -> choice.Choice:
        """As in the session before, which had this one; died: in its middle."""
        if executor.is_inline and self._address is not None:
            return choice.Choice(_of_workers(executor))
        if executor.is_inline and self._experiment.has_timeouts:
            return choice.Choice(_of_workers(executor), "a trial that hangs can be ended in a worker alone")
        if executor.is_inline and died and self._experiment.executor == "auto":
            return choice.Choice(self._survivor(executor))
        return choice.Choice(executor)

    def _tried(self, inline: InlineTransport) -> choice.Choice | None:
        """By training a little in this process, which the task's own code may not survive. None as of `_chosen`."""
        experiment = self._experiment
        trying = inside(self._directory.path, TRYING)
        if trying.exists():
            lanes = experiment.lanes_refusal is None
            return choice.Choice(self._survivor(Executor.INLINE_LANES if lanes else Executor.INLINE))
        with self._phases("data"):
            loaded = inline.data(_recipe(experiment))()
        if not choice.is_small(experiment, loaded):
            return None if experiment.lanes_refusal is None else choice.Choice(Executor.PROCESSES)
        trying.touch()
        try:
            with self._phases("imports"):
                start_s = choice.imported_torch()
            with self._phases("probe"):
                speed = choice.measured(experiment, loaded)
                if isinstance(speed, str):  # of one config, or of all: then nothing need be started
                    device, threads = choice.device_and_threads(experiment)
                    first_remarks(experiment.recipe(), loaded, configs_to_try(experiment), device, threads)
                return choice.chosen(experiment, speed, start_s)
        finally:
            trying.unlink()

    def _growth(self, found: choice.Choice) -> Growth:
        experiment = self._experiment

        def make() -> tuple[Workers, ExecutorChanged]:
            from raytune_hpo.workers.ray_transport import RayTransport

            transport = RayTransport(self._imports)
            data = transport.data(_recipe(experiment))
            executor = _of_workers(found.executor)
            pool = self._lanes(transport, data) if executor.of_lanes else self._processes(transport, data)
            reason = f"it has taken the {choice.seconds(found.start_s)} that workers take to start, and goes on"
            return pool, ExecutorChanged(executor, reason, has_room(experiment, executor, transport))

        places = choice.places(experiment)
        return Growth(found.start_s, places, choice.LONGEST_S, experiment.num_samples, self._ray, make)

    def _survivor(self, executor: Executor) -> Executor:
        """Where trials go on whose process has died."""
        self._notice("the last session's process died while it trained: from now on trials run in workers")
        return _of_workers(executor)

    def _found_out(
        self, transport: Transport, data: Callable[[], Any], first: Configs
    ) -> tuple[choice.Choice, Workers]:
        """Lanes, if the first array finds that they are faster."""
        lanes = self._lanes(transport, data, first)
        lanes.ensure()
        refusal = lanes.refusal(choice.configs_to_measure(self._experiment))
        if refusal is None:
            return choice.Choice(Executor.LANES), lanes
        lanes.shutdown()
        return choice.Choice(Executor.PROCESSES, refusal), self._processes(transport, data, first)

    def _lanes(self, transport: Transport, data: Callable[[], Any], first: Configs = ()) -> LanePool:
        """first: configs to try the task with before any trial."""
        from raytune_hpo.workers.lane_array import LaneArray
        from raytune_hpo.workers.lane_pool import LanePool

        resources = _of_array(self._experiment)
        gpu = resources.gpus > 0
        room = _room(transport, resources)
        recipe = transport.packed(self._experiment.recipe())
        posting = self._posting(transport, resources)
        options = {
            "checkpoint_every": self._experiment.checkpoint_every,
            "gpu": gpu,
            "most": MOST_LANES["cuda" if gpu else "cpu"],
        }

        def make(number: int) -> Actor:
            return transport.actor(LaneArray, resources, recipe, data, posting, number=number, **options)

        # The driver has to import the scheduler meanwhile, and the data are loaded.
        trials = concurrent_lanes(self._experiment)
        return LanePool(transport, make, resources, trials, at_first=max(1, room - 1), first=first)

    def _processes(self, transport: Transport, data: Callable[[], Any], first: Configs = ()) -> Pool:
        from raytune_hpo.workers.pool import Pool
        from raytune_hpo.workers.worker import Worker

        experiment = self._experiment
        resources = experiment.resources
        _room(transport, resources)
        make = functools.partial(
            _make_trainable,
            task=experiment.recipe() if isinstance(experiment.task, Task) else experiment.task,
            objects=experiment.space.objects,
            checkpoint_every=experiment.checkpoint_every,
            gpu=resources.gpus > 0,
            folds_at_once=int(resources.cpus) if transport.concurrent else 1,
        )
        arguments = (transport.packed(make), data, self._posting(transport, resources.of_rank))
        recipe = transport.packed(experiment.recipe()) if first else None
        of_task = isinstance(experiment.task, Task)
        return Pool(
            transport,
            lambda: transport.actor(
                Worker, resources, *arguments, of_task=of_task, recipe=recipe, ranks=resources.ranks
            ),
            resources,
            experiment.max_concurrent,
            fresh=experiment.fresh_workers,
            first=first,
        )

    def _posting(self, transport: Transport, resources: Resources) -> Posting:
        run_id = self._directory.description()["run_id"]
        experiment = self._experiment
        return Posting(
            str(self._directory.path),
            run_id,
            self._session,
            resources.cpus,
            transport.imports(),
            self._verbose,
            cwd=os.getcwd(),
            own_directories=trials_have_directories(),
            name=experiment.name,
            seed=experiment.seed,
            objective=experiment.objective.metric,
            gpus=resources.gpus,
            most=experiment.max_concurrent,
            checkpoint_every=experiment.checkpoint_every,
            max_epochs=experiment.max_epochs,
        )


def _recipe(experiment: ResolvedExperiment) -> Recipe | None:
    return experiment.recipe() if isinstance(experiment.task, Task) else None


def has_room(experiment: ResolvedExperiment, executor: Executor, transport: Transport) -> bool:
    """Whether all trials of the experiment can run at the same time."""
    if executor.of_lanes:
        arrays = transport.capacity(_of_array(experiment))
        places = min(arrays * MOST_LANES["cuda" if experiment.resources.gpus else "cpu"], concurrent_lanes(experiment))
    else:
        places = transport.capacity(experiment.resources)
        places = min(places, experiment.max_concurrent or places)
    return places >= experiment.num_samples


def _of_workers(executor: Executor) -> Executor:
    """What trains as this one does, in workers."""
    return Executor.LANES if executor.of_lanes else Executor.PROCESSES


def _of_array(experiment: ResolvedExperiment) -> Resources:
    """An array has its GPU to itself."""
    trial = experiment.resources
    return Resources(cpus=trial.cpus, gpus=1 if trial.gpus > 0 else 0)


def _room(transport: Transport, resources: Resources) -> int:
    """How many actors fit. Raises ExperimentError if none does."""
    room = transport.capacity(resources)
    if room == 0:
        raise ExperimentError(
            "resources", {"cpus": resources.cpus, "gpus": resources.gpus}, "no machine of the cluster has as much"
        )
    return room


def _make_trainable(
    data: Callable[[], Any], *, task: Recipe | FunctionTrainable, objects: Objects, **options: Any
) -> FunctionTrainable:
    copied_modules.adopt(innermost(task.task if isinstance(task, Recipe) else task))
    if not isinstance(task, Recipe):
        if not isinstance(task, type):
            return _of_given(task, objects)
        from raytune_hpo.workers.class_trainable import function_of

        return _of_given(function_of(task, options["checkpoint_every"]), objects)
    from raytune_hpo.workers.trainable import task_trainable

    trainable = task_trainable(task, lambda: loaded, **options)  # it imports torch, while the data are loaded elsewhere
    loaded = data()
    return trainable


def _of_given(function: FunctionTrainable, objects: Objects) -> FunctionTrainable:
    """The function of a recorded config: the user's own gets the objects that stand in the space."""
    return function if not objects else lambda config: function(with_objects(config, objects))
