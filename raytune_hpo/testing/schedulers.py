"""What every scheduler must do, whatever it is: checks of simulated runs, and a class of tests.

class TestMine(SchedulerContract):
    scheduler = {"name": Mine, "option": 2}   # as Experiment takes it; a name, a class or an object as well
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from raytune_hpo import Experiment
from raytune_hpo.journal import events
from raytune_hpo.journal.events import CheckpointRecord, Event
from raytune_hpo.results.ledger import Ledger
from raytune_hpo.schedulers.populations import PbtOptions, PopulationOptions
from raytune_hpo.search import SearchAlgorithm
from raytune_hpo.states import Status
from raytune_hpo.testing.simulation import METRIC, NONE, SOME, Faults, Simulation, curve, make_experiment

RUNS = 20


class SchedulerContract:
    scheduler: ClassVar[Any]
    lengths: ClassVar[Sequence[int]] = (1, 2, 7, 10, 27)  # runs in epochs that the scheduler takes

    def test_many_runs_in_a_row_all_end(self) -> None:
        """With failures, lost workers, crashes and interrupts."""
        sims = [check(random_simulation(self.scheduler, seed, self.lengths).run()) for seed in range(RUNS)]
        assert sum(sim.sessions > 1 for sim in sims) > RUNS / 2

    def test_a_crash_at_any_step_changes_nothing(self) -> None:
        experiment = make_experiment(self.scheduler, samples=6, epochs=6, seed=4, checkpoint={"every": 2})
        check_crashes(experiment, Faults(raises=0.05, nan=0.02))

    def test_same_seed_same_table(self) -> None:
        def run() -> Simulation:
            return Simulation(experiment, workers=3, faults=SOME).run()

        experiment = make_experiment(self.scheduler, samples=12, epochs=9, seed=5)
        np.random.seed(1)  # the global state is what Ray's schedulers draw from
        one = run()
        np.random.seed(2)
        assert run().lines == one.lines


def random_simulation(scheduler: Any, seed: int, lengths: Sequence[int] = (1, 2, 7, 10, 27)) -> Simulation:
    """A run whose size, workers, stopping rules, faults and crashes follow from the seed. lengths: of it in epochs."""
    rng = np.random.default_rng(seed)
    every, keep, keep_trials = int(rng.integers(1, 4)), int(rng.integers(1, 3)), int(rng.choice([1, 3, 20]))
    fields: dict[str, Any] = {"checkpoint": {"every": every, "keep": keep, "keep_trials": keep_trials}}
    if rng.random() < 0.2:
        fields["early_stopping"] = {"patience": 2, "min_delta": 0.05}
    if rng.random() < 0.15:
        fields["stop"] = {"target": 1.0}
    if rng.random() < 0.15:
        fields["stop"] = {"no_improvement_trials": 4}
    if rng.random() < 0.15:
        fields["time_budget_s"] = 5.0
    batch = int(rng.integers(1, 6))
    epochs, samples = int(rng.choice(lengths)), int(rng.integers(1, 41))
    return Simulation(
        make_experiment(scheduler, samples=samples, epochs=epochs, seed=seed, **fields),
        workers=int(rng.integers(1, 6)),
        batch=batch,
        faults=(SOME if batch == 1 else dataclasses.replace(SOME, no_metric=0.0)) if seed % 3 else NONE,
        crash_steps=set(map(int, rng.integers(1, 150, 6))),
        interrupts=[int(x) for x in rng.integers(3, 40, 2)],
    )


def check(sim: Simulation) -> Simulation:
    check_sound(sim)
    assert sim.rescued == 0, "the scheduler left trials waiting for ever"
    if isinstance(sim.resolved.scheduler.options, PopulationOptions):
        check_lineage(sim)
    return sim


def check_crashes(experiment: Experiment, faults: Faults, stride: int = 1) -> Simulation:
    """One worker, so that the order of outcomes is the same; a crash before and after every `stride`-th journal line.
    Answers the run without a crash."""
    calm = check(Simulation(experiment, faults=faults).run())
    assert calm.appends > 30
    for step in range(1, calm.appends, stride):
        crashed = Simulation(experiment, faults=faults, crash_steps={step}).run()
        assert crashed.sessions == 2
        check_same_table(check(crashed), calm)
    return calm


def check_sound(sim: Simulation) -> None:
    """What holds of every run, whatever befell it."""
    assert sim.mismatches == 0, "replay decides otherwise than the run did"
    assert sim.overruns == 0, "a trial has run past a decision of its scheduler: next_decision promised none so early"
    assert sim.population.done
    ends = [e.trial for e in sim.of(events.Ended)]
    begun = [*sim.population.trials, *(e.trial for e in sim.of(events.Reopened))]
    assert sorted(ends) == sorted(begun), "a trial has not ended, or ended twice"
    assert all(t.finished for t in sim.trials)
    assert sim.population.ledger.counts == {status: sum(t.status == status for t in sim.trials) for status in Status}
    search = sim.population.search
    if isinstance(search, SearchAlgorithm):
        assert [s.trial_id for s in search.pending()] == []
    check_epochs(sim.events)
    check_starts(sim.events)
    check_derivation(sim)
    kept = {c.path for t in sim.trials for c in t.checkpoints}
    assert kept == set(sim.disk), "checkpoints leak, or the ledger names some that are gone"
    for trial in sim.trials:
        sim.resolved.space.check(trial.config)


def check_epochs(journaled: list[Event]) -> None:
    """The epochs of a generation follow one another: no gap, no double; and every report is decided about, once."""
    at: dict[str, tuple[int, int]] = {}
    undecided: dict[str, int] = {}
    for event in journaled:
        match event:
            case events.Suggested(trial=trial):
                assert trial not in at
                at[trial] = (0, event.checkpoint.epoch if event.checkpoint is not None else 0)
            case events.Reported(trial=trial):
                generation, epoch = at[trial]
                assert (event.generation, event.epoch) == (generation, epoch + 1), event
                at[trial] = (generation, epoch + 1)
                assert trial not in undecided, event
                undecided[trial] = event.epoch
            case events.Decided(trial=trial):
                assert undecided.pop(trial) == event.epoch, event
            case events.Perturbed(trial=trial):
                assert event.generation == at[trial][0] + 1
                at[trial] = (event.generation, event.donor_epoch)
    assert not undecided


def check_starts(journaled: list[Event]) -> None:
    """Every start is from the newest checkpoint of the trial's generation; after a damaged one, from one that
    was saved before it (or from zero, where retention has left none)."""
    saved: dict[str, list[CheckpointRecord]] = defaultdict(list)
    fell_back: set[str] = set()
    generation: dict[str, int] = defaultdict(int)
    for event in journaled:
        match event:
            case events.Suggested(trial=trial, checkpoint=CheckpointRecord() as record):
                assert record.generation == 0
                saved[trial].append(record)
            case events.CheckpointSaved(trial=trial):
                saved[trial].append(event.checkpoint)
                fell_back.discard(trial)
            case events.Perturbed(trial=trial):
                generation[trial] = event.generation
                saved[trial].append(event.checkpoint)
                fell_back.discard(trial)
            case events.CheckpointLost(trial=trial):
                saved[trial] = [record for record in saved[trial] if record.path != event.path]
                fell_back.add(trial)
            case events.Reopened(trial=trial):
                fell_back.add(trial)  # of failed trials not all keep a checkpoint
            case events.Started(trial=trial):
                own = [record.epoch for record in saved[trial] if record.generation == generation[trial]]
                right = {0, *own} if trial in fell_back else {own[-1] if own else 0}
                assert event.epoch in right, event


def check_derivation(sim: Simulation) -> None:
    """The tables that readers derive from the journal are the driver's."""
    ledger = Ledger(sim.resolved.objective)
    for event in sim.events:
        ledger.apply(event)
    ours = sim.population.ledger
    assert ledger.counts == ours.counts
    assert ledger.best_trial is None or ours.best_trial is not None
    assert (ledger.best_trial and ledger.best_trial.id) == (ours.best_trial and ours.best_trial.id)
    # Of several equally good trials, the driver's is the first to get there, and the reader's is the first.
    winner, best = ledger.winner(), ours.best_trial
    assert (winner and winner.best) == (best and best.best)
    for theirs in ledger.trials.values():
        mine = sim.population.trials[theirs.id]
        for name in ("status", "epoch", "best", "best_epoch", "best_config", "generation", "config", "reason"):
            assert repr(getattr(theirs, name)) == repr(getattr(mine, name)), (theirs.id, name)


def check_same_table(one: Simulation, other: Simulation) -> None:
    for a, b in zip(one.table(), other.table(), strict=True):
        assert a == b
    assert one.curves() == other.curves()
    winners = [s.population.ledger.winner() for s in (one, other)]
    assert (winners[0] and winners[0].id) == (winners[1] and winners[1].id)


def check_lineage(sim: Simulation) -> int:
    """PBT's perturb events are consistent. Answers how many there are."""
    space, known, count = sim.resolved.space, set(), 0
    config: dict[str, dict[str, Any]] = {}
    reported: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
    generation: dict[str, int] = defaultdict(int)
    in_force: dict[tuple[str, int, int], dict[str, Any]] = {}
    options = sim.resolved.scheduler.options
    assert isinstance(options, PopulationOptions)
    mutate = set(options.mutate or ())
    for event in sim.events:
        match event:
            case events.Suggested(trial=trial):
                known.add(trial)
                config[trial] = event.config
            case events.Reported(trial=trial):
                reported[trial][event.generation, event.epoch] = event.metrics[METRIC]
                in_force[trial, event.generation, event.epoch] = config[trial]
            case events.Perturbed(trial=trial):
                count += 1
                donor, epoch, record = event.donor, event.donor_epoch, event.checkpoint
                assert donor in known
                assert donor != trial
                assert event.old_config == config[trial]
                space.check(event.new_config)
                old, new = (space.values(c) for c in (config[donor], event.new_config))
                assert {path for path in space.paths if new.get(path) != old.get(path)} <= mutate
                if options.resample_probability == 0 and isinstance(options, PbtOptions):
                    step = options.perturbation
                    moved = (min(old["x"] + step, 1.0), max(old["x"] - step, 0.0))
                    assert any(abs(new["x"] - x) < 1e-9 for x in moved), "the new config was not made from the donor's"
                assert (record.epoch, record.trial, record.generation) == (epoch, trial, event.generation)
                assert (generation[donor], epoch) in reported[donor], "the donor never was at that epoch"
                config[trial], generation[trial] = event.new_config, event.generation
    for t in sim.trials:
        if t.best is not None:
            when = [k for k, v in reported[t.id].items() if v == t.best and k[1] == t.best_epoch]
            assert any(in_force[(t.id, *k)] == t.best_config for k in when)
            assert curve(t.best_config, t.best_epoch or 0) == t.best
    return count
