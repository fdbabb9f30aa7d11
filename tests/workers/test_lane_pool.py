"""How lanes of arrays are given out; no Ray: arrays here never answer by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from raytune_hpo.engine.population import LOSSES_ALLOWED
from raytune_hpo.settings import Resources
from raytune_hpo.workers import lane_pool
from raytune_hpo.workers.inline_transport import InlineTransport
from raytune_hpo.workers.lane_calls import Turn
from raytune_hpo.workers.lane_pool import LanePool
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, WorkerInfo


class Said:
    """A call and its answer."""

    def __init__(self, answer: Any = None) -> None:
        self._answer = answer

    def answer(self, timeout_s: float | None = None) -> Any:
        return self._answer


class Actor:
    """calls: the arguments of each."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def call(self, method: str, *arguments: Any) -> Said:
        self.calls.append((method, *arguments))
        return Said()

    def kill(self) -> None:
        pass


class Nowhere(InlineTransport):
    """A transport whose actors work while the driver does."""

    concurrent = True


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
    pool = LanePool(Nowhere(), lambda number: Actor(), Resources(), trials, at_first)
    pool.ensure()
    return pool


def answer(pool: LanePool, array: int, lanes: int) -> None:
    pool._taken(pool._arrays[array], Said(WorkerInfo("host", 1, True, lanes)))


def test_one_array_is_there_before_the_others_start(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(3, trials=9, at_first=1, monkeypatch=monkeypatch)
    assert len(pool._arrays) == 1
    answer(pool, 0, 64)
    pool.ensure()
    assert len(pool._arrays) == 3


def test_no_array_takes_more_than_its_even_share(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, trials=9, at_first=2, monkeypatch=monkeypatch)
    answer(pool, 0, 64)
    first = pool.idle()
    assert len(first) == 5
    for i, slot in enumerate(first):
        pool.start(slot, Assignment(f"t{i}", {}, 0, 1))
    assert pool.idle() == []
    answer(pool, 1, 64)
    second = pool.idle()
    assert len(second) == 4
    assert {id(slot.array) for slot in second} == {id(pool._arrays[1])}


def given(pool: LanePool) -> list[int]:
    """How many lanes of each array are given out now, to trials."""
    slots = pool.idle()
    for i, slot in enumerate(slots):
        pool.start(slot, Assignment(f"t{i}", {}, 0, 1))
    return [sum(slot.array is array for slot in slots) for array in pool._arrays]


def trained(pool: LanePool, array: int, lanes: int) -> None:
    """An array has trained its first trial, and finds that it has room for so many lanes."""
    slot = next(slot for slot in pool._arrays[array].lanes if slot.trial is not None)
    outcome = Outcome("running", (EpochReport(1, {"loss": 1.0}, 0.1, None),))
    pool._taken(pool._arrays[array], Said(Turn(((slot.number, slot.ticket, outcome),), True, lanes)))


def test_an_array_that_has_not_trained_has_its_share_kept(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has, it has two lanes: the first to know its size would take all others."""
    pool = pool_of(2, trials=64, at_first=2, monkeypatch=monkeypatch)
    answer(pool, 0, 2)
    assert given(pool) == [2, 0]
    trained(pool, 0, 256)
    assert given(pool) == [30, 0]
    answer(pool, 1, 2)
    assert given(pool) == [0, 2]
    trained(pool, 1, 256)
    assert given(pool) == [0, 30]


def test_a_small_array_leaves_its_share_to_the_others(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, trials=64, at_first=2, monkeypatch=monkeypatch)
    answer(pool, 0, 2)
    answer(pool, 1, 2)
    assert given(pool) == [2, 2]
    trained(pool, 1, 128)
    assert given(pool) == [0, 30]
    trained(pool, 0, 16)
    assert given(pool) == [14, 16]


def test_an_array_that_trains_for_long_is_not_waited_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(2, trials=64, at_first=2, monkeypatch=monkeypatch)
    for array in pool._arrays:
        array.made = 0.0
    answer(pool, 0, 2)
    answer(pool, 1, 2)
    assert given(pool) == [2, 2]
    trained(pool, 1, 128)
    assert given(pool) == [0, 30]
    clock.now += lane_pool.LATE_S
    assert given(pool) == [0, 30]


def test_a_late_array_is_not_counted_on(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = 5.0
    pool = pool_of(2, trials=9, at_first=2, monkeypatch=monkeypatch)
    for array in pool._arrays:
        array.made = 5.0
    clock.now = 8.0
    answer(pool, 0, 64)
    assert len(pool.idle()) == 5
    clock.now = 8.0 + lane_pool.LATE_S - 1  # the first took long too
    assert len(pool.idle()) == 5
    clock.now += 1
    assert len(pool.idle()) == 9


LAST = 5


class Fate:
    """A run of trials of LAST epochs, of which some kill the array they are in at the epoch named.

    Trials go on from every second epoch; the first that wait are the first to start, as with Ray's schedulers.
    known: each trial's last reported epoch; epochs: those of the trials in the array.
    """

    def __init__(self, pool: LanePool, trials: int, killers: dict[str, int]) -> None:
        self.pool = pool
        self.trials = trials
        self.killers = killers
        self.waiting = [f"t{i:03d}" for i in range(trials)]
        self.known = dict.fromkeys(self.waiting, 0)
        self.losses = dict.fromkeys(self.waiting, 0.0)
        self.epochs: dict[str, int] = {}
        self.failed: list[str] = []
        self.deaths = 0

    def live(self) -> None:
        while self.waiting or self.pool.busy:
            self.pool.ensure()
            array = self.pool._arrays[0]
            if not array.lanes:
                answer(self.pool, 0, self.trials)
            self._fill(array)
            if any(epoch + 1 == self.killers.get(trial) for trial, epoch in self.epochs.items()):
                self._die(array)
            else:
                self._train(array)

    def _fill(self, array: Any) -> None:
        self.waiting.sort()
        for slot in self.pool.idle():
            if not self.waiting or not self.pool.admits(slot, self.losses[self.waiting[0]]):
                break
            trial = self.waiting.pop(0)
            known, losses = self.known[trial], self.losses[trial]
            self.pool.start(slot, Assignment(trial, {}, 0, LAST, known=known, losses=losses))
        self.pool._call(array)
        started = [order.trial.trial for order in array.actor.calls[-1][1] if order.trial is not None]
        self.epochs |= {trial: self.known[trial] // 2 * 2 for trial in started}

    def _die(self, array: Any) -> None:
        self.deaths += 1
        self.epochs.clear()
        lost = self.pool._lost(array, "died")
        assert sum(loss.blame for _, loss in lost) == pytest.approx(1)
        for slot, loss in lost:
            assert slot.trial is not None
            self.losses[slot.trial] += loss.blame
            (self.failed if self.losses[slot.trial] > LOSSES_ALLOWED else self.waiting).append(slot.trial)

    def _train(self, array: Any) -> None:
        self.epochs = {trial: epoch + 1 for trial, epoch in self.epochs.items()}
        outcomes = tuple(
            (slot.number, slot.ticket, Outcome("running", (EpochReport(self.epochs[slot.trial], {}, 0.0, None),)))
            for slot in array.lanes
            if slot.trial in self.epochs
        )
        for slot, _ in self.pool._taken(array, Said(Turn(outcomes, False, self.trials))):
            assert slot.trial is not None
            if self.epochs[slot.trial] > self.known[slot.trial]:
                self.known[slot.trial], self.losses[slot.trial] = self.epochs[slot.trial], 0.0
            if self.epochs[slot.trial] == LAST:
                del self.epochs[slot.trial]
                self.pool.release(slot)


@pytest.mark.parametrize("epoch", [1, 2, 4])
@pytest.mark.parametrize("killers", [["t000"], ["t077"], ["t127"], ["t010", "t011", "t090"]])
def test_a_trial_that_kills_arrays_fails_and_no_other(
    epoch: int, killers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(1, trials=128, at_first=1, monkeypatch=monkeypatch)
    fate = Fate(pool, 128, dict.fromkeys(killers, epoch))
    fate.live()
    assert sorted(fate.failed) == killers
    assert fate.deaths <= 9 * len(killers)
    assert {fate.known[trial] for trial in fate.known if trial not in killers} == {LAST}


def test_arrays_that_are_killed_from_outside_fail_few_trials_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(1, trials=64, at_first=1, monkeypatch=monkeypatch)
    losses = dict.fromkeys((f"t{i}" for i in range(64)), 0.0)
    inside, most = [], []
    for _ in range(7):
        answer(pool, 0, 64)
        array = pool._arrays[0]
        for slot, (trial, lost) in zip(pool.idle(), losses.items(), strict=True):
            if pool.admits(slot, lost):
                pool.start(slot, Assignment(trial, {}, 0, 1, losses=lost))
        inside.append(len(pool.busy))
        pool._call(array)
        for slot, loss in pool._lost(array, "killed"):
            assert slot.trial is not None
            losses[slot.trial] += loss.blame
        most.append(max(losses.values()))
        pool.ensure()
    assert inside == [64, 32, 10, 3, 1, 1, 1]
    assert most[5] <= LOSSES_ALLOWED < most[6]
    assert sum(lost > 1 for lost in losses.values()) == 1


def test_trials_that_had_not_been_sent_have_no_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(1, trials=2, at_first=1, monkeypatch=monkeypatch)
    answer(pool, 0, 2)
    first, second = pool.idle()
    pool.start(first, Assignment("t0", {}, 0, 1))
    pool._call(pool._arrays[0])
    pool.start(second, Assignment("t1", {}, 0, 1))
    assert [loss.blame for _, loss in pool._lost(pool._arrays[0], "died")] == [1.0, 0.0]
