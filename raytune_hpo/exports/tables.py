"""A run as tables, in a folder: trials, one row each, and curves, one row a report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raytune_hpo.errors import ExperimentError
from raytune_hpo.exports.place import Place
from raytune_hpo.results.results import Results

if TYPE_CHECKING:
    import pandas as pd

ROWS = 10_000  # of a table, written at once


def write_csv(results: Results, place: Place) -> None:
    for name, frame in _frames(results, place):
        place.headway.begin(f"rows of {name}.csv", len(frame))
        with (place.path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            for start in range(0, max(1, len(frame)), ROWS):
                part = frame.iloc[start : start + ROWS]
                part.to_csv(file, index=False, header=start == 0)
                place.headway.made(len(part))


def write_parquet(results: Results, place: Place) -> None:
    """With types: integers, numbers, truth values and texts; a column of several kinds is one of texts."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ExperimentError("--to", "parquet", "needs pyarrow: pip install pyarrow") from error
    for name, frame in _frames(results, place):
        place.headway.begin(f"columns of {name}.parquet")
        typed = frame.apply(_typed)
        typed.to_parquet(place.path / f"{name}.parquet", index=False)


def _frames(results: Results, place: Place) -> list[tuple[str, pd.DataFrame]]:
    place.path.mkdir()
    place.headway.begin("reading the journal")
    return [("trials", results.trials), ("curves", results.curves)]


def _typed(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column with one type; of what has several, lists among them, the texts."""
    found = column.convert_dtypes()
    if found.dtype != object:
        return found
    return column.map(lambda value: None if value is None else str(value)).astype("string")
