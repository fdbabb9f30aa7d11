"""Where an experiment's trials run when it does not say ("auto"), and why. docs/executors.md has the rule.

A few steps of some of the space's configs are trained in this process first. From their time follows how long the run
would take here, with one process, and how long in workers, which have to be started and are as many as the machine has
room for. A function, which may do anything to its process, and a run of more than one device go to workers unmeasured.
"""

from __future__ import annotations

import bdb
import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import placed_line
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Executor
from raytune_hpo.seeding import generator
from raytune_hpo.training.data import TrialData
from raytune_hpo.training.task import Task
from raytune_hpo.workers.machine import fits
from raytune_hpo.workers.ray_runtime import cpus_here as cpus
from raytune_hpo.workers.ray_runtime import gpus_here as gpus

if TYPE_CHECKING:
    from raytune_hpo.training.speed import Speed

#: Configs that are measured.
CONFIGS = 8
#: A searcher that learns is to see this many generations of results: fewer trials at a time.
GENERATIONS = 8
#: And to know some before it suggests all others, however many there may be.
MOST_UNKNOWN = 64
#: Ray and its workers start in about so many times the time that this process needs to import torch; and where it had
#: torch before, in about so many seconds.
START_IN_TORCHES, START_S = 3.0, 5.0
#: Training samples passed through models, of all trials together, that take one process longer than any start: of the
#: smallest models, as lanes.
MOST_PASSES = 5_000_000
#: A run that is longer is worth a start that survives a crash of its training.
LONGEST_S = 600.0


@dataclass(frozen=True)
class Choice:
    """reason: in words, for the run's line, where there was a choice. start_s: that workers would take to start."""

    executor: Executor
    reason: str | None = None
    start_s: float = START_S


def concurrent_lanes(experiment: ResolvedExperiment) -> int:
    """Trials at a time: `max_concurrent`, or what leaves a searcher something to learn from, or all."""
    if experiment.max_concurrent is not None:
        return min(experiment.max_concurrent, experiment.num_samples)
    if experiment.scheduler.kind.is_population:
        return experiment.num_samples  # the whole population has to be there
    if experiment.searcher.learns:
        generation = min(max(2, math.ceil(experiment.num_samples / GENERATIONS)), MOST_UNKNOWN)
        return min(generation, experiment.num_samples)
    return experiment.num_samples


def refusal(experiment: ResolvedExperiment, address: str | None) -> str | None:
    """Why auto does not even measure whether one process would do; None where it may."""
    resources = experiment.resources
    found = {
        "on a cluster": address is not None,
        "fresh_workers asks for a process a trial": experiment.fresh_workers,
        "a trial that hangs can be ended in a worker alone": experiment.has_timeouts,
        "a function runs in a process of its own": not isinstance(experiment.task, Task),
        "a trial has several CPUs for its folds": experiment.folds is not None and resources.cpus > 1,
        "a trial has several GPUs": resources.gpus > 1,
        "trials share a GPU": 0 < resources.gpus < 1,
        "there are several GPUs": resources.gpus > 0 and gpus() > 1,
    }
    return next((reason for reason, holds in found.items() if holds), None)


def imported_torch() -> float:
    """Seconds that the start of Ray and its workers would take, judged by what importing torch takes here."""
    if "torch" in sys.modules:
        return START_S
    began = time.perf_counter()
    import torch  # noqa: F401

    return START_IN_TORCHES * (time.perf_counter() - began)


def is_small(experiment: ResolvedExperiment, loaded: TrialData) -> bool:
    """Whether one process may do, whatever the model is."""
    epochs = experiment.num_samples * experiment.expected_epochs
    return epochs * len(loaded.train) * (experiment.folds or 1) <= MOST_PASSES


def configs_to_measure(experiment: ResolvedExperiment) -> list[dict[str, Any]]:
    """As many as would be lanes at a time, drawn from the space as a random search would. A search that learns comes to
    suggest like ones, so that lanes find company: each twice, where there are enough for that."""
    rng = generator(experiment.seed, "speed")
    count = min(CONFIGS, concurrent_lanes(experiment))
    copies = 2 if experiment.searcher.learns and count >= CONFIGS // 2 else 1
    drawn = [experiment.space.sample(rng) for _ in range(math.ceil(count / copies))]
    return [config for config in drawn for _ in range(copies)][:count]


def measured(experiment: ResolvedExperiment, loaded: TrialData) -> Speed | str:
    """In this process, with as many threads as a trial has CPUs; or what the task's code raised. loaded: what trials
    see of the data."""
    import torch

    from raytune_hpo.training.speed import measured as of_configs

    device, own = device_and_threads(experiment)
    configs = configs_to_measure(experiment)
    threads = torch.get_num_threads()
    torch.set_num_threads(own)
    try:
        every = experiment.checkpoint_every
        return of_configs(experiment.recipe(), loaded, configs, device, experiment.lanes_refusal, every)
    except bdb.BdbQuit:
        raise
    except Exception as error:  # each trial of such a config is to fail by itself
        return placed_line(error)
    finally:
        torch.set_num_threads(threads)


def device_and_threads(experiment: ResolvedExperiment) -> tuple[str, int]:
    """Of a trial."""
    return "cuda" if experiment.resources.gpus > 0 else "cpu", max(1, int(experiment.resources.cpus))


def chosen(experiment: ResolvedExperiment, speed: Speed | str, start_s: float) -> Choice:
    """By the time that the run would take here and in workers. speed: an error in its place, if there was one."""
    if isinstance(speed, str):
        return Choice(Executor.PROCESSES, f"a config that was tried failed: {speed}")
    trials = experiment.num_samples
    work_s = trials * experiment.expected_epochs * speed.epoch_s
    there_s = start_s + work_s / min(places(experiment), trials)
    lanes = speed.refusal is None
    about = f"about {seconds(work_s)} of training for one process"
    if work_s <= min(there_s, LONGEST_S):
        return Choice(
            Executor.INLINE_LANES if lanes else Executor.INLINE,
            f"{about}, and workers take {seconds(start_s)} to start",
            start_s,
        )
    return Choice(Executor.LANES if lanes else Executor.PROCESSES, speed.refusal or about)


def places(experiment: ResolvedExperiment) -> int:
    """Trials that this machine has room for at a time, at least 1."""
    fitting = max(1, fits(experiment.resources, cpus(), gpus()))
    return fitting if experiment.max_concurrent is None else min(fitting, experiment.max_concurrent)


def seconds(value: float) -> str:
    return f"{value:.1g} s" if value < 1 else f"{math.ceil(value)} s"
