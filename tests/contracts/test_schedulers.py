"""Every scheduler passes the same contract: runs of the real Driver, in virtual time."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import random

import numpy as np
import pytest
import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
    TrialScheduler,
)
from ray.tune.schedulers.hyperband import _Bracket
from ray.tune.schedulers.pb2 import PB2

from raytune_hpo import Experiment, ExperimentError
from raytune_hpo.journal import events
from raytune_hpo.schedulers import Scheduler, corrected, host, pb2, stopping
from raytune_hpo.schedulers.given import GivenScheduler
from raytune_hpo.schedulers.scheduler import Answer, Standing
from raytune_hpo.states import Decision, Status
from raytune_hpo.testing.schedulers import (
    check,
    check_crashes,
    check_lineage,
    check_same_table,
    check_sound,
    random_simulation,
)
from raytune_hpo.testing.simulation import (
    METRIC,
    POPULATION_BASED,
    SOME,
    Faults,
    Simulation,
    curve,
    make_experiment,
    quality,
)

CASES = {
    "fifo": "fifo",
    "asha": "asha",
    "asha-3": {"name": "asha", "brackets": 3},
    "hyperband": "hyperband",
    "median": "median",
    "freeze_thaw": "freeze_thaw",
    "pbt": {"name": "pbt", "interval": 2},
    "pb2": {"name": "pb2", "interval": 2},
}
EVERY = pytest.mark.parametrize("case", CASES)
IN_A_ROW = 40


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("ray.tune").setLevel(logging.WARNING)


def some_run(case: str, seed: int) -> Simulation:
    if case in POPULATION_BASED and seed % 2 == 0:  # with an interval of 2
        return random_simulation(CASES[case], seed, lengths=(2, 7, 10, 27))
    return random_simulation(case if case in POPULATION_BASED else CASES[case], seed)


@EVERY
def test_many_runs_in_a_row_all_end(case):
    resumed = failed = 0
    runs = IN_A_ROW if case != "pb2" else IN_A_ROW // 4  # each of its exploits fits a Gaussian process
    for seed in range(runs):
        sim = check(some_run(case, seed).run())
        resumed += sim.sessions > 1
        failed += sim.population.ledger.counts["failed"] > 0
    assert resumed > runs / 2
    assert failed > runs / 20


PLATEAU = {"early_stopping": {"patience": 2, "min_delta": 0.15}}


@EVERY
@pytest.mark.parametrize(
    ("fields", "stride"), [({"checkpoint": {"every": 2}}, 1), (PLATEAU, 3)], ids=["all", "plateau"]
)
def test_a_crash_at_any_step_changes_nothing(case, fields, stride):
    stride = stride if case != "pb2" else 5 * stride
    experiment = make_experiment(CASES[case], samples=6, epochs=6, seed=4, **fields)
    calm = check_crashes(experiment, Faults(raises=0.05, nan=0.02), stride)
    assert case != "fifo" or fields is not PLATEAU or "plateau" in {t.reason for t in calm.trials}


@pytest.mark.parametrize("case", ["fifo", "asha", "asha-3", "median"])
def test_who_does_not_wait_for_others_is_never_paused(case):
    sim = check(Simulation(make_experiment(CASES[case], samples=20, epochs=9), workers=3, faults=SOME).run())
    assert Decision.PAUSE not in {e.decision for e in sim.of(events.Decided)}


@pytest.mark.parametrize("case", ["fifo", "asha", "asha-3", "median"])
def test_crashes_change_nothing_with_many_workers(case):
    """The moments at which epochs end do not depend on crashes here, so neither does their order."""
    for seed in range(12):
        experiment = make_experiment(CASES[case], samples=20, epochs=9, seed=seed)
        faults = Faults(nan=0.01)
        calm = check(Simulation(experiment, workers=4, faults=faults).run())
        steps = set(random.Random(seed).sample(range(1, calm.appends), 5))
        crashed = check(Simulation(experiment, workers=4, faults=faults, crash_steps=steps).run())
        assert crashed.sessions > 3
        check_same_table(crashed, calm)


@EVERY
def test_same_seed_same_table(case):
    def run(seed):
        return Simulation(make_experiment(CASES[case], samples=12, epochs=9, seed=seed), workers=3, faults=SOME).run()

    np.random.seed(1)  # the global state is what Ray's schedulers draw from
    random.seed(1)
    one = run(5)
    np.random.seed(2)
    random.seed(2)
    check_same_table(run(5), one)
    assert one.lines == run(5).lines
    assert one.table() != run(6).table()


@EVERY
@pytest.mark.parametrize("mode", ["min", "max"])
def test_bad_trials_are_stopped_and_the_best_one_survives(case, mode):
    sign = 1.0 if mode == "max" else -1.0
    for seed in range(3 if case != "pb2" else 1):  # each of its exploits fits a Gaussian process
        experiment = make_experiment(CASES[case], samples=40, epochs=27, seed=seed, mode=mode)
        sim = Simulation(experiment, workers=4, value=lambda c, e: sign * curve(c, e)).run()
        check_sound(sim)
        winner = sim.population.ledger.winner()
        best = max(s.config and quality(s.config) for s in sim.population.search.history)
        assert winner is not None
        # The curve is flat at the end: the value at the winner's last epoch is its quality to 1e-4.
        assert quality(winner.best_config) > best - 1e-3
        epochs = len(sim.of(events.Reported))
        if case in ("fifo", *POPULATION_BASED):
            assert {t.status for t in sim.trials} == {Status.COMPLETED}
        else:
            stopped = [t for t in sim.trials if t.status == Status.STOPPED]
            assert len(stopped) >= 8
            assert epochs < 0.8 * 40 * 27
            kept = [quality(t.config) for t in sim.trials if t.status == Status.COMPLETED]
            if kept:
                assert np.mean(kept) > np.mean([quality(t.config) for t in stopped])


# Hyperband -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 9, 10, 27])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_hyperband_leaves_no_trial_paused(epochs, workers):
    for samples in (1, 2, 3, 4, 5, 8, 17, 18, 40):
        experiment = make_experiment("hyperband", samples=samples, epochs=epochs, seed=samples)
        check(Simulation(experiment, workers=workers, faults=Faults(raises=0.02, nan=0.02)).run())


@pytest.mark.parametrize("workers", [1, 3])
def test_hyperband_fills_its_brackets_as_the_paper_says(workers):
    """eta 3, 9 epochs: 3 trials of 9 epochs; 5 from 3; 9 from 1. Also with fewer workers than a bracket has trials."""
    sim = check(Simulation(make_experiment("hyperband", samples=17, epochs=9), workers=workers).run())
    ends = [t.epoch for t in sim.trials]
    assert ends[:3] == [9, 9, 9]
    assert sorted(ends[3:8]) == [3, 3, 3, 9, 9]
    assert sorted(ends[8:]) == [1] * 6 + [3] * 2 + [9]


def rays_own_hyperband(experiment):
    given = HyperBandScheduler(max_t=experiment.max_epochs)
    about = {"max_epochs": experiment.max_epochs, "seed": experiment.seed}
    return GivenScheduler(given, space=experiment.space, objective=experiment.objective, **about)


class NeverCleared(corrected.HyperBand):
    """Ours with the fault back in: is_being_processed stays set."""

    def _process_bracket(self, tune_controller, bracket):
        answer = super()._process_bracket(tune_controller, bracket)
        bracket.is_being_processed = bracket.is_being_processed or bool(bracket._halves < 2)
        return answer


class WithNeverCleared(stopping.HyperBand):
    def make(self):
        return NeverCleared(max_t=self.max_epochs, **self._compared, **self.options.to_json())


def never_cleared(experiment):
    return dataclasses.replace(experiment.scheduler, kind=WithNeverCleared).build(
        experiment.space, experiment.objective, max_epochs=experiment.max_epochs, seed=experiment.seed
    )


@pytest.mark.parametrize("broken", [rays_own_hyperband, never_cleared])
def test_the_deadlock_of_rays_hyperband_is_seen(broken):
    """The check above can fail: with Ray's own scheduler, failures at a later rung leave trials paused for ever."""
    rescued = 0
    for seed in range(40):
        experiment = make_experiment("hyperband", samples=17, epochs=9, seed=seed, max_failures=0)
        sim = Simulation(experiment, workers=17, faults=Faults(raises=0.05), build=broken).run()
        rescued += sim.rescued > 0
    assert rescued > 3


# Population based training ---------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("case", POPULATION_BASED)
def test_pbt_lineage(case, samples, workers):
    perturbed = 0
    for seed in range(6):
        experiment = make_experiment(CASES[case], samples=samples, epochs=12, seed=seed, checkpoint={"keep": 1})
        faults = Faults(raises=0.01, lost=0.01, damaged=0.01)
        sim = Simulation(experiment, workers=workers, faults=faults, crash_steps={31, 60, 90}, interrupts=[20])
        check(sim.run())
        perturbed += check_lineage(sim)
    assert (perturbed > 0) == (samples > 1)


@pytest.mark.parametrize("case", POPULATION_BASED)
def test_pbt_never_copies_a_checkpoint_that_retention_deleted(case):
    """keep=1 and a save every epoch: without pinning, the donor's checkpoint is gone when it is asked for."""
    for seed in range(10):
        experiment = make_experiment(
            {"name": case, "interval": 3, "quantile": 0.5}, samples=8, epochs=18, seed=seed, checkpoint={"keep": 1}
        )
        sim = check(Simulation(experiment, workers=3).run())
        assert check_lineage(sim) > 3


@pytest.mark.parametrize("case", POPULATION_BASED)
def test_pbt_goes_on_when_the_donors_checkpoint_is_damaged(case):
    perturbed = lost = refused = 0
    scheduler = {"name": case, "interval": 2, "resample_probability": 0}
    for seed in range(15):
        experiment = make_experiment(scheduler, samples=8, epochs=12, seed=seed)
        sim = check(Simulation(experiment, workers=3, faults=Faults(damaged=0.2), crash_steps={60, 81}).run())
        perturbed += check_lineage(sim)
        lost += len(sim.of(events.CheckpointLost))
        refused += sim.refused
        # It costs nobody his life; but a trial all of whose copied weights are gone cannot go on.
        assert {t.error for t in sim.trials} <= {None, "no checkpoint is left to go on from"}
    assert perturbed > 10
    assert lost > 10
    assert refused > 3


# The end of a run ------------------------------------------------------------------------------------


@EVERY
def test_a_stopped_run_ends_also_when_it_crashes_between_the_stop_and_the_last_report(case):
    fields = {"samples": 30, "epochs": 20, "seed": 3, "stop": {"target": 0.9}}
    experiment = make_experiment(CASES[case], **fields)
    calm = check(Simulation(experiment, workers=4).run())
    at = next(i for i, line in enumerate(calm.lines) if b'"event":"stop"' in line)
    assert calm.of(events.RunStopped) == [events.RunStopped("target 0.9 reached")]
    for step in (2 * at, 2 * at + 1, 2 * at + 2, 2 * at + 3):
        sim = check(Simulation(experiment, workers=4, crash_steps={step}).run())
        assert sim.sessions == 2
        assert sim.population.ledger.stop_reason is not None
    failing = Faults(raises=0.2)
    for seed in range(5):
        check(Simulation(make_experiment(CASES[case], **{**fields, "seed": seed}), workers=4, faults=failing).run())


def test_a_trial_that_kills_every_worker_fails_and_a_long_one_that_loses_some_does_not():
    experiment = make_experiment("fifo", samples=1, epochs=30)
    sim = check(Simulation(experiment, faults=Faults(lost=1.0)).run())
    assert [t.status for t in sim.trials] == [Status.FAILED]
    sim = check(Simulation(experiment, faults=Faults(lost=0.3)).run())
    assert [t.status for t in sim.trials] == [Status.COMPLETED]
    assert len(sim.of(events.Retried)) > 5


def test_retention_bounds_the_disk():
    for keep, keep_trials in ((1, 1), (2, 3)):
        experiment = make_experiment(
            "asha", samples=60, epochs=9, checkpoint={"every": 1, "keep": keep, "keep_trials": keep_trials}
        )
        sim = check(Simulation(experiment, workers=3).run())
        # A kept trial has its best and its last; a running one its newest, its best, and the one being written.
        assert sim.most_on_disk <= 2 * (keep_trials + 1) + 3 * (keep + 2)
        holders = [t for t in sim.trials if t.checkpoints]
        best = sorted((t for t in sim.trials if t.best is not None), key=lambda t: -t.best)[:keep_trials]
        assert {t.id for t in holders} == {t.id for t in best}
        assert len(sim.disk) <= 2 * keep_trials


# Schedulers of a user's -------------------------------------------------------------------------------


class Bully(Scheduler):
    """Who reports its third epoch ends the first other trial that runs."""

    name = "bully"

    def on_trial_result(self, host, trial, result):
        if result["epoch"] == 3:
            others = [t for t in host.get_live_trials() if t is not trial and t.status == Standing.RUNNING]
            for other in others[:1]:
                host.stop_trial(other)
        return Answer.CONTINUE


def check_over_is_over(sim: Simulation) -> int:
    """Of a trial that is over no event follows, and its slot is given back with its next answer. Answers how many a
    bully ended."""
    over: set[str] = set()
    for event in sim.events:
        if isinstance(event, events.TrialEvent):
            assert event.trial not in over, event
        if isinstance(event, events.Ended):
            over.add(event.trial)
    waited_for = [slot for *_, slot, _ in sim.pool._calls]  # the run need not wait for who is over
    assert all(slot in waited_for for slot in sim.pool.busy)
    return sum(t.reason == "bully" for t in sim.trials)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_trial_that_another_ones_report_ends_while_it_trains_is_over(batch):
    for seed in range(8):
        experiment = make_experiment(Bully, samples=14, epochs=7, seed=seed)
        calm = check(Simulation(experiment, workers=4, batch=batch).run())
        assert check_over_is_over(calm) > 3
        assert {t.status for t in calm.trials} == {Status.COMPLETED, Status.STOPPED}
        steps = set(random.Random(seed).sample(range(1, calm.appends), 5))
        crashed = check(Simulation(experiment, workers=4, batch=batch, crash_steps=steps).run())
        assert crashed.sessions > 3
        assert check_over_is_over(crashed) > 3
        faulty = Simulation(experiment, workers=4, batch=batch, faults=dataclasses.replace(SOME, lost=0.1))
        faulty.crash_steps, faulty.interrupts = steps, [5, 20]
        assert check_over_is_over(check(faulty.run())) > 1


@pytest.mark.parametrize("answer", Answer)
def test_a_scheduler_may_end_the_very_trial_that_reports(answer):
    class Both(Scheduler):
        name = "bully"

        def on_trial_result(self, host, trial, result):
            if result["epoch"] < 3:
                return Answer.CONTINUE
            host.stop_trial(trial)
            return answer

        def next_decision(self, trial, epoch):
            return epoch + 1

    for steps in (set(), {9}, {12}, {20, 33}):
        experiment = make_experiment(Both, samples=5, epochs=7)
        sim = check(Simulation(experiment, workers=2, batch=3, crash_steps=steps).run())
        assert check_over_is_over(sim) == 5
        assert {t.epoch for t in sim.trials} == {3}


@pytest.mark.parametrize("standing", [Standing.PENDING, Standing.RUNNING, Standing.PAUSED])
def test_a_scheduler_is_told_once_of_a_trial_that_it_ends_and_as_ray_tells_it(standing):
    told = []

    class Notes(Scheduler):
        def on_trial_complete(self, host, trial, result):
            told.append(("complete", trial.trial_id, result))

        def on_trial_remove(self, host, trial):
            told.append(("remove", trial.trial_id))

    resolved = make_experiment(Notes, samples=4, epochs=9).resolved
    seen = host.SchedulerHost(resolved.new_scheduler())
    seen.add("t0", {})
    trial = seen.trials["t0"]
    trial.status, trial.last_result = standing, {"epoch": 1}
    seen.stop_trial(trial)
    seen.stop_trial(trial)
    seen.end("t0", failed=False)
    assert told == [("complete", "t0", {"epoch": 1}) if standing == Standing.RUNNING else ("remove", "t0")]
    assert seen.take_effects() == [host.Stopped("t0")]


class SubclassOfAsha(AsyncHyperBandScheduler):
    """Looks at what the trainable reports besides the objective, as a user's may."""

    def on_trial_result(self, tune_controller, trial, result):
        assert result["training_iteration"] == result["epoch"]
        return super().on_trial_result(tune_controller, trial, result)


GIVEN = {
    "fifo": FIFOScheduler,
    "asha": lambda: AsyncHyperBandScheduler(max_t=9, grace_period=1),
    "asha-mode": lambda: AsyncHyperBandScheduler(max_t=9, grace_period=1, mode="max"),
    "asha-metric": lambda: AsyncHyperBandScheduler(max_t=9, grace_period=1, metric=METRIC),
    "asha-both": lambda: AsyncHyperBandScheduler(max_t=9, grace_period=1, metric=METRIC, mode="max"),
    "subclass": lambda: SubclassOfAsha(max_t=9, grace_period=1),
    "hyperband": lambda: HyperBandScheduler(max_t=9, reduction_factor=3),
    "median": lambda: MedianStoppingRule(grace_period=1),
    "median-mode": lambda: MedianStoppingRule(grace_period=1, mode="max"),
    "median-pauses": lambda: MedianStoppingRule(grace_period=2, hard_stop=False),
}
#: Of those that were made for one mode; another one is refused.
GIVEN_MODES = {"asha-mode": ("max",), "asha-both": ("max",), "median-mode": ("max",)}


@pytest.mark.parametrize(
    ("case", "mode"), [(case, mode) for case in GIVEN for mode in GIVEN_MODES.get(case, ("max", "min"))]
)
def test_a_scheduler_object_of_rays_runs_and_is_the_same_after_crashes(case, mode):
    sign = 1.0 if mode == "max" else -1.0
    given = GIVEN[case]()
    experiment = make_experiment(given, samples=17, epochs=9, seed=3, mode=mode)

    def run(workers=1, **more):
        sim = Simulation(experiment, workers=workers, value=lambda c, e: sign * curve(c, e), **more).run()
        check_sound(sim)
        return sim

    calm = run()
    stopped = [t for t in calm.trials if t.status == Status.STOPPED]
    if case == "fifo":
        assert not stopped
    elif case not in ("median-pauses", "hyperband"):  # Ray's HyperBand stops nothing with one worker
        assert len(stopped) > 3
        kept = [quality(t.config) for t in calm.trials if t.status == Status.COMPLETED]
        assert np.mean(kept) > np.mean([quality(t.config) for t in stopped])
        assert {t.reason for t in stopped} == {type(given).__name__}
    for step in range(2, calm.appends, calm.appends // 12):
        crashed = run(crash_steps={step})
        assert crashed.sessions == 2
        check_same_table(crashed, calm)
    for seed in range(4):
        steps = set(random.Random(seed).sample(range(1, calm.appends), 4))
        faults = Faults(raises=0.03, lost=0.03, nan=0.01)
        many = run(workers=17, crash_steps=steps, faults=faults, interrupts=[15])
        assert case != "hyperband" or Status.STOPPED in {t.status for t in many.trials}
        run(workers=4, crash_steps=steps, faults=faults, interrupts=[15])


def test_a_scheduler_object_is_named_in_the_run_and_must_be_passed_again():
    experiment = make_experiment(AsyncHyperBandScheduler(max_t=9), samples=4, epochs=9)
    document = json.loads(json.dumps(experiment.to_json()))
    name = "ray.tune.schedulers.async_hyperband:AsyncHyperBandScheduler"
    assert document["scheduler"] == {"name": "foreign", "class": name}
    again = Experiment.from_json(document).resolved
    assert again.scheduler.name == "AsyncHyperBandScheduler"
    with pytest.raises(ExperimentError, match=r"resume\(run_dir, scheduler="):
        again.new_scheduler()
    fresh = {"scheduler": AsyncHyperBandScheduler(max_t=9)}
    assert Experiment.from_json(document, given=fresh).resolved.new_scheduler().ray._metric == METRIC


def test_a_scheduler_class_of_a_users_is_found_again_with_its_options():
    document = json.loads(json.dumps(make_experiment(Bully, samples=4, epochs=9).to_json()))
    assert document["scheduler"]["name"] == "bully"
    again = Experiment.from_json(document).resolved.scheduler
    assert (again.name, again.kind.__qualname__) == ("bully", "Bully")


class PopulationOfAUsers(PopulationBasedTraining):
    """A subclass is refused as its base is."""


REFUSED = {
    "PopulationBasedTraining": lambda: PopulationBasedTraining(hyperparam_mutations={"x": [0.1, 0.2]}),
    "PopulationOfAUsers": lambda: PopulationOfAUsers(hyperparam_mutations={"x": [0.1, 0.2]}),
    "PB2": lambda: PB2(hyperparam_bounds={"x": [0.0, 1.0]}),
    "ResourceChangingScheduler": ResourceChangingScheduler,
}
OURS = {"PB2": 'scheduler="pb2"', "ResourceChangingScheduler": "a trial's resources stay what they are"}


def refusal(scheduler, **fields):
    with pytest.raises(ExperimentError) as raised:
        make_experiment(scheduler, **{"samples": 4, "epochs": 9, **fields})
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("name", REFUSED)
def test_what_works_through_rays_controller_is_refused_and_ours_named(name):
    error = refusal(REFUSED[name]())
    assert (error.field, error.value) == ("scheduler", name)
    assert OURS.get(name, 'scheduler="pbt"') in str(error)


@pytest.mark.parametrize("kind", [AsyncHyperBandScheduler, HyperBandScheduler, MedianStoppingRule])
def test_a_scheduler_object_that_compares_by_something_else_is_refused(kind):
    grace = {"grace_period": 1} if kind is MedianStoppingRule else {}
    error = refusal(kind(metric="loss", mode="max", **grace))
    assert (error.field, error.value) == ("scheduler.metric", "loss")
    assert f"the experiment's is {METRIC!r}" in str(error)
    error = refusal(kind(metric=METRIC, mode="min", **grace))
    assert (error.field, error.value) == ("scheduler.mode", "min")
    assert "the experiment's is 'max'" in str(error)


def test_a_scheduler_object_that_would_never_stop_a_trial_is_refused():
    error = refusal(MedianStoppingRule())
    assert (error.field, error.value) == ("scheduler.grace_period", 60)
    assert "max_epochs = 9" in str(error)
    make_experiment(MedianStoppingRule(), samples=4, epochs=60)


@pytest.mark.parametrize("wrong", [object(), AsyncHyperBandScheduler, 3])
def test_what_is_no_scheduler_is_refused(wrong):
    assert refusal(wrong).field == "scheduler"


# What we lean on in Ray --------------------------------------------------------------------------------

MOVED = f"ray {ray.__version__} has moved or changed {{}}; see schedulers/scheduler.py, host.py and corrected.py"


def test_ray_still_has_the_methods_that_are_called_and_overridden():
    wanted = {
        FIFOScheduler: "on_trial_add on_trial_result on_trial_complete on_trial_error on_trial_remove "
        "choose_trial_to_run",
        AsyncHyperBandScheduler: "on_trial_add on_trial_error",
        HyperBandScheduler: "on_trial_add on_trial_remove _process_bracket _create_bracket",
        MedianStoppingRule: "_on_insufficient_samples on_trial_complete",
        PopulationBasedTraining: "on_trial_result _checkpoint_or_exploit _quantiles _save_trial_state "
        "choose_trial_to_run",
        _Bracket: "cleanup_trial current_trials cur_iter_done filled continue_trial",
    }
    for owner, names in wanted.items():
        for name in names.split():
            assert callable(getattr(owner, name, None)), MOVED.format(f"{owner.__name__}.{name}")
    for ours in (corrected.Asha, corrected.HyperBand, corrected.Median, corrected.Pbt, pb2.Pb2):
        theirs = next(c for c in ours.__mro__ if c.__module__.startswith("ray."))
        for name, method in vars(ours).items():
            if inspect.isfunction(method) and hasattr(theirs, name) and name != "__init__":
                arguments = [list(inspect.signature(f).parameters) for f in (method, getattr(theirs, name))]
                assert arguments[0] == arguments[1], MOVED.format(f"the arguments of {theirs.__name__}.{name}")


def test_ray_still_has_the_attributes_that_are_read():
    def has(owner, names):
        for name in names.split():
            assert hasattr(owner, name), MOVED.format(f"{type(owner).__name__}.{name}")

    def scheduler(case):
        return make_experiment(CASES[case], samples=4, epochs=9).resolved.new_scheduler()

    ours = {case: scheduler(case) for case in ("asha", "hyperband", "median", "pbt")}
    asha, hyperband, median, pbt = (made.ray for made in ours.values())
    has(asha, "_brackets _trial_info")
    has(asha._brackets[0], "_rungs")
    has(hyperband, "_state _hyperbands _trial_info")
    assert "bracket" in hyperband._state, MOVED.format("HyperBandScheduler._state")
    has(median, "_results")
    has(pbt, "_trial_state _num_perturbations _metric_op _metric")
    seen = host.SchedulerHost(ours["hyperband"])
    seen.add("t0", {})
    bracket = hyperband._trial_info[seen.trials["t0"]][0]
    has(bracket, "is_being_processed _n0 _all_trials _halves")
    seen = host.SchedulerHost(ours["pbt"])
    seen.add("t0", {})
    has(pbt._trial_state[seen.trials["t0"]], "last_checkpoint last_score last_train_time last_perturbation_time")
    for given in (asha, hyperband, median):  # what is set, and compared, in a user's own
        has(given, "_metric _mode _time_attr")
    has(median, "_grace_period")


def test_rays_words_are_ours():
    names = {f.name for f in dataclasses.fields(host.HostTrial)}
    trial = Trial("x", stub=True)
    for name in (*(names - {"is_saving"}), "is_saving", "is_finished"):
        assert hasattr(trial, name), MOVED.format(f"Trial.{name}")
    for words, owner in ((Answer, TrialScheduler), (Standing, Trial)):
        theirs = {word.name: getattr(owner, word.name, None) for word in words}
        assert theirs == {word.name: word.value for word in words}, MOVED.format(f"the words of {owner.__name__}")


def test_no_scheduler_touches_the_controller_in_a_way_that_the_host_does_not_know():
    """Every attribute of tune_controller that the schedulers' code names is one the host has, or in code we replace."""
    import re

    replaced = {"_schedule_trial_save", "pause_trial"}  # in PBT's exploit and synchronous mode, which are ours
    for owner in (AsyncHyperBandScheduler, HyperBandScheduler, MedianStoppingRule, PopulationBasedTraining, _Bracket):
        used = set(re.findall(r"tune_controller\.(\w+)", inspect.getsource(owner)))
        unknown = {name for name in used if not hasattr(host.SchedulerHost, name)} - replaced
        assert not unknown, MOVED.format(f"what {owner.__name__} asks of the controller: {unknown}")
