"""TensorBoard's event files as TensorBoard reads them, held against the run that they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from standing_reports import standing
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raytune_hpo import Results


def opened(folder: Path) -> Any:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), in the order of the file."""
    found = opened(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def check_same_curves(results: Results, folder: Path) -> None:
    """Every number of every report that stands, once and in single precision; and besides what follows from them."""
    expected = standing(results)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(results.ledger.trials)
    for trial in results.ledger.trials:
        found = scalars(folder / trial)
        curves = expected.get(trial, {})
        read = {tag: [(epoch, str(value)) for epoch, value in found.get(tag, [])] for tag in curves}
        with np.errstate(over="ignore"):  # NaN compares as a text
            said = {tag: [(e, str(float(np.float32(v)))) for e, v in values.items()] for tag, values in curves.items()}
        assert read == said, trial
        more = set(found) - set(curves)
        assert all(tag == f"best/{results.metric}" or tag.startswith("config/") for tag in more), trial


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
