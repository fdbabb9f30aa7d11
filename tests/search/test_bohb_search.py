"""BohbSearch: which configs are good, what the densities are, and what reports change."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from raytune_hpo.search.bohb_search import PRIOR, Density
from raytune_hpo.search.unit_cube import indices
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.states import Outcome
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.searchers import make, tell
from raytune_hpo.testing.simulation import Faults, Simulation, make_experiment

LINE = SearchSpace({"x": Float(0.0, 1.0)})
MIXED = SearchSpace(
    {
        "x": Float(0.0, 1.0),
        "n": Int(1, 5),
        "kind": Choice(["a", "b", "c"]),
        "deep": Float(0.0, 1.0).when("kind", "==", "b"),
        "deeper": Choice([True, False]).when("deep", ">", 0.5),
    }
)


def built(space=LINE, seed=0, mode="min", **options):
    return make("bohb", options, space, mode=mode, seed=seed)


def told(curves, space=LINE, finals=None, **options):
    """A search that was told of the curves [[loss at epoch 1, 2, ...], ...]; finals: None for what still runs."""
    algorithm = built(space, **options)
    xs = np.random.default_rng(5).random((len(curves), len(space)))
    for i, curve in enumerate(curves):
        algorithm.replay(f"t{i}", space.from_unit(xs[i]))
        for epoch, loss in enumerate(curve, start=1):
            algorithm.report(f"t{i}", epoch, loss)
        final = finals[i] if finals else min(curve, default=1.0)
        if final is not None:
            algorithm.observe(f"t{i}", Outcome.STOPPED, final, len(curve))
    return algorithm


def ids(suggestions):
    return [s.trial_id for s in suggestions]


def test_how_many_trials_a_model_needs():
    """LINE has one parameter: 2 of either kind, and 2 + 2 in all."""
    assert told([[1.0]] * 3).split() is None
    assert told([[1.0]] * 4).split() is not None
    assert told([[1.0, 2.0, 3.0]] * 4, min_points=3).split() is None
    assert told([[1.0, 2.0, 3.0]] * 5, min_points=3).split() is not None
    # Running trials count with what they have reported, failed ones as bad trials ...
    assert told([[1.0, 2.0, 3.0]] * 4, finals=[None] * 4).split() is not None
    assert told([[1.0, 2.0, 3.0]] * 2 + [[]] * 2, finals=[1.0, 1.0, math.nan, math.nan]).split() is not None
    # ... but not as good ones.
    assert told([[1.0, 2.0]] + [[]] * 9, finals=[1.0, *[math.nan] * 9]).split() is None


def test_without_reports_final_values_are_those_of_the_epochs_trained():
    algorithm = told([[]] * 6, finals=[None] * 6)
    for i, final in enumerate([3.0, 1.0, 2.0, None, 5.0, 4.0]):
        if final is not None:
            algorithm.observe(f"t{i}", Outcome.STOPPED, final, 3)
    good, bad = algorithm.split()
    assert ids(good) == ["t1", "t2"]
    assert ids(bad) == ["t0", "t5", "t4", "t3"]


def test_trials_are_told_apart_by_what_is_expected_of_them_at_the_end():
    long = [[9.0, 5.0 + i, i] for i in range(6)]
    # What was stopped after a good first epoch is among the good ones, and not the best.
    stopped = [[8.0], [30.0]]
    algorithm = told([*long, *stopped], quantile=0.3)
    ranked = algorithm.ranked(algorithm.known())
    assert [s.trial_id for s in ranked if s.trial_id < "t6"] == [f"t{i}" for i in range(6)]
    assert ids(ranked).index("t6") > 0
    assert ids(ranked)[-1] == "t7"
    good, _ = algorithm.split()
    assert ids(good) == ids(ranked)[:2]
    assert ids(told([[1.0], [2.0], [3.0], [4.0]], mode="max").split()[0]) == ["t3", "t2"]


def test_the_sizes_of_the_two_sets():
    sizes = {n: tuple(map(len, told([[float(i)] for i in range(n)], min_points=5).split())) for n in (7, 10, 40, 200)}
    assert sizes == {7: (5, 5), 10: (5, 5), 40: (6, 34), 200: (30, 170)}
    good, bad = told([[float(i)] for i in range(7)], min_points=5).split()
    assert (ids(good)[0], ids(bad)[-1]) == ("t0", "t6")
    good, bad = told([[float(i)] for i in range(3000)]).split()  # of many, some of every rank
    assert (len(good), len(bad)) == (300, 300)
    assert (ids(good)[0], ids(good)[-1], ids(bad)[0], ids(bad)[-1]) == ("t0", "t449", "t450", "t2999")


def test_failed_and_waiting_trials_are_bad():
    algorithm = told([[0.0]] * 3 + [[1.0], [2.0], [3.0], [], [4.0]], finals=[math.nan] * 3 + [1.0] * 3 + [None] * 2)
    good, bad = algorithm.split()
    assert ids(good) == ["t3", "t4"]
    assert set(ids(bad)) == {"t0", "t1", "t2", "t5", "t6", "t7"}
    assert ids(bad).count("t7") == 1  # it runs, and its report is known


def test_a_density_integrates_to_one():
    algorithm = built(MIXED)
    units = algorithm._encoding.snap(np.random.default_rng(0).random((12, 5)))
    density = Density.fit(units, algorithm._options, np.full(5, 1e-3))
    assert algorithm._options == [0, 0, 3, 0, 2]
    grid = (np.arange(400) + 0.5) / 400
    for column, k in enumerate(algorithm._options):
        points = np.full((len(grid), 5), 0.5)
        points[:, column] = grid
        active = np.zeros((len(grid), 5), dtype=bool)
        active[:, column] = True
        values = np.exp(density.log_density(points, active))
        if k:
            values = [values[indices(grid, k) == option][0] / 400 * 400 for option in range(k)]
            assert np.sum(values) == pytest.approx(1.0)
        else:
            assert values.mean() == pytest.approx(1.0, abs=2e-3)


def test_the_density_of_several_coordinates_is_a_sum_of_products():
    density = Density(np.array([[0.2, 0.1], [0.8, 0.9]]), [0, 2], np.array([0.1, 0.25]))
    both, one = np.ones((1, 2), dtype=bool), np.array([[True, False]])
    at = np.array([[0.2, 0.9]])
    peak = 1 / (0.1 * math.sqrt(2 * math.pi)) / 0.97725  # cut at 0, two deviations away
    assert np.exp(density.log_density(at, one)) == pytest.approx(peak / 2, rel=1e-3)
    assert np.exp(density.log_density(at, both)) == pytest.approx(peak / 2 * 0.25, rel=1e-3)


def test_widths_are_the_rule_of_thumb_over_the_points_and_one_spread_over_the_cube():
    same = Density.fit(np.full((9, 2), 0.3), [0, 3], np.array([1e-3, 1e-3]))
    shrink = 1.06 * 9 ** (-1 / 6)
    assert same.widths[0] == pytest.approx(shrink * math.sqrt(PRIOR / 12 / (9 + PRIOR)))
    assert 0 < same.widths[1] < 0.3
    wide = np.random.default_rng(0).random((5000, 1))
    assert Density.fit(wide, [0], np.array([0.0])).widths[0] == pytest.approx(
        1.06 * wide.std() * 5000 ** (-1 / 5), rel=1e-3
    )
    assert Density.fit(wide, [0], np.array([0.4])).widths[0] == 0.4
    assert Density.fit(wide[:4], [2], np.array([0.0])).widths[0] <= 0.5


def test_draws_are_of_the_density():
    density = Density(np.array([[0.05, 0.1], [0.7, 0.9]]), [0, 2], np.array([0.15, 0.3]))
    drawn = density.sample(20_000, 1.0, np.random.default_rng(0))
    assert (drawn >= 0).all()
    assert (drawn < 1).all()
    grid = (np.arange(200) + 0.5) / 200
    values = np.exp(density.log_density(np.column_stack([grid, grid]), np.tile([True, False], (200, 1))))
    assert drawn[:, 0].mean() == pytest.approx((values * grid).mean(), abs=0.01)
    assert drawn[:, 0].std() == pytest.approx(
        math.sqrt((values * grid**2).mean() - (values * grid).mean() ** 2), abs=0.01
    )
    low = drawn[:, 0] < 0.3
    # Drawn anew with probability 0.3, and then half of the time the same again.
    assert (drawn[low, 1] < 0.5).mean() == pytest.approx(0.85, abs=0.02)
    assert density.sample(20_000, 3.0, np.random.default_rng(0))[:, 0].std() < 0.33
    narrow = Density(np.array([[0.5]]), [0], np.array([0.01]))
    assert narrow.sample(20_000, 3.0, np.random.default_rng(0)).std() == pytest.approx(0.03, rel=0.03)


def test_inactive_parameters_are_filled_in_from_the_configs_that_have_them():
    algorithm = built(MIXED)
    configs = [{"x": 0.5, "n": 1, "kind": "b", "deep": d} for d in (0.1, 0.2)]
    configs += [{"x": 0.5, "n": 1, "kind": "a"}] * 20
    for i, config in enumerate(configs):
        algorithm.replay(f"t{i}", config)
    density = algorithm._density(algorithm.history, np.random.default_rng(0))
    deep, deeper = (density.units[:, MIXED.paths.index(p)] for p in ("deep", "deeper"))
    assert {round(float(u), 9) for u in deep} == {0.1, 0.2}
    assert len(set(deeper)) > 10  # nobody has it
    units = np.full((2, 5), 0.5)
    units[1, 3:] = 0.9
    inactive = np.array([[True, True, True, False, False]] * 2)
    assert np.ptp(density.log_density(units, inactive)) == 0


def test_a_share_of_the_suggestions_is_random():
    def spread(**options):
        algorithm = told([[(i / 40 - 0.5) ** 2] for i in range(40)], **options)
        return algorithm, [algorithm.suggest(f"p{i}")["x"] for i in range(150)]

    plain = make("random", {}, LINE, mode="min", seed=0)
    _, everything = spread(random_fraction=1.0)
    assert np.std(everything) == pytest.approx(1 / math.sqrt(12), abs=0.03)
    algorithm = told([[abs(x - 0.3)] for x in np.random.default_rng(5).random((40, 1))[:, 0]], random_fraction=0.25)
    found = np.array([algorithm.suggest(f"p{i}")["x"] for i in range(150)])
    assert 0.1 < (abs(found - 0.3) > 0.25).mean() < 0.4
    assert plain.suggest("t0") is not None


def test_a_model_of_long_trials_overrules_that_of_short_ones():
    """At epoch 1 small x look best, at epoch 9 large ones."""
    algorithm = built(seed=3, random_fraction=0.0)
    for i, x in enumerate(np.random.default_rng(0).random(60)):
        algorithm.replay(f"t{i}", {"x": float(x)})
        last = 9 if i % 4 == 0 else 1
        for epoch in range(1, last + 1):
            algorithm.report(f"t{i}", epoch, 2 + float(x) if epoch == 1 else 1.0 - float(x))
        algorithm.observe(f"t{i}", Outcome.STOPPED, 0.0, last)
    assert len(algorithm.split()[0]) == 2  # 15 % of the 15 that were trained to epoch 9
    assert np.mean([algorithm.suggest(f"p{i}")["x"] for i in range(5)]) > 0.7


def test_reports_come_back_with_the_state():
    reports = {}

    def play(algorithm, first, last):
        for i in range(first, last):
            config = algorithm.suggest(f"t{i}")
            for epoch in range(1, 1 + i % 5):
                loss = math.nan if i % 7 == 0 else config["x"] / epoch
                reports.setdefault(f"t{i}", {})[epoch] = loss
                algorithm.report(f"t{i}", epoch, loss)
            if i % 3:
                tell(algorithm, f"t{i}", config["x"])
        return [s.config for s in algorithm.history]

    whole, restored, replayed = built(MIXED), built(MIXED), built(MIXED)
    play(whole, 0, 30)
    restored.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    for s in whole.history:
        replayed.replay(s.trial_id, s.config)
        for epoch, loss in reports.get(s.trial_id, {}).items():
            replayed.report(s.trial_id, epoch, loss)
    for s in whole.observed():
        tell(replayed, s.trial_id, s.value)
    assert whole.split() is not None
    expected = play(whole, 30, 50)
    assert play(restored, 30, 50) == expected
    assert play(replayed, 30, 50) == expected


def test_parallel_suggestions_keep_apart():
    algorithm = told([[abs(x - 0.3)] for x in np.random.default_rng(5).random((20, 1))[:, 0]], random_fraction=0.0)
    first = algorithm.suggest("p0")
    xs = [first["x"], *(algorithm.suggest(f"p{i}")["x"] for i in range(1, 12))]
    assert len(set(xs)) == 12
    _, bad = algorithm.split()
    assert ids(bad)[-12:] == [f"p{i}" for i in range(12)]
    assert min(np.diff(sorted(xs))) > 0.01
    assert np.median(abs(np.array(xs) - 0.3)) < 0.3


@pytest.mark.parametrize("scheduler", ["hyperband", "asha"])
def test_a_run_that_crashed_suggests_what_the_other_one_did(scheduler):
    """In the real driver: reports reach the model, and reach it again in the same order after a restart."""
    experiment = make_experiment(scheduler, samples=45, epochs=9, seed=1, searcher={"name": "bohb", "min_points": 3})
    faults = Faults(raises=0.03, nan=0.01)
    calm = Simulation(experiment, faults=faults).run()
    check_sound(calm)
    search = calm.population.search
    assert search.split() is not None
    assert {s.heard for s in search.history} >= {1, 3}  # levels passed
    for step in (calm.appends // 3, calm.appends // 2 + 1, 3 * calm.appends // 4):
        crashed = Simulation(experiment, faults=faults, crash_steps={step}).run()
        assert crashed.sessions == 2
        check_sound(crashed)
        check_same_table(crashed, calm)
