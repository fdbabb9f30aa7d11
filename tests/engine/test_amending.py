"""Amended runs, simulated: what an extended run is, held against one that was so from the beginning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from raytune_hpo.journal import events
from raytune_hpo.states import Decision, Status
from raytune_hpo.testing.simulation import Simulation, make_experiment

GRID = {"name": "grid", "points": 4}


def amend(after: int | None, **changes: Any) -> tuple[int | None, dict[str, Any]]:
    return after, {"command": "amend", "set": {name.replace("__", "."): value for name, value in changes.items()}}


def simulated(scheduler: Any = "fifo", *, samples: int, epochs: int = 4, **fields: Any) -> Simulation:
    ours = {
        name: fields.pop(name)
        for name in ("commands", "workers", "crash_steps", "interrupts", "batch")
        if name in fields
    }
    return Simulation(make_experiment(scheduler, samples=samples, epochs=epochs, **fields), **ours).run()


@pytest.mark.parametrize(
    "searcher", ["random", {"name": "random", "sampler": "sobol"}, GRID], ids=["random", "sobol", "grid"]
)
@pytest.mark.parametrize("after", [5, 30, None])
def test_extended_by_trials_it_is_the_run_of_the_sum(searcher: Any, after: int | None) -> None:
    whole = simulated(samples=24, searcher=searcher, workers=3)
    extended = simulated(samples=12, searcher=searcher, workers=3, commands=[amend(after, num_samples="+12")])
    assert extended.table() == whole.table()
    assert extended.curves() == whole.curves()
    assert len(extended.of(events.Amended)) == len(extended.of(events.Settled)) == 1


@pytest.mark.parametrize("searcher", ["random", GRID], ids=["random", "grid"])
def test_so_it_is_however_often_it_dies_before_in_and_after_the_amendment(searcher: Any) -> None:
    whole = simulated(samples=16, searcher=searcher, workers=2)
    for after in (8, 20, None):
        calm = simulated(samples=8, searcher=searcher, workers=2, commands=[amend(after, num_samples="+8")])
        at = next(i for i, line in enumerate(calm.lines) if b'"amend"' in line)
        for crash in range(2 * at - 6, 2 * at + 10, 2):
            extended = simulated(
                samples=8,
                searcher=searcher,
                workers=2,
                commands=[amend(after, num_samples="+8")],
                crash_steps={3, crash, crash + 5},
            )
            assert extended.table() == whole.table(), crash
            assert len(extended.of(events.Amended)) == 1
            assert extended.mismatches == 0


def rungs_of(ray: Any) -> list[dict[int, dict[str, float]]]:
    """Below the last epoch, where nothing is decided."""
    return [{rung: dict(recorded) for rung, recorded in b._rungs if rung < 32} for b in ray._brackets]


@pytest.mark.parametrize("after", [40, None])
def test_asha_promotes_to_more_epochs_as_one_of_them_all_along_would_have(after: int | None) -> None:
    asha = {"name": "asha", "grace_period": 2, "reduction_factor": 2}
    run = simulated(asha, samples=24, epochs=8, workers=3, commands=[amend(after, max_epochs=32)])
    (settled,) = run.of(events.Settled)
    assert run.resolved.max_epochs == 32
    assert settled.extended or after == 40
    assert len({e.trial for e in run.of(events.Suggested)}) == len(run.trials) == 24
    assert max(t.epoch for t in run.trials) == 32
    assert all(t.reason in ("asha", "max_epochs") for t in run.trials)

    # The same reports, told to Ray's own ASHA of 32 epochs.
    from ray.tune.schedulers import AsyncHyperBandScheduler

    ray = AsyncHyperBandScheduler(
        time_attr="epoch", metric="value", mode="max", max_t=32, grace_period=2, reduction_factor=2
    )
    trials: dict[str, Any] = {}
    for event in run.events:
        match event:
            case events.Suggested(trial=trial):
                trials[trial] = SimpleNamespace(trial_id=trial)
                ray.on_trial_add(None, trials[trial])
            case events.Reported(trial=trial):
                ray.on_trial_result(None, trials[trial], {"epoch": event.epoch, "value": event.metrics["value"]})
    assert rungs_of(ray) == rungs_of(run.population.host.scheduler.ray)  # type: ignore[attr-defined]


def test_what_asha_stops_at_the_old_end_stays_ended_and_what_has_no_checkpoint_is_said() -> None:
    asha = {"name": "asha", "grace_period": 4, "reduction_factor": 2}
    run = simulated(
        asha, samples=16, epochs=8, checkpoint={"keep_trials": 3}, workers=2, commands=[amend(None, max_epochs=32)]
    )
    (settled,) = run.of(events.Settled)
    texts = [e.text for e in run.of(events.Noticed)]
    assert 0 < len(settled.extended) <= 3
    assert any("stay ended: the scheduler stops them there" in t or "stays ended" in t for t in texts), texts
    assert any("no checkpoint left" in t for t in texts), texts
    ended_at_8 = [t for t in run.trials if t.epoch == 8 and t.reason == "max_epochs"]
    assert ended_at_8
    assert all(t.epoch > 8 for t in run.trials if t.id in settled.extended)


def test_the_first_rung_stays_where_it_was() -> None:
    run = simulated("asha", samples=6, epochs=27, commands=[amend(None, max_epochs=81)])
    assert run.resolved.scheduler.to_json()["grace_period"] == 3


@pytest.mark.parametrize("scheduler", ["fifo", "asha", "hyperband", "median", "freeze_thaw", "pbt", "pb2"])
@pytest.mark.parametrize(
    "change", [{"max_epochs": "+8"}, {"num_samples": "+6"}, {"max_epochs": "+3", "num_samples": "+5"}]
)
@pytest.mark.parametrize("after", [30, None])
def test_every_scheduler_goes_on_through_crashes(scheduler: str, change: dict[str, Any], after: int | None) -> None:
    calm = simulated(scheduler, samples=9, epochs=9, workers=3, commands=[amend(after, **change)])
    at = next(i for i, line in enumerate(calm.lines) if b'"amend"' in line)
    for crashes in (set(), {2 * at - 2, 2 * at + 1, 2 * at + 9}, {2 * at + 2, 2 * at + 30}):
        run = simulated(
            scheduler, samples=9, epochs=9, workers=3, commands=[amend(after, **change)], crash_steps=crashes
        )
        assert len(run.trials) == run.resolved.num_samples
        assert all(t.finished for t in run.trials)
        assert run.mismatches == 0
        assert run.rescued == calm.rescued == 0
        if "max_epochs" in change and scheduler in ("fifo", "pbt", "pb2"):
            kept = [t for t in run.trials if t.epoch < run.resolved.max_epochs]
            assert not kept, [(t.id, t.epoch, t.reason) for t in kept]


def test_a_run_that_its_time_has_stopped_goes_on_with_more_of_it() -> None:
    fields: dict[str, Any] = {"samples": 8, "epochs": 6, "workers": 2}
    whole = simulated(**fields)
    run = simulated(**fields, time_budget_s=7.0, commands=[amend(None, time_budget_s="+1h")])
    assert [e.reason for e in run.of(events.RunStopped)] == ["time budget of 7 s used"]
    halted = {e.trial for e in run.of(events.Ended) if e.reason.startswith("time")}
    (settled,) = run.of(events.Settled)
    assert halted
    assert set(settled.extended) == halted
    assert run.table() == whole.table()


def test_trials_outside_of_a_narrowed_space_stay_and_the_search_goes_on_inside() -> None:
    for searcher in ("random", "bayesopt", "hyperopt", "optuna", "evolutionary"):
        run = simulated(
            samples=10, searcher=searcher, commands=[amend(None, space__x="Float(0.2, 0.4)", num_samples="+10")]
        )
        assert len(run.trials) == 20
        assert any(not 0.2 <= t.config["x"] <= 0.4 for t in run.trials[:10])
        assert all(0.2 <= t.config["x"] <= 0.4 for t in run.trials[10:]), searcher


def test_a_new_parameter_has_a_default_for_the_trials_so_far() -> None:
    command = {"command": "amend", "set": {"space.y": "Float(0.0, 1.0)", "num_samples": "+4"}, "defaults": {"y": 0.5}}
    run = simulated(samples=6, searcher="bayesopt", commands=[(None, command)])
    assert all("y" not in t.config for t in run.trials[:6])
    assert all("y" in t.config for t in run.trials[6:])
    search: Any = run.population.search
    assert [s.config["y"] for s in search.history[:6]] == [0.5] * 6


def test_another_searcher_learns_from_what_has_been() -> None:
    run = simulated(samples=12, commands=[amend(None, searcher="bayesopt", num_samples="+4")])
    search: Any = run.population.search
    assert len(search.observed()) == 16
    assert Decision.COMPLETE in {e.decision for e in run.of(events.Decided)}
    assert all(t.status == Status.COMPLETED for t in run.trials)


# A person's commands ----------------------------------------------------------------------------------


def answers(run: Simulation) -> list[tuple[str, bool, str]]:
    return [(e.command, e.applied, e.outcome) for e in run.of(events.Commanded)]


def random_commands(rng: np.random.Generator, count: int, most: int) -> list[tuple[int | None, dict[str, Any]]]:
    def one() -> dict[str, Any]:
        trial = f"t{rng.integers(12):05d}"
        kinds: list[dict[str, Any]] = [
            {"command": "stop", "trial": trial},
            {"command": "clone", "trial": trial, "changes": {"x": float(rng.random())}},
            {"command": "promote", "trial": trial},
            {"command": "mark", "trial": trial, "tags": [f"n{rng.integers(1000)}"]},
            {"command": "enqueue", "configs": [{"x": float(rng.random()), "model": {"units": 8, "kind": "a"}}]},
            {"command": "amend", "set": {"num_samples": "+1"}},
            {"command": "amend", "set": {"max_epochs": "+1"}},
            {"command": "amend", "set": {"metric": "other"}},
        ]
        return kinds[rng.integers(len(kinds))]

    return [(int(line), one()) for line in sorted(rng.integers(0, most, count))]


@pytest.mark.parametrize("scheduler", ["fifo", "asha", "hyperband", "median", "freeze_thaw", "pbt"])
@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_was_commanded_is_lost_or_done_twice(scheduler: str, seed: int) -> None:
    rng = np.random.default_rng([seed, len(scheduler)])
    run = simulated(
        scheduler,
        samples=9,
        epochs=6,
        workers=3,
        seed=seed,
        commands=random_commands(rng, 12, 60),
        crash_steps=set(map(int, rng.integers(4, 160, 12))),
    )
    taken = run.of(events.Commanded)
    assert sorted(int(e.id.partition("-")[0]) for e in taken) == list(range(12))
    made = [e for e in run.of(events.Suggested) if e.origin != events.Origin.SEARCH]
    assert len(made) == sum(e.applied and e.command in ("clone", "enqueue") for e in taken)
    assert len(run.of(events.Amended)) == sum(e.applied and e.command == "amend" for e in taken)
    assert len(run.of(events.Marked)) == sum(e.applied and e.command == "mark" for e in taken)
    assert sum(t.searched for t in run.trials) == run.resolved.num_samples
    assert all(t.finished for t in run.trials)
    assert run.mismatches == 0
    assert {e.applied for e in taken if "metric" in e.outcome} <= {False}


def test_a_trial_is_paused_by_hand_and_goes_on() -> None:
    hold, release = ({"command": name, "trial": "t00001"} for name in ("hold", "release"))
    run = simulated(samples=4, epochs=6, workers=2, commands=[(6, hold), (7, hold), (26, release)])
    assert answers(run) == [
        ("hold", True, answers(run)[0][2]),
        ("hold", False, "trial pause = 't00001': is paused by hand already"),
        ("release", True, answers(run)[2][2]),
    ]
    own = [e for e in run.events if getattr(e, "trial", None) == "t00001"]
    held, released = (
        next(i for i, e in enumerate(own) if isinstance(e, kind)) for kind in (events.Held, events.Released)
    )
    assert sum(isinstance(e, events.Reported) for e in own[held:released]) == 1, "its running epoch, and no more"
    assert run.table() == simulated(samples=4, epochs=6, workers=2).table()


def test_a_stopped_trial_can_be_promoted_past_the_scheduler() -> None:
    asha = {"name": "asha", "grace_period": 1, "reduction_factor": 3}
    calm = simulated(asha, samples=9, epochs=9)
    stopped = next(t.id for t in calm.trials if t.reason == "asha")
    run = simulated(asha, samples=9, epochs=9, commands=[(None, {"command": "promote", "trial": stopped, "epochs": 5})])
    trial = next(t for t in run.trials if t.id == stopped)
    assert (trial.status, trial.reason, trial.epoch) == (Status.COMPLETED, "budget", 5)
    assert [t for t in run.table() if t[0] != stopped] == [t for t in calm.table() if t[0] != stopped]


def test_a_clone_goes_on_from_the_checkpoint_with_its_own_config() -> None:
    command = {"command": "clone", "trial": "t00000", "epoch": 2, "changes": {"x": 0.9}}
    run = simulated(samples=2, epochs=6, checkpoint={"keep": 10}, commands=[(5, command)])
    clone = next(t for t in run.trials if t.parent is not None)
    assert (clone.parent, clone.config["x"], clone.searched, clone.epoch) == ("t00000", 0.9, False, 6)
    epochs = [e.epoch for e in run.of(events.Reported) if e.trial == clone.id]
    assert epochs == [3, 4, 5, 6]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"command": "dance"}, "no such command"),
    ({"command": "stop"}, "stop.trial = None"),
    ({"command": "stop", "trial": "t9"}, "no such trial in this run; there are t00000 to t00003"),
    ({"command": "stop", "trial": "t00000"}, "has ended: it is completed"),
    ({"command": "hold", "trial": "t0"}, "has ended"),
    ({"command": "release", "trial": "t1"}, "has ended"),
    ({"command": "clone", "trial": "t0", "changes": {"y": 1}}, "no such parameter"),
    ({"command": "clone", "trial": "t0", "changes": {"x": 7}}, "must lie in [0, 1]"),
    ({"command": "clone", "trial": "t0", "changes": {"model.kind": "b"}}, "becomes active by this change"),
    ({"command": "clone", "trial": "t0", "epoch": 99}, "has no checkpoint"),
    ({"command": "clone", "trial": "t0"}, "is at the last epoch"),
    ({"command": "promote", "trial": "t0"}, "must be above 4"),
    ({"command": "promote", "trial": "t0", "epochs": 99}, "extend RUN_DIR --epochs 99 first"),
    ({"command": "promote", "trial": "t0", "epochs": True}, "must be of type int"),
    ({"command": "mark", "trial": "t0", "tags": ["a b"]}, "letters, digits"),
    ({"command": "mark", "trial": "t0"}, "has these tags already: none"),
    ({"command": "enqueue", "configs": []}, "must be 1 to"),
    ({"command": "enqueue", "configs": [{"x": 0.5}]}, "is missing"),
    ({"command": "enqueue", "configs": [{"x": 0.5, "model": {"units": 8, "kind": "a"}, "z": 1}]}, "no such parameter"),
    ({"command": "enqueue", "configs": 7}, "must be of type list"),
    ({"command": "amend", "set": {}}, "needs at least one FIELD=VALUE"),
    ({"command": "amend", "set": {"task": "digits"}}, "stays as it is: the trials so far are of the task"),
    ({"command": "amend", "set": {"metric": "loss"}}, "stays as it is"),
    ({"command": "amend", "set": {"mode": "min"}}, "stays as it is"),
    ({"command": "amend", "set": {"seed": 3}}, "stays as it is"),
    ({"command": "amend", "set": {"folds": 3}}, "stays as it is"),
    ({"command": "amend", "set": {"data_order": "shared"}}, "stays as it is"),
    ({"command": "amend", "set": {"name": "x"}}, "rename"),
    ({"command": "amend", "set": {"storage": "x"}}, "move that"),
    ({"command": "amend", "set": {"listeners": ["x"]}}, "resume RUN_DIR --listen"),
    ({"command": "amend", "set": {"start_points": []}}, "enqueue"),
    ({"command": "amend", "set": {"early_stopping": None}}, "begin another run"),
    ({"command": "amend", "set": {"num_samples": 4}}, "changes nothing"),
    ({"command": "amend", "set": {"num_samples": "-3"}}, "must be an integer"),
    ({"command": "amend", "set": {"num_smaples": 9}}, "did you mean 'num_samples'"),
    ({"command": "amend", "set": {"max_epochs": 2}}, "must be above 4"),
    ({"command": "amend", "set": {"time_budget_s": "soon"}}, "must be seconds, or such as 90m"),
    ({"command": "amend", "set": {"scheduler": "pbt"}}, "scheduler"),
    ({"command": "amend", "set": {"scheduler": "panda"}}, "the space must hold the learning rate"),
    ({"command": "amend", "set": {"scheduler": {"name": "pbt", "mutate": ["x"]}}}, "cannot follow fifo"),
    ({"command": "amend", "set": {"searcher": "bayes"}}, "did you mean 'bayesopt'"),
    ({"command": "amend", "set": {"space.x": "Float(1, 0)"}}, "space.x"),
    ({"command": "amend", "set": {"space.x": "Float(open('x'))"}}, "plain values"),
    ({"command": "amend", "set": {"space.model.kind": "Choice(['a', 'c'])"}}, "never a value of model.kind"),
    ({"command": "amend", "set": {"space.y": "Float(0.0, 1.0)"}}, "--default y=VALUE"),
    ({"command": "amend", "set": {"num_samples": 9}, "defaults": {"x": 1}}, "is of no parameter that this"),
    ({"command": "amend", "set": {"space.y": 3}}, "no such parameter"),
    ({"command": "amend", "set": 3}, "must be of type dict"),
]


def test_what_cannot_be_is_refused_in_one_line_and_changes_nothing() -> None:
    calm = simulated(samples=4)
    run = simulated(samples=4, commands=[(None, command) for command, _ in WRONG])
    found = answers(run)
    assert len(found) == len(WRONG)
    for (_, applied, outcome), (command, expected) in zip(found, WRONG, strict=True):
        assert not applied, command
        assert expected in outcome, (command, outcome)
        assert "\n" not in outcome
    assert run.table() == calm.table()
    assert run.resolved.to_json() == calm.resolved.to_json()


# What a review has found --------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [("fifo", "median"), ("hyperband", "median"), ("freeze_thaw", "asha")])
def test_another_scheduler_that_would_have_stopped_trials_stops_them_then(old: str, new: str) -> None:
    for after in (20, None):
        run = simulated(old, samples=9, epochs=9, workers=3, commands=[amend(after, scheduler=new)])
        assert all(t.finished for t in run.trials)
        assert answers(run)[0][1]


def test_what_cannot_be_read_is_refused_and_not_tried_again() -> None:
    wrong: list[Any] = [5, {"kind": "float"}, {}, None, {"kind": "dance"}]
    run = simulated(samples=3, commands=[amend(None, space__x={"parameter": data}) for data in wrong])
    assert [applied for _, applied, _ in answers(run)] == [False] * len(wrong)
    run = simulated(samples=3, commands=[amend(None, scheduler="hyperband"), amend(None, space__y="Float(0.0, 1.0)")])
    assert [applied for _, applied, _ in answers(run)] == [False, False]
    default = {"command": "amend", "set": {"space.y": "Float(0.0, 1.0)"}, "defaults": {"y": "abc"}}
    assert "must lie in [0, 1]" in answers(simulated(samples=3, commands=[(None, default)]))[0][2]


def test_a_stopped_run_goes_on_by_what_lifts_its_stop_alone() -> None:
    fields: dict[str, Any] = {"samples": 40, "stop": {"target": 0.5}}
    calm = simulated(**fields)
    run = simulated(**fields, commands=[amend(None, max_failures=5), amend(None, num_samples="+3")])
    assert run.table() == calm.table()
    assert [applied for _, applied, _ in answers(run)] == [True, False]
    assert "was stopped (target 0.5 reached): it goes on by --set stop.target=..." in answers(run)[1][2]
    lifted = simulated(**fields, commands=[(None, {"command": "amend", "set": {"stop.target": None}})])
    assert len(lifted.trials) == 40


def test_a_better_trial_that_comes_after_the_race_is_raced_too() -> None:
    run = simulated(samples=3, replicate=2, commands=[amend(None, num_samples="+20")])
    leader = run.population.ledger.winner()
    own = max((t for t in run.trials if t.eligible), key=lambda t: t.best or 0.0)
    assert leader is own
    assert any(t.replicate_of == own.id for t in run.trials)
    longer = simulated(samples=3, replicate=2, epochs=4, commands=[amend(None, max_epochs=8)])
    assert {t.epoch for t in longer.trials if t.replicate_of is not None} == {4, 8}


def test_fewer_kept_checkpoints_are_no_checkpoints() -> None:
    keeping = {"command": "amend", "set": {"max_epochs": 8, "checkpoint.keep_trials": 4}}
    run = simulated(samples=4, checkpoint={"keep_trials": 1}, commands=[(None, keeping)])
    (settled,) = run.of(events.Settled)
    assert len(settled.extended) == 1
    assert any("have no checkpoint left" in e.text for e in run.of(events.Noticed))
    begun_anew = [e for e in run.of(events.Started) if e.epoch == 0]
    assert len(begun_anew) == 4, "none of them a second time"


def test_a_promoted_trial_is_continued_by_more_time_and_by_no_scheduler() -> None:
    commands: list[tuple[int | None, dict[str, Any]]] = [
        (8, {"command": "promote", "trial": "t00000", "epochs": 8}),
        amend(None, time_budget_s="+1h"),
    ]
    run = simulated(samples=4, epochs=9, workers=2, time_budget_s=6.0, commands=commands)
    trial = next(t for t in run.trials if t.id == "t00000")
    assert (trial.epoch, trial.reason) == (8, "budget")


def test_paused_and_let_go_on_a_trial_is_where_its_scheduler_had_it() -> None:
    hold, release = ({"command": name, "trial": "t00000"} for name in ("hold", "release"))
    calm = simulated("freeze_thaw", samples=6, epochs=27, workers=2)
    run = simulated("freeze_thaw", samples=6, epochs=27, workers=2, commands=[(3, hold), (7, release)])
    own, undisturbed = (next(t for t in one.trials if t.id == "t00000") for one in (run, calm))
    assert own.epoch >= 3
    assert undisturbed.epoch >= own.epoch or own.epoch <= 27
    assert own.reason in ("freeze_thaw", "max_epochs")
    assert all(t.finished for t in run.trials)


def test_start_points_do_not_keep_a_space_from_changing() -> None:
    point = {"x": 0.9, "model": {"units": 8, "kind": "a"}}
    commands = [amend(None, space__x="Float(0.1, 0.5)", num_samples="+3")]
    run = simulated(samples=3, start_points=[point], commands=commands)
    assert answers(run)[0][1], answers(run)
    assert len(run.trials) == 6
    assert len({str(t.config) for t in run.trials}) == 6, "and none is drawn twice"


def test_eras_of_hyperband_are_of_the_epochs_of_their_time() -> None:
    run = simulated(
        "hyperband",
        samples=9,
        epochs=9,
        workers=3,
        commands=[amend(None, num_samples="+6"), amend(None, max_epochs=17)],
    )
    ours: Any = run.population.host.scheduler
    assert [ray._max_t_attr for ray in ours._eras] in ([9, 9, 17], [9, 17])
    assert all(t.finished for t in run.trials)
