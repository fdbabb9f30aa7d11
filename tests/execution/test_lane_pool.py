"""How lanes of arrays are given out; no Ray: arrays here never answer by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from raytune_hpo.execution import lane_pool
from raytune_hpo.execution.lane_pool import LanePool
from raytune_hpo.execution.worker import Assignment, WorkerInfo
from raytune_hpo.settings import Resources


class Remote:
    def remote(self, *_: Any) -> object:
        return object()


class Actor:
    info = Remote()


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lane_pool, "time", clock)
    return clock


def pool_of(arrays: int, *, trials: int, at_first: int, monkeypatch: pytest.MonkeyPatch) -> LanePool:
    monkeypatch.setattr(lane_pool.Staffing, "wanted", lambda _: arrays)
    pool = LanePool(lambda number: Actor(), Resources(), trials, at_first)
    pool.ensure()
    return pool


def answer(pool: LanePool, array: int, lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_pool.ray, "get", lambda _: WorkerInfo("host", 1, True, lanes))
    pool._taken(pool._arrays[array], None)


def test_one_array_is_there_before_the_others_start(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(3, trials=9, at_first=1, monkeypatch=monkeypatch)
    assert len(pool._arrays) == 1
    answer(pool, 0, 64, monkeypatch)
    pool.ensure()
    assert len(pool._arrays) == 3


def test_no_array_takes_more_than_its_even_share(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, trials=9, at_first=2, monkeypatch=monkeypatch)
    answer(pool, 0, 64, monkeypatch)
    first = pool.idle()
    assert len(first) == 5
    for i, slot in enumerate(first):
        pool.start(slot, Assignment(f"t{i}", {}, 0, 1))
    assert pool.idle() == []
    answer(pool, 1, 64, monkeypatch)
    second = pool.idle()
    assert len(second) == 4
    assert {id(slot.array) for slot in second} == {id(pool._arrays[1])}


def test_a_late_array_is_not_counted_on(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = 5.0
    pool = pool_of(2, trials=9, at_first=2, monkeypatch=monkeypatch)
    for array in pool._arrays:
        array.made = 5.0
    answer(pool, 0, 64, monkeypatch)
    assert len(pool.idle()) == 5
    clock.now += lane_pool.LATE_S
    assert len(pool.idle()) == 9
