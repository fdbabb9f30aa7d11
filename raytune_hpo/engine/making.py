"""A run's population, as its experiment makes it."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_hpo.engine.before import Past
from raytune_hpo.engine.population import Population
from raytune_hpo.engine.supply import Adopt
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Step
from raytune_hpo.schedulers.host import SchedulerHost


def new_population(experiment: ResolvedExperiment, adopt: Adopt, steps: Sequence[Step]) -> Population:
    """steps: the recorded ones, which it is to be moved by. Raises ExperimentError where its searcher or its scheduler
    was an object that is not here any more."""
    host = SchedulerHost(experiment.new_scheduler())
    return Population(experiment, experiment.new_search(), host, adopt, Past.of(steps, experiment.max_epochs))
