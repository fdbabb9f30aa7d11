"""Evidence: what other runs and other tools have found out, read for the searcher of a run.

    "RUN_DIR" | "optuna:..." | "ray:..." | "runs.csv"
        -> sources.read -> Records  (a value by name, a curve)
        -> fitting.fitted -> configs of a space, curves of its objective, and what was left out, in words
        -> journal.events.EvidenceGiven -> Search.evidence

    records     Record, Records: what every reader answers
    sources     which reader a text names
    of_run, of_optuna, of_ray, of_csv
    fitting     records as configs of a space

It is for the searcher alone: never a trial of the run, and never its winner. What this folder may not do: import torch
or Ray, unpickle anything, write to what it reads.
"""

from raytune_hpo.evidence.fitting import Fitted, fitted
from raytune_hpo.evidence.records import Record, Records
from raytune_hpo.evidence.sources import read

__all__ = ["Fitted", "Record", "Records", "fitted", "read"]
