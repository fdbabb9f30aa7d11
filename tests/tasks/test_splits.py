from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.seeding import generator
from raytune_hpo.tasks import Diabetes, Digits
from raytune_hpo.tasks.splits import stratified_order


def test_every_stretch_of_a_stratified_order_has_the_classes_in_their_shares() -> None:
    y = np.repeat([0, 1, 2], [600, 300, 7])
    for seed in range(20):
        order = stratified_order(y, generator(seed, "test"))
        assert sorted(order) == list(range(len(y)))
        for start, length in ((0, 30), (0, 500), (100, 300), (450, 451)):
            counts = np.bincount(y[order[start : start + length]], minlength=3)
            assert np.abs(counts - length * np.bincount(y) / len(y)).max() <= 3


def test_a_stratified_order_is_shuffled_within_and_among_the_classes_and_by_its_generator_alone() -> None:
    y = np.repeat([0, 1], 500)
    one, same, other = (stratified_order(y, generator(seed, "test")) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert (one != other).mean() > 0.9
    members = one[y[one] == 0]
    assert abs(np.corrcoef(members, np.arange(500))[0, 1]) < 0.2
    assert len({y[stratified_order(y, generator(seed, "test"))[0]] for seed in range(20)}) == 2


@pytest.mark.parametrize("task", [Digits, Diabetes])
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"test_fraction": 0.0}, "task.test_fraction"),
        ({"validation_fraction": 1.0}, "task.validation_fraction"),
        ({"test_fraction": 0.7, "validation_fraction": 0.3}, "task.validation_fraction"),
        ({"split_seed": -1}, "task.split_seed"),
    ],
)
def test_fractions_are_checked(task: Any, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        task(**options).check()
    assert caught.value.field == field
