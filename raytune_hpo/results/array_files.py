"""Files of arrays, as `predict` reads and writes them: .npy, .npz, .safetensors, and .csv to look at.

Nothing is unpickled. A .npy is read from its file as it is needed; the others whole.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raytune_hpo import checks
from raytune_hpo.atomic import replaced
from raytune_hpo.errors import ExperimentError, one_line
from raytune_hpo.journal.inputs import named_leaves

INPUTS = (".npy", ".npz", ".safetensors")
OUTPUTS = (*INPUTS, ".csv")


def read_arrays(path: Path) -> Any:
    """The array of a .npy; a dict by name of the others. Raises ExperimentError."""
    match _suffix("inputs", path, INPUTS):
        case ".npy":
            with _named(path):
                return np.load(path, mmap_mode="r", allow_pickle=False)
        case ".npz":
            with _named(path), np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        case _:
            from safetensors.numpy import load_file

            with _named(path):
                return dict(load_file(path))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExperimentError("inputs", str(path), f"cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ExperimentError("inputs", str(path), f"cannot be read: {one_line(error)}") from error
    except Exception as error:  # the safetensors library has an error of its own, for damaged files
        raise ExperimentError("inputs", str(path), f"is damaged: {one_line(error)}") from error


def check_output(path: Path, force: bool) -> None:
    """Raise ExperimentError for a file that could not be written, before anything is predicted."""
    _suffix("--output", path, OUTPUTS)
    if os.path.lexists(path) and (not force or not path.is_file()):
        raise ExperimentError("--output", str(path), "exists already; choose another, or --force")
    if not path.absolute().parent.is_dir():
        raise ExperimentError("--output", str(path), "must lie in a folder that is there")


def write_arrays(path: Path, outputs: Any) -> None:
    """outputs: an array, or a tree of them, which takes a .npz or a .safetensors. Raises ExperimentError, OSError."""
    suffix, arrays = path.suffix.lower(), {name or "outputs": array for name, array in named_leaves(outputs)}
    if suffix in (".npy", ".csv") and len(arrays) != 1:
        expected = f"holds one array, and the model answers {', '.join(arrays)}: choose a .npz"
        raise ExperimentError("--output", str(path), expected)
    first = next(iter(arrays.values()))
    if suffix == ".csv" and first.ndim > 2:
        raise ExperimentError(
            "--output", str(path), f"is a table, and the outputs are {list(first.shape)}: choose .npy"
        )
    with replaced(path) as file:
        match suffix:
            case ".npy":
                np.save(file, first, allow_pickle=False)
            case ".npz":
                _write_npz(file, arrays)
            case ".csv":
                # As many digits as tell one float32 from the next.
                np.savetxt(file, first, delimiter=",", fmt="%.9g")
            case _:
                from safetensors.numpy import save

                file.write(save({name: np.require(array, requirements="C") for name, array in arrays.items()}))


def _write_npz(file: Any, arrays: Mapping[str, Any]) -> None:
    """As np.savez, for which some names are its own arguments."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def _suffix(field: str, path: Path, known: tuple[str, ...]) -> str:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ExperimentError(
            field, str(path), f"must end in one of {', '.join(known)}{checks.did_you_mean(suffix, known)}"
        )
    return suffix
