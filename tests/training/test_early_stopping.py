from __future__ import annotations

import math
from typing import Any

import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.early_stopping import EarlyStopping, PlateauTracker


def stops_at(spec: EarlyStopping, values: list[float]) -> int | None:
    tracker = PlateauTracker(spec)
    return next((i for i, value in enumerate(values) if tracker.update(value)), None)


def test_stops_after_patience_epochs_that_are_no_better() -> None:
    assert stops_at(EarlyStopping(patience=2), [1.0, 0.9, 0.9, 0.95, 0.1]) == 3
    assert stops_at(EarlyStopping(patience=2), [1.0, 0.9, 0.95, 0.8, 0.85]) is None


def test_max_mode_and_min_delta() -> None:
    assert stops_at(EarlyStopping(patience=2, mode="max"), [0.1, 0.2, 0.2, 0.2]) == 3
    values = [1.0, 0.95, 0.91, 0.85]  # only the last beats the first by more than 0.1
    assert stops_at(EarlyStopping(patience=2, min_delta=0.1), values) == 2
    assert stops_at(EarlyStopping(patience=3, min_delta=0.1), values) is None


def test_nan_is_never_better() -> None:
    assert stops_at(EarlyStopping(patience=2), [math.nan, math.nan]) == 1
    assert stops_at(EarlyStopping(patience=2), [math.nan, 1.0, 0.9, math.nan]) is None


def test_state_round_trip() -> None:
    spec = EarlyStopping(patience=2)
    first = PlateauTracker(spec)
    first.update(1.0)
    first.update(1.0)
    second = PlateauTracker(spec)
    second.load_state_dict(first.state_dict())
    assert not second.should_stop
    assert second.update(1.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patience", 0),
        ("patience", 2.0),
        ("patience", True),
        ("min_delta", -0.1),
        ("min_delta", math.nan),
        ("min_delta", "0"),
        ("mode", "maximum"),
        ("metric", ""),
    ],
)
def test_bad_fields_are_named(field: str, value: Any) -> None:
    options: dict[str, Any] = {"patience": 1, field: value}
    with pytest.raises(ExperimentError) as caught:
        EarlyStopping(**options)
    assert caught.value.field == f"early_stopping.{field}"
