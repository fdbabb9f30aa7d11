"""Small tables that a library gives, kept as .npz: NumPy reads one in milliseconds, where importing scikit-learn takes
a second, and several on a cold disk, in every process of a run that loads data.

Nothing depends on the file: where there is none that can be read, the arrays are made, and written if that can be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np

from raytune_hpo.atomic import replaced
from raytune_hpo.tasks.data_folders import cache_folder
from raytune_hpo.training.data import Array


def sklearn_version() -> str:
    """Of the installed scikit-learn, which is not imported."""
    return metadata.version("scikit-learn")


def cached(name: str, version: str, make: Callable[[], tuple[Array, ...]]) -> tuple[Array, ...]:
    """The arrays of `make`, of numbers, from NAME-VERSION.npz in the cache, or made and written there.

    They are the same to the bit either way, and row by row or column by column as `make` had them (a view with gaps
    is without): sums of the columns, too, come out the same. Raises what `make` raises, and nothing else.
    """
    try:
        path = cache_folder() / f"{name}-{version}.npz"
    except RuntimeError:  # a user without a home
        return make()
    # A damaged zip raises nearly anything, and whatever it is, the arrays can be made. Its checksums are compared.
    with contextlib.suppress(Exception):
        return _read(path)
    arrays = make()
    # A read-only or full disk costs the next process its second; this one has what it needs.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:  # whoever writes it at the same time: one of the two, whole
            np.savez(file, *arrays)
    return arrays


def _read(path: Path) -> tuple[Array, ...]:
    """The arrays of a file in their order. Raises nearly anything where it is damaged."""
    # Opened here: NumPy leaves its own file open where a zip is cut short.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        names = [f"arr_{k}" for k in range(len(file.files))]
        if not names:
            raise ValueError("no arrays")
        return tuple(file[name] for name in names)
