"""The line of a trial, by epoch."""

from __future__ import annotations

import math
from pathlib import Path

from hostile import copied
from written_run import result, suggest, written_run

from raytune_hpo import load_results
from raytune_hpo.objective import numbers
from raytune_hpo.results.curves import reports_by_epoch, values_by_epoch


def test_a_trial_that_was_set_back_has_nothing_of_what_came_after(tmp_path: Path) -> None:
    lines = [suggest("t00000", lr=0.01, batch_size=32), suggest("t00001", lr=0.02, batch_size=32)]
    lines += [result("t00000", 1, 0.5), result("t00000", 2, 0.6)]
    lines += [result("t00001", epoch, 0.1 * epoch) for epoch in (1, 2, 3)]
    lines += [result("t00001", 4, 0.4, "exploited"), copied("t00001", "t00000", 2, 1, 0.02, 0.012, at=4)]
    lines += [result("t00001", 3, 0.9, generation=1)]
    results = load_results(written_run(tmp_path / "run", *lines))
    assert values_by_epoch(results) == {"t00000": {1: 0.5, 2: 0.6}, "t00001": {1: 0.1, 2: 0.2, 3: 0.9}}
    assert {epoch: event.generation for epoch, (_, event) in reports_by_epoch(results)["t00001"].items()} == {
        1: 0,
        2: 0,
        3: 1,
    }


def test_numbers_of_a_report() -> None:
    found = numbers({"a": 10**400, "b": -(10**400), "c": True, "d": "x", "e": None, "f": 1, "g": math.nan})
    assert list(found) == ["a", "b", "f", "g"]
    assert (found["a"], found["b"], found["f"]) == (math.inf, -math.inf, 1.0)
    assert math.isnan(found["g"])
