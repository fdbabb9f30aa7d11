"""What can be found out before anything is started, and before there is a run directory: that trials could run here."""

from __future__ import annotations

from raytune_hpo.errors import ExperimentError
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.training.task import Task
from raytune_hpo.workers import choice
from raytune_hpo.workers.ray_folder import check_folder
from raytune_hpo.workers.ray_runtime import check_address, check_local_resources, check_travels, own_ray


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
        check_travels(experiment.recipe() if isinstance(experiment.task, Task) else experiment.task)


def _goes_to_workers(experiment: ResolvedExperiment, address: str | None) -> bool:
    """From the start on: others may come to workers, and go on in this process where they cannot."""
    if experiment.executor == "auto":
        return choice.refusal(experiment, address) is not None
    return experiment.executor != "inline"
