"""Whole runs in virtual time: the product's own Driver, Population, schedulers and searchers over workers that play
given learning curves. Nothing is trained, written or started; a run of 80 trainings takes about a second.

What differs from a real run: a suggestion, a report and a checkpoint take no time.
(raytune_hpo/testing/simulation.py has a stricter sibling, which breaks things and checks every step.)

Notations
    now   virtual seconds since the run began
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from search_problems import Curve, Problem

from raytune_hpo import Experiment
from raytune_hpo.engine.driver import Driver
from raytune_hpo.engine.population import Population
from raytune_hpo.journal.events import CheckpointRecord, Ended, Event, Retried, SessionOpened
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.space.configs import Config
from raytune_hpo.states import Outcome as Ending
from raytune_hpo.storage.checkpoints import checkpoint_path
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.pool import OwnWorkers, Slot


@dataclass(frozen=True)
class Report:
    """A value as it came in at `now`. epoch: counted from 1."""

    now: float
    trial: str
    epoch: int
    value: float


@dataclass(frozen=True)
class Run:
    """reports: in the order of their arrival; configs: by trial."""

    reports: list[Report]
    configs: dict[str, Config]


class SimulatedPool(OwnWorkers):
    """Stands in for `workers.pool.Pool`. A trial's state is its epoch, and so is a checkpoint."""

    ending = False
    leaving = ()

    def __init__(self, curve: Callable[[Config], Curve], metric: str, workers: int) -> None:
        self.now = 0.0
        self.reports: list[Report] = []
        self.slots = [Slot(None, WorkerInfo("here", 1, sees_run=True)) for _ in range(workers)]
        self._curve = curve
        self._metric = metric
        self._calls: list[tuple[float, int, Slot, EpochReport]] = []
        self._tie = itertools.count()
        self._at: dict[int, tuple[Assignment, int]] = {}  # id(slot) -> what it runs, its epoch
        self._idle_rounds = 0

    @property
    def busy(self) -> list[Slot]:
        return [s for s in self.slots if s.trial is not None]

    def idle(self) -> list[Slot]:
        return [s for s in self.slots if s.trial is None]

    def ensure(self) -> None: ...

    def take_surplus(self) -> list[EpochReport]:
        return []

    def take_news(self) -> list[Any]:
        return []

    def admits(self, slot: Slot, losses: float) -> bool:
        return True

    def start(self, slot: Slot, assignment: Assignment) -> None:
        slot.trial = assignment.trial
        epoch = assignment.checkpoint.epoch if assignment.checkpoint is not None else 0
        self._at[id(slot)] = (assignment, epoch)
        self.step(slot, assignment.until)

    def step(self, slot: Slot, until: int) -> None:
        """Train one epoch and report it, as a worker does whose epochs are not very short."""
        assignment, epoch = self._at[id(slot)]
        epoch += 1
        curve = self._curve(assignment.config)
        seconds = float(curve.seconds[epoch - 1])
        self._at[id(slot)] = (assignment, epoch)
        report = EpochReport(epoch, {self._metric: float(curve.values[epoch - 1])}, seconds, None)
        heapq.heappush(self._calls, (self.now + seconds, next(self._tie), slot, report))

    def wait(self, timeout_s: float) -> list[tuple[Slot, Outcome]]:
        if not self._calls:
            self._idle_rounds += 1
            assert self._idle_rounds < 100, "nothing runs, and the run does not end"
            return []
        self._idle_rounds = 0
        self.now, _, slot, report = heapq.heappop(self._calls)
        assert slot.trial is not None
        self.reports.append(Report(self.now, slot.trial, report.epoch, report.metrics[self._metric]))
        return [(slot, Outcome("waiting", (report,)))]

    def save(self, slot: Slot) -> Saved:
        assignment, epoch = self._at[id(slot)]
        path = checkpoint_path(assignment.trial, assignment.generation, epoch, 1)
        return Saved(epoch, CheckpointRecord(assignment.trial, assignment.generation, epoch, path, 1, 1))

    def release(self, slot: Slot, *, reusable: bool = True, completed: bool = False) -> None:
        slot.trial = None


class Storage:
    """Stands in for the run directory, the journal and the checkpoint store, and keeps nothing.

    Nothing can fail here: a trial that does is a fault of the simulation."""

    path = None

    def append(self, t: float, events: Sequence[Event]) -> None:
        for event in events:
            failed = isinstance(event, Retried) or (isinstance(event, Ended) and event.outcome == Ending.FAILED)
            assert not failed, event

    def intact(self, record: CheckpointRecord) -> bool:
        return True

    def delete(self, *records: CheckpointRecord) -> None: ...


@dataclass
class Deadline:
    """Interrupts the run once its time is spent."""

    pool: SimulatedPool
    budget_s: float

    @property
    def requested(self) -> bool:
        return self.pool.now >= self.budget_s


def adopt(donor: CheckpointRecord, trial: str, generation: int) -> CheckpointRecord:
    return replace(donor, trial=trial, generation=generation, path=checkpoint_path(trial, generation, donor.epoch, 1))


def simulate(experiment: Experiment, problem: Problem, *, workers: int, budget_s: float) -> Run:
    """What trainings from the experiment's seed show.

    Run until `budget_s` virtual seconds have passed, or the search has no more to suggest."""
    resolved = experiment.resolved
    host = SchedulerHost(resolved.new_scheduler())
    population = Population(resolved, resolved.new_search(), host, adopt)
    pool, storage = SimulatedPool(partial(problem.curve, seed=resolved.seed), problem.metric, workers), Storage()
    stand_ins: tuple[Any, ...] = (storage, population, storage, storage, pool)
    nobody: Any = SimpleNamespace(pending=list)  # gives commands
    driver = Driver(*stand_ins, nobody, None, clock=lambda: pool.now)  # type: ignore[arg-type]
    population.open_session(SessionOpened(1))
    driver.drive(Deadline(pool, budget_s))  # type: ignore[arg-type]  # in place of a signal
    reports = [r for r in pool.reports if r.now <= budget_s]
    return Run(reports, {name: trial.config for name, trial in population.trials.items()})
