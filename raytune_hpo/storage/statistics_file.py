"""The statistics of a run's training data, that `Task.preprocess` is given: arrays by name, in a file of their own.

A trained model goes with those that it was trained with, whatever becomes of the data. The file is named by the digest
of its content, and the journal has its name: what is read back is what was written, or an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo.atomic import write_atomically
from raytune_hpo.errors import ExperimentError
from raytune_hpo.owned import OWN_FILE, inside, read_bytes

Array = np.ndarray[Any, Any]


def write_statistics(run_path: Path, statistics: Mapping[str, Array]) -> str:
    """The name of the file, made unless it is there. Raises OSError; ValueError for arrays that are no numbers."""
    from safetensors.numpy import save

    arrays = {name: np.require(array, requirements="C") for name, array in sorted(statistics.items())}
    if any(array.dtype.kind not in "biuf" for array in arrays.values()):
        raise ValueError("statistics are numbers")
    data = save(arrays)
    name = _name(data)
    if not os.path.lexists(run_path / name):
        write_atomically(run_path / name, data, OWN_FILE)
    return name


def read_statistics(run_path: Path, name: str) -> dict[str, Array]:
    """Raises ExperimentError where the file is gone, or is not what was written."""
    from safetensors.numpy import load

    path = inside(run_path, name)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise ExperimentError("run directory", str(path), f"cannot be read: {error.strerror or error}") from error
    if _name(data) != name:
        raise ExperimentError("run directory", str(path), "is damaged")
    return dict(load(data))


def _name(data: bytes) -> str:
    return f"statistics-{hashlib.blake2b(data, digest_size=16).hexdigest()}.safetensors"
