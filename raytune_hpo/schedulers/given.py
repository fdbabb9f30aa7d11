"""Any scheduler object of Ray Tune's that a user gives. Importing this module imports no Ray."""

from __future__ import annotations

import copy
from typing import Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.objective import Objective
from raytune_hpo.schedulers.host import HostTrial
from raytune_hpo.schedulers.of_ray import RayScheduler

#: Ray's schedulers that manage a population's checkpoints through Ray's controller, and ours in their place.
REFUSED = {
    "PopulationBasedTraining": 'use scheduler="pbt"',
    "PB2": 'use scheduler="pb2"',
    "PopulationBasedTrainingReplay": "use raytune-hpo replay",
    "ResourceChangingScheduler": "a trial's resources stay what they are",
    "HyperBandForBOHB": 'use scheduler="hyperband" with searcher="bohb"',
}


class GivenScheduler(RayScheduler):
    """A FIFO, ASHA, HyperBand or median object of Ray Tune's, or of a subclass. Metric, mode and time attribute (the
    epoch) are set here. It is copied before use, so that a run always begins with a fresh one.

    What it draws from global generators is not the same on replay, and is then reported as a mismatch.
    """

    name = "given"
    sees_metrics = True

    def __init__(self, given: Any, **built: Any) -> None:
        self.given = given
        super().__init__(**built)

    def make(self) -> Any:
        from raytune_hpo.schedulers.corrected import made_ours

        return made_ours(copy.deepcopy(self.given), self.objective)

    def next_decision(self, trial: HostTrial, epoch: int) -> float:
        return epoch + 1


def check_given(scheduler: Any, objective: Objective, max_epochs: int) -> None:
    """Raise ExperimentError unless `scheduler` is an object that GivenScheduler can take."""
    for cls in type(scheduler).__mro__:  # the nearest first: Ray's PB2 is a PopulationBasedTraining
        if cls.__name__ in REFUSED:
            expected = f"works through Ray's own controller, which is not used here: {REFUSED[cls.__name__]}"
            raise ExperimentError("scheduler", type(scheduler).__name__, expected)
    for field, wanted in (("_metric", objective.metric), ("_mode", objective.mode)):
        found = getattr(scheduler, field, None)
        if found not in (None, wanted):
            expected = f"the experiment's is {wanted!r}; leave it out of the scheduler"
            raise ExperimentError(f"scheduler.{field[1:]}", found, expected)
    grace = getattr(scheduler, "_grace_period", 0)
    if grace > max_epochs:
        expected = f"its unit here is the epoch, and max_epochs = {max_epochs}: it would never stop a trial"
        raise ExperimentError("scheduler.grace_period", grace, expected)
    try:
        copy.deepcopy(scheduler)
    except Exception as error:  # whatever a user's class does in there
        raise ExperimentError("scheduler", type(scheduler).__name__, f"cannot be copied: {error}") from error
