"""Workers in virtual time, which fail as a simulation's faults say."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from raytune_hpo.journal import events
from raytune_hpo.seeding import generator
from raytune_hpo.states import Status
from raytune_hpo.workers.messages import Assignment, EpochReport, Outcome, Saved, WorkerInfo
from raytune_hpo.workers.pool import Lost, OwnWorkers, Slot

if TYPE_CHECKING:
    from raytune_hpo.testing.simulation import Simulation


class FakePool(OwnWorkers):
    """Workers in virtual time. Their trials' state is an epoch number, and so is a checkpoint."""

    ending = False
    leaving = ()

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.slots = [self._slot() for _ in range(simulation.workers)]
        self._calls: list[tuple[float, str, int, Slot, Outcome | Lost]] = []
        self._tie = itertools.count()
        self._deferred: set[tuple[Any, ...]] = set()
        self._at: dict[int, tuple[Assignment, int]] = {}  # id(slot) -> what it runs, its epoch

    @staticmethod
    def _slot() -> Slot:
        return Slot(None, WorkerInfo("here", 1, sees_run=True))

    @property
    def busy(self) -> list[Slot]:
        return [s for s in self.slots if s.trial is not None]

    def idle(self) -> list[Slot]:
        return [s for s in self.slots if s.trial is None]

    def take_surplus(self) -> list[EpochReport]:
        return []

    def take_news(self) -> list[events.Event]:
        return []

    def end(self, slot: Slot, silent_s: float) -> list[tuple[Slot, float]]:
        self.slots.remove(slot)
        self._calls = [call for call in self._calls if call[3] is not slot]
        heapq.heapify(self._calls)
        return [(slot, 1.0)]

    def expect(self, trials: int, at_once: int) -> None:
        pass

    def once(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def shutdown(self) -> None:
        pass

    def ensure(self) -> None:
        while len(self.slots) < self.simulation.workers:
            self.slots.append(self._slot())

    def admits(self, slot: Slot, losses: float) -> bool:
        return True

    def start(self, slot: Slot, assignment: Assignment) -> None:
        sim = self.simulation
        trial = sim.population.trials[assignment.trial]
        running = [s.trial for s in self.busy]
        assert assignment.trial not in running, "a trial runs twice"
        assert slot.trial is None
        assert (assignment.config, assignment.generation) == (trial.config, trial.generation)
        assert (assignment.known, assignment.losses) == (trial.epoch, trial.losses)
        slot.trial = assignment.trial
        epoch = 0
        if assignment.checkpoint is not None:
            assert sim.intact(assignment.checkpoint), f"started from {assignment.checkpoint.path}, which is gone"
            assert assignment.checkpoint.generation == assignment.generation
            epoch = assignment.checkpoint.epoch
        else:
            assert assignment.generation == 0
        self._at[id(slot)] = (assignment, epoch)
        draw = self._draw("start", assignment, epoch)
        again = (trial.id, epoch, trial.failures, trial.losses)
        if again not in self._deferred and self._draw("occupied", assignment, epoch) < sim.faults.occupied:
            self._deferred.add(again)
            self._answer(slot, Outcome("occupied"), ("occupied", epoch))
        elif assignment.checkpoint is not None and draw < sim.faults.damaged:
            self._answer(slot, Outcome("unreadable"), ("start", epoch))
        else:
            self.step(slot, assignment.until)

    def _draw(self, kind: str, assignment: Assignment, epoch: int) -> float:
        trial = self.simulation.population.trials[assignment.trial]
        key: tuple[Any, ...] = (kind, trial.id, trial.generation, epoch, trial.failures, trial.losses)
        if kind == "start":
            key = (*key, len(trial.checkpoints))
        if trial.reopened:  # what made it fail is mended, as far as chance may have it
            key = (*key, "again", sum(event.trial == trial.id for event in self.simulation.of(events.Reopened)))
        return float(generator(self.simulation.resolved.seed, "fate", *key).random())

    def step(self, slot: Slot, until: int) -> None:
        """As a worker does: run on to `until` at most, and answer before that if it takes long."""
        sim, faults = self.simulation, self.simulation.faults
        metric = sim.resolved.objective.metric
        assignment, epoch = self._at[id(slot)]
        assert epoch < until <= sim.resolved.max_epochs, "a trial trains past max_epochs"
        key = ("batch", assignment.trial, assignment.generation, epoch)
        batch = 1 + int(generator(sim.resolved.seed, *key).integers(sim.batch))
        bounds = list(itertools.accumulate((faults.raises, faults.lost, faults.returns, faults.nan, faults.no_metric)))
        reports: list[EpochReport] = []
        answer: Outcome | Lost | None = None
        for epoch in range(epoch + 1, min(until, epoch + batch) + 1):  # noqa: B020
            u = self._draw("step", assignment, epoch)
            fate = next((i for i, bound in enumerate(bounds) if u < bound), None)
            if fate == 0:
                answer = Outcome("raised", tuple(reports), "ValueError: simulated", "...")
            elif fate == 1:
                answer = Lost("the worker died", blame=1 / (1 + int(assignment.trial[1:]) % 3))
            elif fate == 2:
                answer = Outcome("returned", tuple(reports))
            if answer is not None:
                break
            metrics: dict[str, Any] = {metric: sim.value(assignment.config, epoch)}
            if fate is not None:
                metrics = {metric: math.nan} if fate == 3 else {"other": 1.0}
            every = sim.resolved.checkpoint_every
            saves = epoch % every == 0 or epoch == sim.resolved.max_epochs
            reports.append(EpochReport(epoch, metrics, 0.5, Saved(epoch) if saves else None))
        self._at[id(slot)] = (assignment, epoch)
        self._answer(slot, answer or Outcome("waiting", tuple(reports)), ("step", epoch))

    def _answer(self, slot: Slot, answer: Outcome | Lost, key: tuple[Any, ...]) -> None:
        sim = self.simulation
        assert slot.trial is not None
        trial = sim.population.trials[slot.trial]
        full = (*key, trial.id, trial.generation, trial.failures)
        if full not in sim.due:
            wait = float(generator(sim.resolved.seed, "duration", *full).exponential())
            sim.due[full] = sim.now + wait
        heapq.heappush(self._calls, (sim.due[full], trial.id, next(self._tie), slot, answer))

    def wait(self, timeout_s: float) -> list[tuple[Slot, Outcome | Lost]]:
        sim = self.simulation
        sim.rounds += 1
        assert sim.rounds < 200_000, "the run does not end"
        if not self._calls:
            sim.idle_rounds += 1  # one or two pass where the trials that were to be started could not be
            live = list(sim.population.live)
            assert sim.idle_rounds < 100, f"nothing runs, and these wait for ever: {live}"
            return []
        sim.idle_rounds = 0
        due, _, _, slot, answer = heapq.heappop(self._calls)
        sim.now = max(sim.now, due)
        if isinstance(answer, Lost):
            self.slots.remove(slot)
            return [(slot, answer)]
        assignment, _ = self._at[id(slot)]
        reports = [
            replace(r, saved=self._written(assignment, r.epoch)) if r.saved is not None else r for r in answer.reports
        ]
        return [(slot, replace(answer, reports=tuple(reports)))]

    def _written(self, assignment: Assignment, epoch: int) -> Saved:
        return Saved(epoch, self.simulation.write(assignment.trial, assignment.generation, epoch))

    def save(self, slot: Slot) -> Saved:
        self.simulation.saves += 1
        return self._written(*self._at[id(slot)])

    def release(self, slot: Slot, *, reusable: bool = True, completed: bool = False) -> None:
        assert slot.trial is not None
        sim, (assignment, epoch) = self.simulation, self._at[id(slot)]
        trial = sim.population.trials[slot.trial]
        asked = sim.population.answers.get(trial.id) in ("pause", "end")
        by_scheduler = asked and (trial.status == Status.PAUSED or trial.reason == sim.resolved.scheduler.name)
        sim.overruns += by_scheduler and trial.generation == assignment.generation and trial.epoch < epoch
        slot.trial = None
