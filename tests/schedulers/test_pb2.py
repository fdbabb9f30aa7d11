"""PB2: what it learns from results, its bound against the textbook's formulas, and whether it is worth it."""

from __future__ import annotations

import json
import logging
import math
import statistics

import numpy as np
import pytest

from raytune_hpo import Choice, Experiment, Float, Int, SearchSpace
from raytune_hpo.journal.events import CheckpointRecord
from raytune_hpo.objective import Objective
from raytune_hpo.schedulers.host import SchedulerHost
from raytune_hpo.schedulers.pb2 import UpperBound, correlation, distances, fit, normal_scores
from raytune_hpo.schedulers.populations import Pb2
from raytune_hpo.schedulers.scheduler import Standing
from raytune_hpo.seeding import generator
from raytune_hpo.testing.spaces import nasty_space

PLANE = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}


def trainable(config):
    """Never called."""


def hosted(space=None, name="pb2", seed=0, mode="max", **options):
    space = PLANE if space is None else space
    options = {"interval": 2, "mutate": list(space), **options}
    experiment = Experiment(
        name="x",
        task=trainable,
        space=space,
        scheduler={"name": name, **options},
        metric="v",
        mode=mode,
        max_epochs=40,
        seed=seed,
    )
    return SchedulerHost(experiment.resolved.new_scheduler())


def tell(host, trial, epoch, value):
    """A report; the trial's checkpoint is of that epoch. Answers what the scheduler did to trials."""
    host.trials[trial].status = Standing.RUNNING
    host.trials[trial].checkpoint = CheckpointRecord(trial, 0, epoch, f"{trial}-{epoch}", 1, 1)
    host.result(trial, {"v": value, "epoch": epoch})
    return host.take_effects()


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("ray.tune").setLevel(logging.WARNING)


# What it is told ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["max", "min"])
def test_gains_are_per_epoch_and_begin_at_the_first_report(mode):
    host, sign = hosted(interval=4, mode=mode), 1 if mode == "max" else -1
    host.add("a", {"x": 0.25, "y": 0.5})
    for epoch, value in enumerate([1.0, 5.0, 5.0, 7.0, 8.0, 8.0, 8.0, 9.0], start=1):
        tell(host, "a", epoch, sign * value)
    first, second = host.scheduler.ray._intervals
    assert (first[0].epoch, first[0].score, first[1]) == (1, 1.0, 2.0)
    assert (second[0].epoch, second[0].score, second[1]) == (4, 7.0, 0.5)
    assert first[0].code == pytest.approx([0.25, 0.5])


def exploited(host):
    """Two trials, of which b after 4 epochs copies a as it was after 2."""
    host.add("a", {"x": 0.25, "y": 0.5})
    host.add("b", {"x": 0.9, "y": 0.1})
    for epoch in (1, 2, 3):
        assert tell(host, "b", epoch, 1.0 + epoch) == []
    for epoch in (1, 2):
        assert tell(host, "a", epoch, 10.0 * epoch) == []
    (effect,) = tell(host, "b", 4, 5.0)
    assert (effect.trial_id, effect.donor, effect.checkpoint.epoch) == ("b", "a", 2)
    assert len(host.scheduler.ray._intervals) == 3
    return effect


def test_after_a_copy_an_interval_begins_at_the_donors_epoch_and_score():
    host = hosted()
    effect = exploited(host)
    assert host.trials["b"].config == effect.config
    tell(host, "b", 3, 21.0)
    tell(host, "b", 4, 26.0)
    start, gain = host.scheduler.ray._intervals[-1]
    assert (start.epoch, start.score, gain, start.config) == (2, 20.0, 3.0, effect.config)
    assert len(host.scheduler.ray._intervals) == 4


def test_a_copy_that_failed_teaches_nothing():
    host = hosted()
    exploited(host)
    host.trials["b"].config = {"x": 0.9, "y": 0.1}  # as the population does when the donor's checkpoint is damaged
    tell(host, "a", 3, 30.0)
    tell(host, "a", 4, 1.0)
    assert len(host.scheduler.ray._intervals) == 4
    tell(host, "b", 5, 5.0)
    tell(host, "b", 6, 6.0)
    assert len(host.scheduler.ray._intervals) == 4
    tell(host, "b", 7, 6.0)
    tell(host, "b", 8, 9.0)
    start, gain = host.scheduler.ray._intervals[4]
    assert (start.epoch, start.score, gain) == (5, 5.0, 0.5)


# What it makes of it ----------------------------------------------------------------------------------


def test_the_kernel_is_the_papers():
    a, b = np.array([[3.0, 0.2, 0.1]]), np.array([[7.0, 0.5, 0.5]])
    expected = math.exp(-(0.09 + 0.16) / (2 * 0.3**2)) * 0.9**2
    assert correlation(*distances(a, b), 0.3, 0.1)[0, 0] == pytest.approx(expected)


def test_the_bound_is_that_of_a_gaussian_process():
    rng = np.random.default_rng(0)
    rows, pending, points = (np.column_stack([rng.random(n) * 5, rng.random((n, 3))]) for n in (20, 4, 9))
    gains = normal_scores(np.sin(5 * rows[:, 2]))
    bounds = {kappa: UpperBound(rows, gains, pending, kappa) for kappa in (0.0, 2.0)}
    length, epsilon, noise = (getattr(bounds[0.0], name) for name in ("length", "epsilon", "noise"))

    def kernel(a, b):
        return (1 - noise) * correlation(*distances(a, b), length, epsilon)

    mean = kernel(points, rows) @ np.linalg.inv(kernel(rows, rows) + noise * np.eye(20)) @ gains
    every = np.concatenate([rows, pending])
    explained = kernel(points, every) @ np.linalg.inv(kernel(every, every) + noise * np.eye(24)) @ kernel(every, points)
    assert bounds[0.0](points) == pytest.approx(mean)
    assert bounds[2.0](points) == pytest.approx(mean + 2 * np.sqrt(1 - noise - np.diag(explained)))
    there = bounds[2.0](pending) - bounds[0.0](pending)
    assert there.mean() < 0.7 * (bounds[2.0](points) - bounds[0.0](points)).mean()


def test_the_grid_tells_noise_from_structure_and_drift_from_rest():
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.integers(0, 12, 60), np.zeros(60), rng.random(60)]).astype(float)
    rest, drift = np.sin(6 * rows[:, 2]), np.sin(6 * rows[:, 2] + 0.8 * rows[:, 0])
    assert fit(rows, normal_scores(rest))[1] == 0.02
    assert fit(rows, normal_scores(drift))[1] == 0.2
    assert fit(rows, normal_scores(rest))[2] < fit(rows, normal_scores(rng.standard_normal(60)))[2] == 0.4
    wiggly, smooth = np.sin(20 * rows[:, 2]), np.sin(3 * rows[:, 2])
    assert fit(rows, wiggly)[0] == 0.15
    assert fit(rows, smooth)[0] == 0.8
    assert fit(rows[:2], np.zeros(2)) == fit(rows[:0], np.zeros(0))


def test_scores_of_ranks():
    assert normal_scores(np.array([1.0, 1e300, -1e300])) == pytest.approx([0, 1.2247, -1.2247], abs=1e-3)
    assert normal_scores(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]
    tied = normal_scores(np.array([1.0, 2.0, 2.0, 3.0]))
    assert tied[1] == tied[2] == pytest.approx(0.0)
    assert normal_scores(np.zeros(0)).shape == (0,)


def learned(space, gain=lambda config: 0.0, **options):
    """A scheduler that knows 60 intervals of random configs, and the donor of an exploit."""
    host, built = hosted(space, **options), SearchSpace(space)
    scheduler = host.scheduler.ray
    host.add("donor", built.sample(generator(7)))
    tell(host, "donor", 4, 2.0)
    for i in range(60):
        rng = generator(7, i)
        start = scheduler._start(i % 5, float(rng.random() * 4), built.sample(rng))
        scheduler._intervals.append((start, gain(start.config)))
    return scheduler, host.trials["donor"], built


SPREAD = {
    "x": Float(0.0, 1.0),
    "n": Int(1, 9),
    "s": Choice(["s", "m", "l"], ordered=True),
    "kind": Choice(["a", None, "c"]),
    "deep": Float(1e-4, 1.0, scale="log").when("kind", "==", None),
    "fixed": Float(0.0, 1.0),
}


@pytest.mark.parametrize("resample", [0.0, 0.5])
def test_only_what_may_change_changes_and_stays_in_the_space(resample):
    scheduler, donor, space = learned(SPREAD, mutate=["x", "n", "s", "kind", "deep"], resample_probability=resample)
    donor.config = space.build({"x": 0.5, "n": 5, "s": "m", "kind": None, "deep": 0.01, "fixed": 0.123})
    kinds = set()
    for i in range(60):
        config = scheduler._explored(None, donor, generator(i))
        space.check(config)
        assert json.loads(json.dumps(config)) == config
        assert config["fixed"] == 0.123
        kinds.add(config["kind"])
    assert kinds == ({None} if resample == 0 else {"a", None, "c"})
    assert donor.config["x"] == 0.5


def test_every_kind_of_space_can_be_explored():
    space = nasty_space()
    options = Pb2.Options(interval=1, mutate=tuple(space.paths), resample_probability=0.3)
    host = SchedulerHost(Pb2(options, space=space, objective=Objective("v", "max"), max_epochs=40, seed=0))
    for i in range(8):
        host.add(f"t{i}", space.sample(generator(i)))
    explored = 0
    for epoch in range(1, 8):
        for name in host.trials:
            for effect in tell(host, name, epoch, float(generator(epoch, name).random())):
                space.check(effect.config)
                explored += 1
    assert explored > 5


def test_it_goes_where_the_gain_was_highest_and_not_twice_to_the_same_place():
    def gain(config):
        return -((config["x"] - 0.7) ** 2) - 0.01 * abs(config["n"] - 4)

    scheduler, donor, _ = learned({"x": Float(0.0, 1.0), "n": Int(1, 9)}, gain, kappa=0.0)
    found = [scheduler._explored(None, donor, generator(i)) for i in range(8)]
    assert max(abs(c["x"] - 0.7) for c in found) < 0.1
    assert {c["n"] for c in found} <= {3, 4, 5}
    assert scheduler._explored(None, donor, generator(3)) == found[3]


def test_it_does_not_go_where_another_member_is_now():
    host = hosted({"x": Float(0.0, 1.0)}, kappa=2.0, interval=1)
    xs = [0.0, 0.1, 0.2, 0.55, 0.65, 0.8, 0.9, 1.0, 0.9]
    for i, x in enumerate(xs):
        host.add(str(i), {"x": x})
        tell(host, str(i), 1, 1.0)
    # Nothing is known to be better: it looks where nobody is.
    for i in range(4):
        config = host.scheduler.ray._explored(host.trials["8"], host.trials["7"], generator(i))
        assert config["x"] == pytest.approx(0.375, abs=0.08)


def play(name, seed, members=8, epochs=40):
    """The best final score of a population whose best x moves from 0.9 to 0 while it trains."""
    host = hosted(name=name, seed=seed, interval=4)
    rng = np.random.default_rng(seed)
    score, saved = dict.fromkeys(range(members), 0.0), {}
    for i in score:
        host.add(str(i), SearchSpace(PLANE).sample(rng))
    at = dict.fromkeys(score, 0)
    while (i := min(at, key=at.get)) is not None and at[i] < epochs:
        config = host.trials[str(i)].config
        score[i] += 1 - 4 * (config["x"] - 0.9 * (1 - at[i] / epochs)) ** 2 - 2 * (config["y"] - 0.3) ** 2
        at[i] += 1
        saved[f"{i}-{at[i]}"] = (at[i], score[i])
        for effect in tell(host, str(i), at[i], score[i]) if at[i] < epochs else ():
            at[i], score[i] = saved[effect.checkpoint.path]
    return max(score.values())


def test_it_follows_a_moving_best_better_than_pbt():
    """Measured over 20 seeds with 8 members: pb2 37.3, pbt 31.8, of 40 at most; deviations of the means 0.2 and 0.6."""
    ours, theirs = ([play(name, seed) for seed in range(6)] for name in ("pb2", "pbt"))
    assert statistics.mean(ours) > statistics.mean(theirs) + 2
    assert statistics.mean(ours) > 35
    assert play("pb2", 0) == ours[0]
