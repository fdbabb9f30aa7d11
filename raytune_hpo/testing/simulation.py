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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from raytune_hpo import Choice, Experiment, Float, Int, TrialError
from raytune_hpo.engine.before import Past
from raytune_hpo.engine.driver import Driver
from raytune_hpo.engine.population import Population
from raytune_hpo.experiment import ResolvedExperiment
from raytune_hpo.experiment.amending import Amendment
from raytune_hpo.journal import chain, events
from raytune_hpo.journal.chain import Link
from raytune_hpo.journal.events import CheckpointRecord, Event, Step
from raytune_hpo.journal.names import checkpoint_path
from raytune_hpo.journal.order import Order
from raytune_hpo.results.trial import TrialState
from raytune_hpo.schedulers import SCHEDULERS, Scheduler, scheduler_class
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.states import RunStatus, Status
from raytune_hpo.storage.commands import Inbox as FolderInbox
from raytune_hpo.testing.fake_pool import FakePool

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
    values = {"metric": METRIC, "mode": "max", "searcher": "random", "max_failures": 2, "fail_fast": None, **fields}
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
    of a start to find its checkpoint damaged, or its worker still at the trial before."""

    raises: float = 0.0
    lost: float = 0.0
    nan: float = 0.0
    no_metric: float = 0.0
    returns: float = 0.0
    damaged: float = 0.0
    occupied: float = 0.0


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


class Inbox:
    """The commands to a simulated run: files, which outlast a crash."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._taken: set[int] = set()
        self.finished = False  # whether the run has been, once

    def pending(self) -> list[dict[str, Any]]:
        lines, given = len(self._simulation.lines), self._simulation.commands
        left = [(i, after, c) for i, (after, c) in enumerate(given) if i not in self._taken]
        there = ((i, c) for i, after, c in left if (self.finished if after is None else after <= lines))
        return [{"id": f"{i}-1", **command} for i, command in there]

    def remove(self, command_id: str) -> None:
        self._taken.add(int(command_id.partition("-")[0]))


@dataclass
class Simulation:
    """One run. crash_steps: the journal appends (counted over all sessions) at which the driver dies,
    at even numbers before the step is written, at odd ones after it. interrupts: Ctrl-C after so many rounds of each
    session but the last. commands: a person's.
    retries: how often all its failed trials are tried again, once it is finished."""

    experiment: Experiment
    workers: int = 1
    batch: int = 1  # at most so many epochs in one answer
    faults: Faults = NONE
    crash_steps: set[int] = field(default_factory=set)
    interrupts: list[int] = field(default_factory=list)
    retries: int = 0
    #: (lines of the journal after which it is there, None once the run is finished; a command), in order.
    commands: list[tuple[int | None, dict[str, Any]]] = field(default_factory=list)
    build: Callable[[ResolvedExperiment], Scheduler] = ResolvedExperiment.new_scheduler
    value: Callable[[dict[str, Any], int], float] = curve

    def __post_init__(self) -> None:
        self.resolved = self.experiment.resolved
        self.lines: list[bytes] = []
        self._known: tuple[int, list[Event]] = (0, [])  # the events of so many lines
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
        self._inbox = Inbox(self)

    # The run ------------------------------------------------------------------------------------

    def run(self) -> Simulation:
        while True:
            try:
                if self._session() == RunStatus.FINISHED and not self._failed():
                    self._inbox.finished = True
                    if not self._inbox.pending():
                        return self
            except Crash:
                continue
            finally:
                self.rescued += self.population.rescued
                self.mismatches += self.population.mismatches

    def _failed(self) -> list[str]:
        """The trials that are to be tried again, in a run that is finished."""
        ledger = self.population.ledger
        if not self.retries or ledger.status != RunStatus.FINISHED or ledger.stop_reason is not None:
            return []
        retried = sum(any(isinstance(e, events.Reopened) for e in step.events) for step in self._read()[0])
        if retried >= self.retries:
            return []
        return [trial.id for trial in self.trials if trial.status == Status.FAILED]

    def _session(self) -> RunStatus:
        self.sessions += 1
        steps, self._link = self._read()
        for step in steps:
            for event in step.events:
                if isinstance(event, events.Amended):
                    self.amend(event.changes)
        population = self.population = self._made(steps)
        known = {c.path for t in population.trials.values() for c in t.checkpoints}
        kept_fewer = any("checkpoint" in a.changes for a in population.ledger.amendments)
        assert kept_fewer or known <= set(self.disk), "a journaled checkpoint is not on disk"
        self.disk = {path: record for path, record in self.disk.items() if path in known}
        self.pool = FakePool(self)
        everything: Any = self
        inbox: Any = self._inbox if self.path is None else FolderInbox(self.path)
        driver = Driver(
            everything, population, everything, everything, self.pool, inbox, self._remade, clock=lambda: self.now
        )
        earlier = sum(isinstance(e, events.SessionOpened) for step in steps for e in step.events)
        failed = self._failed()
        population.open_session(events.SessionOpened(1 + earlier, pid=1))
        population.settle(self.exists)
        population.reopen(failed)
        driver.commit()
        after = self.interrupts.pop(0) if self.interrupts else None
        status = driver.drive(NoInterrupt(after))  # type: ignore[arg-type]
        driver.population.close_session(status)
        driver.commit()
        return status

    def _made(self, steps: Sequence[Step]) -> WatchedPopulation:
        host, search = SchedulerHost(self.build(self.resolved)), self.resolved.new_search()
        made = WatchedPopulation(self.resolved, search, host, self._adopt, Past.of(steps, self.resolved.max_epochs))
        for step in steps:
            made.replay(step)
        return made

    def _remade(self, amendment: Amendment) -> WatchedPopulation:
        self.rescued += self.population.rescued
        self.mismatches += self.population.mismatches
        self.population = self._made(self._read()[0])
        return self.population

    def amend(self, changes: Mapping[str, Any]) -> None:
        """As of RunDirectory."""
        recorded = {**self.resolved.to_json(), **changes}
        given = {"task": self.resolved.task}
        self.resolved = Experiment.from_json(recorded, given=given).resolved

    # Stands in for the run directory, the journal and the checkpoint store -----------------------------

    path: Path | None = None

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
        steps, link, order = [], Link(), Order()
        for line in self.lines:
            step, link = chain.read(line, link, RUN_ID)
            order.follow(step)
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

    def exists(self, record: CheckpointRecord) -> bool:
        return record.path in self.disk

    def intact(self, record: CheckpointRecord) -> bool:
        return self.disk.get(record.path) == record

    def delete(self, *records: CheckpointRecord) -> None:
        for record in records:
            self.disk.pop(record.path, None)

    # What is left of it -----------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        if self._known[0] != len(self.lines):  # lines are only added
            self._known = len(self.lines), [event for step in self._read()[0] for event in step.events]
        return list(self._known[1])

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
