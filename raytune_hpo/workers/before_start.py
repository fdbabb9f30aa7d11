"""What can be found out before anything is started, and before there is a run directory: that trials could run here."""

from __future__ import annotations

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.asked import by_whoever_asks
from raytune_hpo.training.task import Task
from raytune_hpo.workers import choice
from raytune_hpo.workers.ray_folder import check_folder
from raytune_hpo.workers.ray_runtime import (
    check_address,
    check_local_resources,
    check_object_travels,
    check_travels,
    own_ray,
)


def check_place(experiment: ResolvedExperiment, address: str | None) -> None:
    """Raise ExperimentError where the experiment's trials could run nowhere. address: of a cluster, None for here."""
    if address is None:
        check_local_resources(experiment.resources)
    elif experiment.executor == "inline":
        raise ExperimentError("executor", "inline", "trains in this process: it cannot go with --address")
    else:
        check_address(address)
    if address is None and _goes_to_workers(experiment, address) and not own_ray():
        check_folder()
    check_code(experiment, address)


def check_code(experiment: ResolvedExperiment, address: str | None) -> None:
    """Raise ExperimentError where what the trials run cannot be sent to workers, and has to be."""
    if _goes_to_workers(experiment, address):
        for path, named in experiment.space.objects.items():
            for text, value in named.items():
                check_object_travels(f"space.{path}", text, value)
        check_travels(experiment.recipe() if isinstance(experiment.task, Task) else experiment.task)


def remarks(experiment: ResolvedExperiment, address: str | None) -> list[str]:
    """What the experiment's executor cannot promise, and what `auto` goes by, a line each."""
    if experiment.task is by_whoever_asks:
        return ["whoever asks for a trial trains it: open_run, or raytune-hpo ask and tell"]
    executor, refused = experiment.executor, choice.refusal(experiment, address)
    function = not isinstance(experiment.task, Task)
    found = {
        f"auto takes workers: {refused}": executor == "auto" and refused is not None,
        "auto begins in this process if it is quicker, which a small part of the run will tell; workers take over "
        "otherwise": executor == "auto" and refused is None,
        "inline: a trial that crashes its process ends the run, and resume goes on; one that hangs can be given up, "
        "not killed": executor == "inline",
        "inline: trials run one after the other, so that each has its working directory": executor == "inline"
        and function,
        "lanes: trials share a process, a log, and the working directory of the run": executor == "lanes",
    }
    return [text for text, holds in found.items() if holds]


def _goes_to_workers(experiment: ResolvedExperiment, address: str | None) -> bool:
    """From the start on: others may come to workers, and go on in this process where they cannot."""
    if experiment.executor == "auto":
        return choice.refusal(experiment, address) is not None
    return experiment.executor != "inline"
