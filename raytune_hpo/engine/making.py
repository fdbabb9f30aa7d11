"""A run's population, as its experiment makes it."""

from __future__ import annotations

from collections.abc import Sequence

from raytune_hpo.engine.before import Past
from raytune_hpo.engine.population import Population
from raytune_hpo.engine.supply import Adopt
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal.events import Step
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.search import SearchAlgorithm


def new_population(experiment: ResolvedExperiment, adopt: Adopt, steps: Sequence[Step]) -> Population:
    """steps: the recorded ones, which it is to be moved by. Raises ExperimentError where its searcher or its scheduler
    was an object that is not here any more."""
    host, search = SchedulerHost(experiment.new_scheduler()), experiment.new_search()
    learns = search.uses_evidence == "observations"
    if experiment.scheduler.kind.is_population and isinstance(search, SearchAlgorithm) and not learns:
        search.starts = experiment.num_samples // 2
    return Population(experiment, search, host, adopt, Past.of(steps, experiment.max_epochs))
