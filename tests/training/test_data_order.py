"""The order of a trial's samples goes on from its state, whoever's that is."""

from __future__ import annotations

import torch

from raytune_hpo.training.data_order import DataOrder


def taken(order: DataOrder, reports: int) -> list[list[int]]:
    return [[int(i) for step in order.epoch() for batch in step for i in batch] for _ in range(reports)]


def order(batch_size: int, seed: int = 0) -> DataOrder:
    return DataOrder(seed, 20, used=20, batch_size=batch_size, steps=3)


def test_an_order_goes_on_from_its_state() -> None:
    for batch_size in (2, 7):  # of 10 steps a pass, and of as many as a report
        whole, parts = order(batch_size), order(batch_size)
        expected = taken(whole, 8)
        found = []
        for _ in range(8):
            again = order(batch_size, seed=9)
            again.load_state_dict(parts.state_dict())
            parts = again
            found += taken(parts, 1)
        assert found == expected


def test_an_order_with_a_donors_place_in_a_pass_goes_on_from_its_own_state() -> None:
    donor = order(2)
    taken(donor, 4)
    assert donor.position == 2
    copy, stopped = order(7, seed=1), order(7, seed=1)  # whose passes are as long as its reports
    for each in (copy, stopped):
        each.load_state_dict(donor.state_dict())
    expected = taken(copy, 4)
    found = taken(stopped, 2)
    resumed = order(7, seed=1)
    resumed.load_state_dict({name: torch.as_tensor(value) for name, value in stopped.state_dict().items()})
    assert found + taken(resumed, 2) == expected
