"""Experiments: as a file writes them, and as they are resolved.

    written     Experiment: what an experiment file builds, as it was written
    resolved    ResolvedExperiment: typed and complete, what all rooms below take
    resolve     from one to the other: every check, every default that depends on another field
    checking    what is checked of fields together
    chosen      a searcher, scheduler or listener: a name, a class or an object of the user's
    references  how code of the user's is named in a run, and found again
    overrides   --set FIELD=VALUE
    file        experiment files; loading, their execution as modules
    project     the project's code that a run trains with; kept_code: the run's copy of it, compared with today's
    reopened    a run's experiment again, with its own code (copied_modules) and in its own folder

What this folder may not do: import ray or torch, or start anything.
"""

from __future__ import annotations

from raytune_hpo.experiment.resolved import ResolvedExperiment
from raytune_hpo.experiment.written import Experiment

__all__ = ["Experiment", "ResolvedExperiment"]
