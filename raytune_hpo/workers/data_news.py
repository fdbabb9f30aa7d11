"""What the journal is to hold of a task's data."""

from __future__ import annotations

import contextlib
from pathlib import Path

from raytune_hpo.journal.events import DataLoaded, Event
from raytune_hpo.storage.statistics_file import write_statistics
from raytune_hpo.training.data import ArraySplit, TrialData
from raytune_hpo.training.inputs import default_dtype, inputs_of_split
from raytune_hpo.training.trees import leaves


def data_news(data: TrialData | None, run_path: Path | None) -> tuple[Event, ...]:
    """Nothing of a function, which has its own. run_path: where the run directory is seen, None where it is not.

    Where the statistics cannot be kept there is no record of inputs either: whoever needs them loads the data.
    """
    if data is None:
        return ()
    sizes = len(data.train), len(data.validation)
    if not isinstance(data.train, ArraySplit):
        return (DataLoaded((), default_dtype(), *sizes),)
    first = leaves(data.train.tree)[0]
    dtype = default_dtype() if first.dtype.kind == "f" else str(first.dtype)
    inputs, statistics = inputs_of_split(data.train), None
    if data.statistics and inputs is not None:
        with contextlib.suppress(OSError, ValueError):
            statistics = None if run_path is None else write_statistics(run_path, data.statistics)
        inputs = None if statistics is None else inputs
    return (DataLoaded(tuple(first.shape[1:]), dtype, *sizes, inputs, statistics),)
