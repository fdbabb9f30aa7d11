"""A run that begins in the driver's process and goes over to workers when that is worth it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raytune_hpo import Experiment, Float, events, load_results, resume, run
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import Executor, ExecutorChanged, Noticed
from raytune_hpo.tasks.digits import Digits
from raytune_hpo.workers import choice
from raytune_hpo.workers.growing_pool import GrowingPool, Growth
from raytune_hpo.workers.messages import Assignment
from raytune_hpo.workers.pool import OwnWorkers, Slot


@contextlib.contextmanager
def anywhere() -> Iterator[None]:
    yield


def growth(**fields: Any) -> Growth:
    values = {"start_s": 4.0, "places": 2, "longest_s": 600.0, "trials": 10, "place": anywhere, "make": None, **fields}
    return Growth(**values)


@pytest.mark.parametrize(
    ("fields", "elapsed_s", "begun", "running", "due"),
    [
        ({}, 3.9, 1, 1, False),  # workers may not be worth it yet
        ({}, 4.0, 1, 1, True),
        ({}, 4.0, 4, 0, False),  # 6 s are left
        ({}, 4.1, 4, 0, True),
        ({}, 4.1, 4, 1, True),
        ({}, 4.1, 5, 0, False),
        ({}, 100.0, 10, 1, False),  # nothing would begin there
        ({"places": 1}, 100.0, 1, 1, False),  # nothing would be quicker there
        ({"places": 1}, 600.0, 1, 1, True),  # but survive a crash
    ],
)
def test_when_workers_are_worth_their_start(
    fields: dict[str, Any], elapsed_s: float, begun: int, running: int, due: bool
) -> None:
    assert growth(**fields).due(elapsed_s, begun, running) == due


class Pool(OwnWorkers):
    """Does what it is told, at once. slots: places."""

    def __init__(self, name: str, places: int) -> None:
        self.name, self.ending, self.over = name, False, False
        self.leaving: list[str] = []
        self.slots = [Slot(None) for _ in range(places)]
        self.said: list[tuple[Any, ...]] = []

    def ensure(self) -> None: ...

    @property
    def busy(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.trial is not None]

    def idle(self) -> list[Slot]:
        return [slot for slot in self.slots if slot.trial is None]

    def admits(self, slot: Slot, losses: float) -> bool:
        return True

    def start(self, slot: Slot, assignment: Assignment) -> None:
        assert slot in self.slots
        slot.trial = assignment.trial
        self.said.append(("start", assignment.trial))

    def step(self, slot: Slot, until: int) -> None:
        self.said.append(("step", slot.trial, until))

    def save(self, slot: Slot) -> None:
        self.said.append(("save", slot.trial))

    def release(self, slot: Slot, *, reusable: bool = True, completed: bool = False) -> None:
        self.said.append(("release", slot.trial))
        slot.trial = None

    def wait(self, timeout_s: float) -> list[Any]:
        return [(slot, self.name) for slot in self.busy]

    def once(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)

    def take_surplus(self) -> list[Any]:
        return [self.name]

    def take_news(self) -> list[Any]:
        return []

    def shutdown(self) -> None:
        self.over = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_trials_go_on_where_they_are_and_new_ones_begin_there() -> None:
    here, there, clock = Pool("here", 1), Pool("there", 2), Clock()
    event = ExecutorChanged(Executor.PROCESSES, "because")
    entered: list[threading.Thread] = []

    @contextlib.contextmanager
    def place() -> Iterator[None]:
        entered.append(threading.current_thread())
        yield
        entered.append(threading.current_thread())

    pool = GrowingPool(here, growth(place=place, make=lambda: (there, event)), clock)
    pool.ensure()
    (slot,) = pool.idle()
    pool.start(slot, Assignment("t0", {}, 0, 1))
    assert pool.idle() == []
    clock.now = 4.0
    pool.ensure()
    until(pool._up.is_set)
    pool.ensure()
    assert pool.take_news() == [event]
    first, second = pool.idle()
    pool.start(first, Assignment("t1", {}, 0, 1))
    pool.step(slot, 2)
    pool.step(first, 3)
    assert {answer for _, answer in pool.wait(0)} == {"here", "there"}
    pool.release(slot)
    assert pool.idle() == [second]
    assert [s.trial for s in pool.busy] == ["t1"]
    assert pool.save(first) is None
    assert here.said == [("start", "t0"), ("step", "t0", 2), ("release", "t0")]
    assert there.said == [("start", "t1"), ("step", "t1", 3), ("save", "t1")]
    assert pool.take_surplus() == ["here", "there"]
    pool.ending = True
    assert here.ending
    assert there.ending
    pool.shutdown()
    assert here.over
    assert there.over
    assert len(entered) == 2
    assert entered[0] is entered[1] is not threading.current_thread()


def test_without_workers_it_goes_on() -> None:
    @contextlib.contextmanager
    def place() -> Iterator[None]:
        raise ExperimentError("ray", "local", "cannot be started")
        yield

    clock = Clock()
    pool = GrowingPool(Pool("here", 1), growth(place=place), clock)
    clock.now = 5.0
    pool.ensure()
    until(lambda: pool._failure is not None)
    pool.ensure()
    (notice,) = pool.take_news()
    assert isinstance(notice, Noticed)
    assert "trials go on in this process" in notice.text
    assert len(pool.idle()) == 1
    pool.shutdown()


@dataclass(frozen=True)
class SlowHere(Digits):
    """A digits task whose models take long to build in the driver's process, and there alone."""

    driver: int = 0

    def build_model(self, config: Mapping[str, Any]) -> Any:
        if os.getpid() == self.driver:
            time.sleep(0.3)
        return super().build_model(config)


@pytest.mark.usefixtures("ray_session")
def test_a_run_that_takes_longer_goes_over_and_is_resumed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "START_S", 0.0)
    monkeypatch.setattr(choice, "chosen", lambda *_: choice.Choice(Executor.INLINE_LANES, "for now", 0.05))
    experiment = Experiment(
        name="growing",
        task=SlowHere(driver=os.getpid()),
        space={"lr": Float(1e-3, 1e-1, "log"), "batch_size": 256},
        searcher="random",
        scheduler="fifo",
        num_samples=100,
        max_epochs=2,
        max_concurrent=2,
    )
    results = run(experiment, tmp_path / "run")
    assert results.status == "finished"
    assert [e.executor for e in results.of(events.SessionOpened)] == ["inline lanes"]
    assert [e.executor for e in results.of(ExecutorChanged)] == ["lanes"]
    begun = [e.pid == os.getpid() for e in results.of(events.Started)]
    assert begun == sorted(begun, reverse=True), "a trial began here after one had begun there"
    assert 0 < sum(begun) < 100
    assert set(results.trials.status) == {"completed"}
    assert len(results.curves) == 200
    assert load_results(tmp_path / "run").ledger.executor == "lanes"
    assert resume(tmp_path / "run").status == "finished"
