"""A run as tables, in a folder: trials, one row each, and curves, one row a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.exports.place import Place
from raytune_hpo.results.results import Results

if TYPE_CHECKING:
    import pandas as pd


def write_csv(results: Results, place: Place) -> None:
    for name, frame in _frames(results, place.path):
        frame.to_csv(place.path / f"{name}.csv", index=False)


def write_parquet(results: Results, place: Place) -> None:
    """With types: integers, numbers, truth values and texts; a column of several kinds is one of texts."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ExperimentError("--to", "parquet", "needs pyarrow: pip install pyarrow") from error
    for name, frame in _frames(results, place.path):
        typed = frame.apply(_typed)
        typed.to_parquet(place.path / f"{name}.parquet", index=False)


def _frames(results: Results, target: Path) -> list[tuple[str, pd.DataFrame]]:
    target.mkdir()
    return [("trials", results.trials), ("curves", results.curves)]


def _typed(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column with one type; of what has several, lists among them, the texts."""
    found = column.convert_dtypes()
    if found.dtype != object:
        return found
    return column.map(lambda value: None if value is None else str(value)).astype("string")
