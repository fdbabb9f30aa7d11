"""Freeze-thaw: who goes on, how many, and what becomes of the others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from raytune_hpo import Experiment, Float, get_checkpoint, report, run
from raytune_hpo.journal import events
from raytune_hpo.schedulers import freeze_thaw
from raytune_hpo.schedulers.freeze_thaw import FreezeThaw, FreezeThawOptions, improvement, rungs_of
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.schedulers.rungs import FEWEST, FirstRung, first_telling
from raytune_hpo.schedulers.scheduler import Standing
from raytune_hpo.search.history import Suggestion
from raytune_hpo.states import Decision, Status
from raytune_hpo.testing.schedulers import check, check_same_table
from raytune_hpo.testing.simulation import METRIC, Faults, Simulation, curve, make_experiment, quality


def simulated(workers=4, samples=40, epochs=27, **options):
    experiment = make_experiment({"name": "freeze_thaw", **options}, samples=samples, epochs=epochs, seed=1)
    return check(Simulation(experiment, workers=workers, value=curve).run())


def pauses(sim):
    """rung -> the trials that were paused at it, in their order."""
    found: dict[int, list[str]] = {}
    for event in sim.of(events.Decided):
        if event.decision in (Decision.PAUSE, Decision.STOP):
            found.setdefault(event.epoch, []).append(event.trial)
    return found


@pytest.mark.parametrize(
    ("grace", "epochs", "rungs"),
    [
        (None, 27, (3, 9, 27)),
        (None, 81, (9, 27, 81)),
        (None, 52, (6, 18, 52)),
        (5, 27, (5, 9, 27)),
        (8, 27, (8, 27)),
        (27, 27, (27,)),
        (20, 27, (20, 27)),
        (None, 1, (1,)),
        (None, 4, (1, 2, 4)),
        (None, 2, (1, 2)),
    ],
)
def test_rungs(grace, epochs, rungs):
    assert rungs_of(FreezeThawOptions(grace_period=grace), epochs) == rungs
    assert FreezeThaw.expected_epochs(FreezeThawOptions(grace_period=grace), epochs) <= epochs


@pytest.mark.parametrize("factor", [1.5, 2, 4])
def test_one_in_so_many_goes_on_from_a_rung(factor):
    sim = simulated(samples=60, reduction_factor=factor, grace_period=3)
    at = pauses(sim)
    assert len(at[3]) == 60
    assert len(at[9]) == pytest.approx(60 / factor, abs=1)
    complete = sum(t.status == Status.COMPLETED for t in sim.trials)
    assert complete == pytest.approx(60 / factor**2, abs=2)


def test_who_goes_on_is_better_than_who_waits():
    sim = simulated(samples=60)
    complete = [quality(t.config) for t in sim.trials if t.status == Status.COMPLETED]
    stopped = [quality(t.config) for t in sim.trials if t.status == Status.STOPPED]
    assert min(len(complete), len(stopped)) >= 8
    assert np.median(complete) > np.median(stopped)
    best = max(sim.trials, key=lambda t: quality(t.config))
    assert best.status == Status.COMPLETED


def test_paused_trials_can_go_on_much_later():
    """Which ASHA's stopped trials cannot: a trial is thawed after others that came later have been paused."""
    sim = simulated(samples=60)
    started = [(e.trial, e.epoch) for e in sim.of(events.Started) if e.epoch > 0]
    order = {t.id: i for i, t in enumerate(sim.trials)}
    latest = 0
    overtaken = 0
    for event in sim.events:
        if isinstance(event, events.Suggested):
            latest = order[event.trial]
        elif isinstance(event, events.Started) and event.epoch > 0 and latest - order[event.trial] > 10:
            overtaken += 1
    assert started
    assert overtaken >= 3


def test_no_more_than_so_many_wait():
    sim = simulated(samples=60, frozen=5, workers=2)
    waiting, most = set(), 0
    for event in sim.events:
        if isinstance(event, events.Decided) and event.decision == Decision.PAUSE:
            waiting.add(event.trial)
        elif isinstance(event, events.Started | events.Ended):
            waiting.discard(event.trial)
        most = max(most, len(waiting))
    assert most <= 7  # those that have just been paused come on top
    assert any(e.outcome == "stopped" for e in sim.of(events.Ended))


def test_the_end_comes_with_the_last_trial_that_is_due():
    for workers in (1, 3, 50):
        sim = simulated(samples=13, workers=workers)
        assert sim.population.done
        assert Status.PAUSED not in {t.status for t in sim.trials}


def test_a_kill_changes_nothing_once_the_model_decides(monkeypatch):
    monkeypatch.setattr(freeze_thaw, "FIRST", 4)
    experiment = make_experiment(
        "freeze_thaw", samples=14, epochs=9, seed=2, searcher={"name": "bayesopt", "n_initial": 4}
    )
    faults = Faults(raises=0.03, nan=0.02)
    calm = check(Simulation(experiment, faults=faults).run())
    for step in range(5, calm.appends, 9):
        crashed = check(Simulation(experiment, faults=faults, crash_steps={step}).run())
        check_same_table(crashed, calm)


def test_a_trial_that_was_tried_again_is_learned_of_anew(monkeypatch):
    """What the model had learned with its failure is void: a session that begins after it never saw that."""
    monkeypatch.setattr(freeze_thaw, "FIRST", 2)
    experiment = make_experiment("freeze_thaw", samples=50, epochs=9, seed=1)

    def told(*, ask):
        made = experiment.resolved.new_scheduler()
        host = SchedulerHost(made)
        rng = np.random.default_rng(0)
        search = experiment.resolved.new_search()
        for i in range(50):
            host.add(f"t{i}", search.suggest(f"t{i}"))
            host.trials[f"t{i}"].status = Standing.RUNNING
            if i % 3 == 0:
                host.end(f"t{i}", failed=True)
            else:
                host.result(f"t{i}", {METRIC: float(rng.random()), "epoch": 1})
                host.trials[f"t{i}"].status = Standing.PAUSED
            if ask:
                host.choose()
        for i in range(0, 50, 3):  # they are tried again
            host.add(f"t{i}", made._history[f"t{i}"].config)
            host.trials[f"t{i}"].status = Standing.RUNNING
            host.result(f"t{i}", {METRIC: float(rng.random()), "epoch": 1})
            host.end(f"t{i}", failed=False)
            if ask:
                host.choose()
        return made._merits([t for t in host.get_live_trials() if t.status == Standing.PAUSED])

    asked = told(ask=True)
    assert len(asked) == 33
    assert asked == told(ask=False)


@pytest.mark.parametrize("saves", [True, False])
def test_a_function_that_saves_nothing_is_paused_no_more(saves, tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()

    def train(config):
        saved = get_checkpoint()
        first = 1 if saved is None else int((saved / "epoch").read_text()) + 1
        for epoch in range(first, 10):
            (calls / str(len(list(calls.iterdir())))).touch()
            if saves:
                with tempfile.TemporaryDirectory() as folder:
                    Path(folder, "epoch").write_text(str(epoch))
                    report({"loss": (config["x"] - 0.3) ** 2 + 1 / epoch}, checkpoint=folder)
            else:
                report({"loss": (config["x"] - 0.3) ** 2 + 1 / epoch})

    experiment = Experiment(
        name="saves",
        task=train,
        space={"x": Float(0.0, 1.0)},
        metric="loss",
        mode="min",
        searcher="random",
        scheduler={"name": "freeze_thaw", "grace_period": 3},
        num_samples=24,
        max_epochs=9,
        executor="inline",
    )
    results = run(experiment, tmp_path / "run", quiet=True)
    decisions = [e.decision for e in results.of(events.Decided) if e.epoch in (1, 3)]
    restarts = sum(e.epoch == 0 for e in results.of(events.Started)) - 24
    assert results.counts["completed"] == pytest.approx(12, abs=2)
    if saves:
        assert (restarts, len(list(calls.iterdir()))) == (0, len(results.curves))
        assert decisions.count(Decision.STOP) <= 1
    else:
        assert 1 <= restarts <= 3
        assert decisions.count(Decision.PAUSE) <= 4
        assert decisions.count(Decision.STOP) >= 8
        assert len(list(calls.iterdir())) - len(results.curves) <= 3 * restarts
    best = min(results.of(events.Suggested), key=lambda e: abs(e.config["x"] - 0.3))
    assert results.best is not None
    assert results.best.trial_id == best.trial


def test_expected_improvement():
    assert improvement(np.array([0.0]), np.array([1.0]), 0.0) == pytest.approx(0.3989, abs=1e-4)
    assert improvement(np.array([5.0]), np.array([1e-9]), 3.0) == pytest.approx(2.0)


# The first rung ----------------------------------------------------------------------------------------


def complete(pairs):
    return [Suggestion(f"t{i}", {}, np.zeros(1), marks=[*marks]) for i, marks in enumerate(pairs)]


def test_the_first_rung_is_the_earliest_that_tells():
    rng = np.random.default_rng(0)
    ends = rng.random(12)
    chance = rng.random(12)
    told = complete(zip(chance, ends + 1, ends, strict=True))
    assert first_telling((3, 9, 27), told) == 9
    assert first_telling((3, 9, 27), told[: FEWEST - 1]) == 3
    assert first_telling((3, 9, 27), complete(zip(ends + 2, ends + 1, ends, strict=True))) == 3
    assert first_telling((3, 9, 27), complete(zip(chance, chance, ends, strict=True))) == 9, "the last that there is"
    assert first_telling((27,), complete([[e] for e in ends])) == 27
    assert first_telling((3, 27), complete([[1.0, e] for e in ends])) == 3


def test_it_moves_with_the_newest_trials_unless_it_was_given():
    for moves in (True, False):
        first = FirstRung((3, 9, 27), moves=moves)
        for i, x in enumerate(np.random.default_rng(0).random(90)):
            early = x if i < 75 else (x * 7919) % 1  # at first epoch 3 tells, later it does not
            first.ended(complete([[early + 2, x + 1, x]])[0])
        assert first.now == (9 if moves else 3)
        assert (first.take_news() is not None) == moves
        assert first.take_news() is None
    first = FirstRung((3, 9, 27), moves=True)
    first.ended(Suggestion("t", {}, np.zeros(1), marks=[1.0]))  # it was stopped at epoch 3
    assert first._complete == []


@pytest.mark.parametrize("scheduler", ["asha", "freeze_thaw"])
def test_a_run_says_when_its_first_rung_moves(scheduler):
    """At epoch 3 the order is chance, at epoch 9 it is that of the end."""

    def value(config, epoch):
        noise = (quality(config) * 7919) % 1
        return quality(config) - 30.0 / epoch + (noise if epoch < 9 else 0.0)

    experiment = make_experiment(scheduler, samples=80, epochs=27, seed=1)
    sim = check(Simulation(experiment, workers=4, value=value).run())
    notes = [e.note for e in sim.of(events.Decided) if e.note]
    assert any("trials are judged from epoch 9 on now" in note for note in notes)
    after = max(i for i, e in enumerate(sim.events) if isinstance(e, events.Decided) and e.note)
    late = [e for e in sim.events[after + 60 :] if isinstance(e, events.Decided)]
    assert late
    assert not [e for e in late if e.epoch == 3 and e.decision in (Decision.PAUSE, Decision.STOP)]
