"""Whole runs of the real Driver and Population, without Ray and without files: what `schedulers` checks.

A Simulation stands in for what lies round them: a pool of workers that train a made-up learning curve in
virtual time, a disk of checkpoints, a journal that is a list of lines. It fails trials, loses workers,
damages checkpoints and reports NaN, each as a function of the seed and of what the trial does, so that a run
that was crashed and resumed meets the same fate as the one that was not.

Notations
    fate     what happens to a call, a function of (seed, trial, generation, epoch, failures)
    due      the virtual time at which a call's answer is there; kept over crashes
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from raytune_hpo import Choice, Experiment, Float, Int, TrialError
from raytune_hpo.engine.driver import Driver
from raytune_hpo.engine.population import Population
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.journal import chain, events
from raytune_hpo.journal.chain import Link
from raytune_hpo.journal.events import CheckpointRecord, Event, Step
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers import SCHEDULERS, Scheduler, scheduler_class
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import RunStatus, Status
from raytune_hpo.storage.checkpoints import checkpoint_path
from raytune_hpo.workers.pool import Lost, Slot
from raytune_hpo.workers.worker import Assignment, EpochReport, Outcome, Saved, WorkerInfo

METRIC = "value"
E = TypeVar("E", bound=Event)
RUN_ID = "simulated"
POPULATION_BASED = tuple(name for name in SCHEDULERS if scheduler_class(name).is_population)


def trainable(config: dict[str, Any]) -> None:
    """Never called: the simulation trains."""


def space() -> SearchSpace:
    return SearchSpace(
        {
            "x": Float(0.0, 1.0),
            "model": {"units": Int(8, 64, scale="power_of_two"), "kind": Choice(["a", "b", "c"])},
            "extra": Float(1e-4, 1.0, scale="log").when("model.kind", "==", "b"),
        }
    )


def quality(config: dict[str, Any]) -> float:
    """In (0, 1.3); curves of two configs never cross."""
    bonus = {"a": 0.0, "b": 0.2, "c": 0.1}[config["model"]["kind"]]
    return float(1.0 - (config["x"] - 0.3) ** 2 + bonus + 1e-3 * math.log2(config["model"]["units"]))


def curve(config: dict[str, Any], epoch: int) -> float:
    return quality(config) * (1.0 - 0.7**epoch)


def make_experiment(scheduler: Any, *, samples: int, epochs: int, seed: int = 0, **fields: Any) -> Experiment:
    options = {"name": scheduler} if isinstance(scheduler, str) else scheduler
    if isinstance(options, Mapping) and options["name"] in POPULATION_BASED:
        scheduler = {"mutate": ["x", "model.kind", "extra"], **options}
    values = {"metric": METRIC, "mode": "max", "searcher": "random", "max_failures": 2, **fields}
    return Experiment(
        name="simulated",
        task=trainable,
        space=space(),
        scheduler=scheduler,
        num_samples=samples,
        max_epochs=epochs,
        seed=seed,
        **values,
    )


@dataclass(frozen=True)
class Faults:
    """Probabilities: of a call to raise, to lose its worker, to report NaN, to report no metric, to return;
    of a start to find its checkpoint damaged."""

    raises: float = 0.0
    lost: float = 0.0
    nan: float = 0.0
    no_metric: float = 0.0
    returns: float = 0.0
    damaged: float = 0.0


NONE = Faults()
SOME = Faults(raises=0.03, lost=0.03, nan=0.005, no_metric=0.002, returns=0.005, damaged=0.02)


class Crash(BaseException):
    """kill -9 of the driver and all of its workers."""


class WatchedPopulation(Population):
    """Sees that the scheduler knows the configs that are in force; counts the trials that run only because of
    the rule that no scheduler may leave trials waiting for ever.

    answers: to each trial's newest report."""

    rescued = 0

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.answers: dict[str, str] = {}

    def report(self, trial: TrialState, *given: Any) -> str:
        self.answers[trial.id] = super().report(trial, *given)
        return self.answers[trial.id]

    def next_trial(self) -> TrialState | None:
        trial = super().next_trial()
        assert all(hosted.config == self.trials[name].config for name, hosted in self.host.trials.items())
        if trial is not None and trial.status == Status.PAUSED and self.host.choose() is None:
            self.rescued += 1
        return trial


class NoInterrupt:
    def __init__(self, after: int | None = None) -> None:
        self._left = after

    @property
    def requested(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        return self._left < 0


@dataclass
class Simulation:
    """One run. crash_steps: the journal appends (counted over all sessions) at which the driver dies,
    at even numbers before the step is written, at odd ones after it. interrupt_after: Ctrl-C after so many
    rounds of each session but the last."""

    experiment: Experiment
    workers: int = 1
    batch: int = 1  # at most so many epochs in one answer
    faults: Faults = NONE
    crash_steps: set[int] = field(default_factory=set)
    interrupts: list[int] = field(default_factory=list)
    build: Callable[[ResolvedExperiment], Scheduler] = ResolvedExperiment.new_scheduler
    value: Callable[[dict[str, Any], int], float] = curve

    def __post_init__(self) -> None:
        self.resolved = self.experiment.resolved
        self.lines: list[bytes] = []
        self.disk: dict[str, CheckpointRecord] = {}
        self.now = 0.0
        self.due: dict[tuple[Any, ...], float] = {}
        self.appends = 0
        self.sessions = 0
        self.mismatches = 0
        self.rescued = 0
        self.most_on_disk = 0
        self.rounds = 0
        self.saves = 0
        self.idle_rounds = 0
        self.overruns = 0
        self.refused = 0

    # The run ------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        while True:
            try:
                if self._session() == RunStatus.FINISHED:
                    return self
            except Crash:
                continue
            finally:
                self.rescued += self.population.rescued
                self.mismatches += self.population.mismatches

    def _session(self) -> RunStatus:
        self.sessions += 1
        host = SchedulerHost(self.build(self.resolved))
        population = WatchedPopulation(self.resolved, self.resolved.new_search(), host, self._adopt)
        self.population = population
        steps, self._link = self._read()
        for step in steps:
            population.replay(step)
        known = {c.path for t in population.trials.values() for c in t.checkpoints}
        assert known <= set(self.disk), "a journaled checkpoint is not on disk"
        self.disk = {path: record for path, record in self.disk.items() if path in known}
        self.pool = FakePool(self)
        everything: Any = self
        driver = Driver(everything, population, everything, everything, self.pool, clock=lambda: self.now)
        population.open_session(events.SessionOpened(self.sessions, pid=1))
        driver.commit()
        after = self.interrupts.pop(0) if self.interrupts else None
        status = driver.drive(NoInterrupt(after))  # type: ignore[arg-type]
        population.close_session(status)
        driver.commit()
        return status

    # Stands in for the run directory, the journal and the checkpoint store -----------------------------

    path = None

    def write_error(self, trial_id: str, text: str) -> str:
        return f"errors/{trial_id}.txt"

    def append(self, t: float, happened: Sequence[Event]) -> Step:
        step = Step(self._link.number + 1, t, self.now, tuple(happened), self._link.events)
        for after in (0, 1):
            number, self.appends = self.appends, self.appends + 1
            if after:
                line, self._link = chain.written(step, self._link, RUN_ID)
                self.lines.append(line)
            if number in self.crash_steps:
                raise Crash
        return step

    def _read(self) -> tuple[list[Step], Link]:
        steps, link = [], Link()
        for line in self.lines:
            step, link = chain.read(line, link, RUN_ID)
            steps.append(step)
        return steps, link

    def write(self, trial: str, generation: int, epoch: int) -> CheckpointRecord:
        path = checkpoint_path(trial, generation, epoch, self.sessions)
        self.disk[path] = CheckpointRecord(trial, generation, epoch, path, 1, 1)
        self.most_on_disk = max(self.most_on_disk, len(self.disk))
        return self.disk[path]

    def _adopt(self, donor: CheckpointRecord, trial: str, generation: int) -> CheckpointRecord:
        assert self.disk.get(donor.path) == donor, f"{trial} copies {donor.path}, which was deleted"
        seed = self.resolved.seed
        if generator(seed, "adopt", donor.trial, donor.generation, donor.epoch).random() < self.faults.damaged:
            self.refused += 1
            raise TrialError(f"{donor.path} is damaged")
        return self.write(trial, generation, donor.epoch)

    def intact(self, record: CheckpointRecord) -> bool:
        return self.disk.get(record.path) == record

    def delete(self, *records: CheckpointRecord) -> None:
        for record in records:
            self.disk.pop(record.path, None)

    # What is left of it -----------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        return [event for step in self._read()[0] for event in step.events]

    def of(self, kind: type[E]) -> list[E]:
        """The journal's events of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def trials(self) -> list[TrialState]:
        return list(self.population.trials.values())

    def table(self) -> list[tuple[Any, ...]]:
        return [
            (t.id, t.status, t.reason, t.epoch, t.best, t.best_epoch, t.best_config, t.generation, t.config, t.failures)
            for t in self.trials
        ]

    def curves(self) -> list[tuple[Any, ...]]:
        return sorted((e.trial, e.generation, e.epoch, repr(e.metrics)) for e in self.of(events.Reported))


class FakePool:
    """Workers in virtual time. Their trials' state is an epoch number, and so is a checkpoint."""

    ending = False

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.slots = [self._slot() for _ in range(simulation.workers)]
        self._calls: list[tuple[float, str, int, Slot, Outcome | Lost]] = []
        self._tie = itertools.count()
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

    def take_phases(self) -> list[events.Phased]:
        return []

    def actors(self) -> list[Any]:
        return []

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
        if assignment.checkpoint is not None and draw < sim.faults.damaged:
            self._answer(slot, Outcome("unreadable"), ("start", epoch))
        else:
            self.step(slot, assignment.until)

    def _draw(self, kind: str, assignment: Assignment, epoch: int) -> float:
        trial = self.simulation.population.trials[assignment.trial]
        key: tuple[Any, ...] = (kind, trial.id, trial.generation, epoch, trial.failures, trial.losses)
        if kind == "start":
            key = (*key, len(trial.checkpoints))
        return float(generator(self.simulation.resolved.seed, "fate", *key).random())

    def step(self, slot: Slot, until: int) -> None:
        """As a worker does: run on to `until` at most, and answer before that if it takes long."""
        sim, faults = self.simulation, self.simulation.faults
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
            metrics: dict[str, Any] = {METRIC: sim.value(assignment.config, epoch)}
            if fate is not None:
                metrics = {METRIC: math.nan} if fate == 3 else {"other": 1.0}
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

    def release(self, slot: Slot, *, reusable: bool = True) -> None:
        assert slot.trial is not None
        sim, (assignment, epoch) = self.simulation, self._at[id(slot)]
        trial = sim.population.trials[slot.trial]
        asked = sim.population.answers.get(trial.id) in ("pause", "end")
        by_scheduler = asked and (trial.status == Status.PAUSED or trial.reason == sim.resolved.scheduler.name)
        sim.overruns += by_scheduler and trial.generation == assignment.generation and trial.epoch < epoch
        slot.trial = None
