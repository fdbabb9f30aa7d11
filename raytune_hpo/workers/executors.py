"""Where trials run: in processes of their own, or as lanes of arrays.

"auto" starts lane arrays and lets the first of them train a few steps both ways; where lanes cannot train the task
or are not faster, it starts processes instead. A resumed run goes on as it began.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.references import FunctionTrainable
from raytune_hpo.journal.events import Executor
from raytune_hpo.settings import Resources
from raytune_hpo.storage.run_directory import RunDirectory
from raytune_hpo.training.recipe import Recipe
from raytune_hpo.training.task import Task
from raytune_hpo.workers.worker import Posting

if TYPE_CHECKING:
    from raytune_hpo.workers.lane_pool import LanePool
    from raytune_hpo.workers.pool import Pool, Workers

MOST_LANES = {"cpu": 256, "cuda": 512}  # of an array: from there on more lanes are no faster
#: A searcher that learns is to see this many generations of results: fewer trials at a time.
GENERATIONS = 8


def open_pool(
    directory: RunDirectory,
    experiment: ResolvedExperiment,
    session: int,
    data: Callable[[], Any],
    recorded: Executor | None,
    *,
    verbose: bool,
    notice: Callable[[str], None],
) -> tuple[Executor, Workers]:
    """(executor, its pool), started. data: gives what trials see of it, in whatever process it is called.
    recorded: the executor of an earlier session of the run.

    Raises ExperimentError where no machine has a trial's resources.
    """
    wanted = recorded or experiment.executor
    common = (directory, experiment, session, data, verbose)
    if wanted == "auto" and experiment.lanes_refusal is not None:
        wanted = "processes"
    if wanted == "processes":
        pool = _processes(*common)
        pool.ensure()
        return Executor.PROCESSES, pool
    lanes = _lanes(*common)
    lanes.ensure()
    if wanted == "auto":
        refusal = lanes.refusal(experiment.usual_config())
        if refusal is not None:
            notice(f"{refusal}: processes")
            lanes.shutdown()
            pool = _processes(*common)
            pool.ensure()
            return Executor.PROCESSES, pool
    return Executor.LANES, lanes


def concurrent_lanes(experiment: ResolvedExperiment) -> int:
    """Trials at a time: `max_concurrent`, or what leaves a searcher something to learn from, or all."""
    if experiment.max_concurrent is not None:
        return min(experiment.max_concurrent, experiment.num_samples)
    if experiment.scheduler.kind.is_population:
        return experiment.num_samples  # the whole population has to be there
    if experiment.searcher.learns:
        return min(max(2, math.ceil(experiment.num_samples / GENERATIONS)), experiment.num_samples)
    return experiment.num_samples


def has_room(experiment: ResolvedExperiment, executor: Executor) -> bool:
    """Whether all trials of the experiment fit into the cluster at the same time."""
    from raytune_hpo.workers.pool import capacity

    if executor == Executor.PROCESSES:
        places = capacity(experiment.resources)
        places = min(places, experiment.max_concurrent or places)
    else:
        places = capacity(_of_array(experiment)) * MOST_LANES["cuda" if experiment.resources.gpus else "cpu"]
        places = min(places, concurrent_lanes(experiment))
    return places >= experiment.num_samples


def _of_array(experiment: ResolvedExperiment) -> Resources:
    """An array has its GPU to itself."""
    trial = experiment.resources
    return Resources(cpus=trial.cpus, gpus=1 if trial.gpus > 0 else 0)


def import_paths() -> list[str]:
    return [p for p in sys.path if p]


def _lanes(
    directory: RunDirectory, experiment: ResolvedExperiment, session: int, data: Callable[[], Any], verbose: bool
) -> LanePool:
    import ray
    from ray import cloudpickle

    from raytune_hpo.workers.lane_array import LaneArray
    from raytune_hpo.workers.lane_pool import LanePool

    resources = _of_array(experiment)
    gpu = resources.gpus > 0
    _check_capacity(resources)
    actor = ray.remote(LaneArray).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0, scheduling_strategy="SPREAD"
    )
    recipe = cloudpickle.dumps(experiment.recipe())
    posting = _posting(directory, session, resources, verbose)
    options = {
        "checkpoint_every": experiment.checkpoint_every,
        "gpu": gpu,
        "most": MOST_LANES["cuda" if gpu else "cpu"],
    }

    def make(number: int) -> Any:
        return actor.remote(recipe, data, posting, number=number, **options)

    # The driver has imports of its own meanwhile, and the data are loaded.
    at_first = max(1, math.floor((ray.cluster_resources().get("CPU", 0) - 1) / max(1, resources.cpus)))
    return LanePool(make, resources, concurrent_lanes(experiment), at_first)


def _processes(
    directory: RunDirectory, experiment: ResolvedExperiment, session: int, data: Callable[[], Any], verbose: bool
) -> Pool:
    import ray
    from ray import cloudpickle

    from raytune_hpo.workers.pool import Pool
    from raytune_hpo.workers.worker import Worker

    resources = experiment.resources
    _check_capacity(resources)
    make = partial(
        _make_trainable,
        task=experiment.task if not isinstance(experiment.task, Task) else experiment.recipe(),
        checkpoint_every=experiment.checkpoint_every,
        gpu=resources.gpus > 0,
        cpus=resources.cpus,
    )
    actor = ray.remote(Worker).options(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0, scheduling_strategy="SPREAD"
    )
    arguments = (cloudpickle.dumps(make), data, _posting(directory, session, resources, verbose))
    return Pool(lambda: actor.remote(*arguments), resources, experiment.max_concurrent)


def _posting(directory: RunDirectory, session: int, resources: Resources, verbose: bool) -> Posting:
    run_id = directory.description()["run_id"]
    return Posting(str(directory.path), run_id, session, resources.cpus, import_paths(), verbose)


def _check_capacity(resources: Resources) -> None:
    from raytune_hpo.workers.pool import capacity

    if capacity(resources) == 0:
        raise ExperimentError(
            "resources", {"cpus": resources.cpus, "gpus": resources.gpus}, "no machine of the cluster has as much"
        )


def _make_trainable(data: Callable[[], Any], *, task: Recipe | FunctionTrainable, **options: Any) -> FunctionTrainable:
    if not isinstance(task, Recipe):
        if not isinstance(task, type):
            return task
        from raytune_hpo.workers.class_trainable import function_of

        return function_of(task, options["checkpoint_every"])
    from raytune_hpo.workers.trainable import task_trainable

    trainable = task_trainable(task, lambda: loaded, **options)  # it imports torch, while the data are loaded elsewhere
    loaded = data()
    return trainable
