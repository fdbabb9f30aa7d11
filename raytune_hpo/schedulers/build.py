"""From an experiment to its scheduler."""

from __future__ import annotations

import math
from typing import Any

from ray.tune.schedulers import TrialScheduler

from raytune_hpo.experiment import Experiment
from raytune_hpo.parameters import Float
from raytune_hpo.schedulers import POPULATION_BASED
from raytune_hpo.schedulers.corrected import Asha, Fifo, HyperBand, Median, Pbt
from raytune_hpo.schedulers.panda import Panda
from raytune_hpo.schedulers.pb2 import Pb2


def build(experiment: Experiment) -> TrialScheduler:
    """The scheduler of an experiment: fresh, seeded, comparing by its metric at each epoch."""
    name, options = experiment.option("scheduler")
    metric, mode = experiment.objective
    common: dict[str, Any] = {"metric": metric, "mode": mode}
    if name == "asha":
        return Asha(experiment.seed, max_t=experiment.max_epochs, **common, **options)
    if name == "hyperband":
        return HyperBand(max_t=experiment.max_epochs, **common, **options)
    if name == "median":
        options["min_samples_required"] = options.pop("min_samples")
        return Median(**common, **options)
    if name in POPULATION_BASED:
        options["perturbation_interval"] = options.pop("interval")
        options["quantile_fraction"] = options.pop("quantile")
        kind = Pb2 if name == "pb2" else Pbt
        return kind(experiment.search_space, experiment.seed, **common, **options)
    if name == "panda":
        parameter = experiment.search_space.parameters.get(options["parameter"])
        bounds = (parameter.low, parameter.high) if isinstance(parameter, Float) else (0.0, math.inf)
        return Panda(bounds=bounds, **common, **options)
    return Fifo()
