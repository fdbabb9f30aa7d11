"""What "auto" stands for as a searcher and as a scheduler, and what a pairing means, in words.

By benchmarks/search_quality.py, over all its problems and at the time of 10, 20 and 50 trainings, `bayesopt` with
`freeze_thaw` was the best pairing, so that it is taken wherever it can be:

    searcher   bayesopt; in a space of more than MOST_COLUMNS columns, where its Gaussian process sees too small a part,
               a tree-structured Parzen estimator: optuna where it is installed, else hyperopt. Either begins with ten
               random configs. random for schedulers of populations and of one model, which make their own way.
    scheduler  freeze_thaw; asha for searches that plan how long trials run, and for objects of other libraries, which
               hear of a trial's end alone; fifo where trials are too short to be judged on the way (SHORT epochs).

The choice is made when an experiment is resolved, and is what a run's record holds: another machine, with other
packages, goes on with the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.schedulers.rungs import GraceOptions
from raytune_hpo.search.unit_cube import CubeEncoding
from raytune_hpo.space import SearchSpace

if TYPE_CHECKING:
    from raytune_hpo.experiment.chosen import ChosenSearcher
    from raytune_hpo.experiment.resolved import ResolvedExperiment
    from raytune_hpo.experiment.written import Experiment

AUTO = "auto"
MOST_COLUMNS = 60
SHORT = 3


def is_auto(field: str, value: Any) -> bool:
    """Raises ExperimentError for options of what is to be chosen."""
    if isinstance(value, Mapping) and value.get("name") == AUTO:
        for option, given in value.items():
            if option != "name":
                expected = f"is an option of a {field} by name, and this one is auto: choose one ({field}.name)"
                raise ExperimentError(f"{field}.{option}", given, expected)
        return True
    return isinstance(value, str) and value == AUTO


def chosen(written: Experiment) -> list[str]:
    """What was chosen for it, a line."""
    resolved = written.resolved
    fields = {"searcher": resolved.searcher.name, "scheduler": resolved.scheduler.name}
    parts = [f"{field} {name}" for field, name in fields.items() if is_auto(field, getattr(written, field))]
    return [f"auto: {' and '.join(parts)}"] if parts else []


def searcher_for(space: SearchSpace, scheduler: Any) -> str:
    """scheduler: as it is written, or a class."""
    from raytune_hpo.schedulers import SCHEDULERS, Scheduler, scheduler_class

    named = scheduler.get("name") if isinstance(scheduler, Mapping) else scheduler
    if isinstance(named, type) or (isinstance(named, str) and named in SCHEDULERS):
        kind: Any = scheduler_class(named)
        if issubclass(kind, Scheduler) and (kind.is_population or kind.is_of_one):
            return "random"
    if CubeEncoding(space).width <= MOST_COLUMNS:
        return "bayesopt"
    return "hyperopt" if importlib.util.find_spec("optuna") is None else "optuna"


def scheduler_for(searcher: ChosenSearcher, max_epochs: int) -> str:
    if max_epochs <= SHORT:
        return "fifo"
    return "asha" if searcher.is_object or searcher.plans_budgets else "freeze_thaw"


def pairing(experiment: ResolvedExperiment) -> list[str]:
    """What searcher and scheduler mean together: a line, or none where every trial is trained whole."""
    searcher, scheduler, epochs = experiment.searcher, experiment.scheduler, experiment.max_epochs
    if not isinstance(scheduler.options, GraceOptions):
        return []
    grace = scheduler.options.first_rung(epochs)
    if grace >= epochs:
        return []
    factor = getattr(scheduler.options, "reduction_factor", None)
    does = "pauses trials from" if scheduler.kind.plans_budgets else "judges trials from"
    text = f"{scheduler.name} {does} epoch {grace} of {epochs} on, by the first {grace / epochs:.0%} of a training"
    if factor is not None:
        text += f", and lets 1 in {factor:g} go on"
    if searcher.learns and not searcher.is_object:
        text += f"; {searcher.name} learns from all of them"
    return [text]
