"""CoarseToFine and its Box, beyond the contract; whole runs of it in virtual time."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from written_run import suggest, written_run

from raytune_hpo import Choice, Experiment, Float, Int
from raytune_hpo.cli.main import main
from raytune_hpo.errors import ExperimentError
from raytune_hpo.journal.events import SessionOpened, Suggested
from raytune_hpo.results.results import load_results
from raytune_hpo.search.box import CHANCE, Box, rank_correlation
from raytune_hpo.search.coarse_to_fine import CoarseToFine
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, config_key
from raytune_hpo.testing import searchers as contract
from raytune_hpo.testing import simulation as runs
from raytune_hpo.testing.schedulers import check_same_table, check_sound
from raytune_hpo.testing.searchers import make, tell
from raytune_hpo.testing.simulation import SOME, Faults, Simulation, make_experiment

LINE = SearchSpace({"x": Float(0.0, 1.0)})
LR = SearchSpace({"lr": Float(1e-6, 1.0, scale="log")})


def build(space: SearchSpace, seed: int = 0, start_points: Any = (), **options: Any) -> CoarseToFine:
    found = make("coarse_to_fine", options, space, mode="min", seed=seed, start_points=list(start_points))
    assert isinstance(found, CoarseToFine)
    return found


def complete(algorithm: CoarseToFine, value: Any) -> list[dict[str, Any]]:
    """Run it one by one to its end. The rounds' notes."""
    notes = []
    while True:
        number = len(algorithm.history)
        note = algorithm.plan().note
        config = algorithm.suggest(f"t{number}")
        if config is None:
            assert algorithm.exhausted
            return notes
        if note is not None:
            notes.append(note)
        tell(algorithm, f"t{number}", value(config))


def shrunk(space: SearchSpace, units: Any, m: int, box: Box | None = None, shrink: float = 0.5) -> Box:
    return (box or Box.whole(space)).shrunk(np.array(units, dtype=float), m, shrink)


# The box ------------------------------------------------------------------------------------------------


def test_the_box_zooms_in_the_parameters_own_scale() -> None:
    """Eight rounds halve six decades to a twentieth of one, round the optimum."""
    for seed in range(10):
        notes = complete(build(LR, seed, rounds=8), lambda c: (math.log10(c["lr"]) + 3.3) ** 2)
        decades = [np.log10(note["box"]["lr"]) for note in notes]
        assert decades[0] == pytest.approx([-6, 0])
        sides = [high - low for low, high in decades]
        assert all(a >= b >= a / 2 - 1e-9 for a, b in itertools.pairwise(sides))
        assert decades[-1][0] < -3.3 < decades[-1][1]
        assert sides[-1] < 0.2


def test_what_does_not_matter_stays_wide() -> None:
    """lr decides; what does not keeps most of its side over four shrinkings, and of its options."""
    space = SearchSpace(
        {
            "lr": Float(1e-6, 1.0, scale="log"),
            "dropout": Float(0.0, 1.0),
            "units": Int(1, 16),
            "size": Choice([1, 2, 3, 4, 5, 6, 7, 8], ordered=True),
            "kind": Choice(["a", "b", "c"]),
        }
    )
    sides: dict[str, list[float]] = {path: [] for path in space.paths}
    for seed in range(40):
        box = complete(build(space, seed), lambda c: (math.log10(c["lr"]) + 3) ** 2)[-1]["box"]
        sides["lr"].append(math.log10(box["lr"][1] / box["lr"][0]) / 6)
        sides["dropout"].append(box["dropout"][1] - box["dropout"][0])
        sides["units"].append((box["units"][1] - box["units"][0] + 1) / 16)
        sides["size"].append(len(box["size"]) / 8)
        sides["kind"].append(len(box["kind"]) / 3)
    means = {path: statistics.mean(found) for path, found in sides.items()}
    assert means.pop("lr") < 0.1
    assert min(means.values()) > 0.55, means
    assert statistics.mean(means.values()) > 0.65, means


def test_evidence_is_more_than_a_narrow_elite() -> None:
    """The same elite: the interval shrinks if the others get worse with the distance, and stays if they do not."""
    elite = [0.48, 0.5, 0.52, 0.49, 0.51]
    others = np.linspace(0.01, 0.99, 15)
    ordered = sorted(others, key=lambda u: abs(u - 0.5))
    one = shrunk(LINE, [[u] for u in [*elite, *ordered]], 5)
    assert (one.low[0], one.high[0]) == pytest.approx((0.25, 0.75), abs=1e-3)
    reverse = shrunk(LINE, [[u] for u in [*elite, *reversed(ordered)]], 5)
    assert (reverse.low[0], reverse.high[0]) == (0, 1)


def test_the_new_side_is_the_square_of_the_elites_spread() -> None:
    """In units of an even spread's; one that is wider than that changes nothing."""
    elite = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
    box = shrunk(LINE, [[u] for u in [*elite, *np.linspace(0.0, 0.05, 8), *np.linspace(0.95, 1, 7)]], 5, shrink=0.01)
    ratio = elite.std(ddof=1) * math.sqrt(12)
    assert ratio > 1
    assert (box.low[0], box.high[0]) == (0, 1)
    elite = elite / 2 + 0.25
    box = shrunk(LINE, [[u] for u in [*elite, *np.linspace(0.0, 0.2, 8), *np.linspace(0.8, 1, 7)]], 5, shrink=0.01)
    assert box.high[0] - box.low[0] == pytest.approx((ratio / 2) ** 2)


def test_two_good_regions_keep_the_box_wide() -> None:
    algorithm = build(LINE, samples=60)
    notes = complete(algorithm, lambda c: min(abs(c["x"] - 0.1), abs(c["x"] - 0.9)))
    assert notes[1]["box"]["x"] == [0.0, pytest.approx(1.0)]


def test_a_box_moves_beyond_its_old_end_but_never_out_of_the_cube() -> None:
    old = dataclasses.replace(Box.whole(LINE), low=np.array([0.4]), high=np.array([0.6]))
    moved = shrunk(LINE, [[0.6 - i / 100] for i in range(20)], 5, old)
    assert moved.high[0] > 0.6
    assert moved.high[0] - moved.low[0] == pytest.approx(0.1)
    at_the_end = shrunk(LINE, [[1 - i / 20 - 1e-9] for i in range(20)], 3)
    assert at_the_end.high[0] == 1.0
    assert at_the_end.low[0] == pytest.approx(0.5)


def test_a_side_never_falls_below_a_cell() -> None:
    space = SearchSpace({"n": Int(1, 4), "k": Int(1, 1000, scale="log")})
    units = [space.to_unit({"n": 2 if i < 5 else 1 + i % 4, "k": 1 if i < 5 else 1 + 50 * i}) for i in range(20)]
    box = Box.whole(space)
    for _ in range(12):
        box = shrunk(space, units, 5, box, shrink=0.1)
    assert box.values()["n"][0] <= 2 <= box.values()["n"][1]
    assert box.high[0] - box.low[0] >= 0.25 - 1e-9
    assert box.high[1] - box.low[1] >= math.log(1.5 / 0.5) / math.log(1000.5 / 0.5) - 1e-9
    for u in np.linspace(0, 0.999, 50):
        space.check(box.config(np.full(2, u)))


def test_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    for seed in range(5):
        values = np.random.default_rng(seed).integers(0, 6, 20).astype(float)
        assert rank_correlation(values) == pytest.approx(spearmanr(values, np.arange(20)).statistic)
    assert rank_correlation(np.ones(5)) == 0.0


def test_an_option_goes_only_with_evidence() -> None:
    from scipy.stats import hypergeom

    space = SearchSpace({"k": Choice(["a", "b", "c"])})
    for often in range(1, 15):
        # The elite has a's alone; b is `often` among the twenty, c takes the rest.
        options = ["a"] * 5 + ["b"] * often + ["c"] * (15 - often)
        left = shrunk(space, [space.to_unit({"k": k}) for k in options], 5).values()["k"]
        assert "a" in left
        for option in "bc":
            missing = hypergeom(20, options.count(option), 5).pmf(0)
            assert (option in left) == (missing > CHANCE), (option, often, missing)
    mixed = ["a", "a", "a", "a", "b"] + ["b"] * 14 + ["c"]
    assert shrunk(space, [space.to_unit({"k": k}) for k in mixed], 5).values()["k"] == ["a", "b", "c"]
    narrowed = shrunk(space, [space.to_unit({"k": k}) for k in ["a"] * 5 + ["b"] * 13 + ["c"] * 2], 5)
    assert {narrowed.config(np.array([u]))["k"] for u in np.linspace(0, 0.999, 30)} == {"a", "c"}


def test_an_inactive_parameter_says_nothing() -> None:
    space = SearchSpace({"k": Choice(["a", "b"]), "x": Float(0.0, 1.0).when("k", "==", "b")})
    nan = math.nan
    # x is active in two of the elite, then in three; they lie close together, and the others' do not.
    others = [[0.75, abs(u - 0.9) % 1] for u in np.linspace(0, 0.85, 15)]
    two = shrunk(space, [[0.75, 0.9], [0.75, 0.91], [0.25, nan], [0.25, nan], [0.25, nan], *others], 5)
    assert (two.low[1], two.high[1]) == (0, 1)
    three = shrunk(space, [[0.75, 0.9], [0.75, 0.91], [0.75, 0.89], [0.25, nan], [0.25, nan], *others], 5)
    assert (three.low[1], three.high[1]) == (0.5, 1)


def test_conditions_are_respected() -> None:
    """The better branch zooms in on its own optimum; inactive coordinates (0.5) draw nothing to themselves."""
    space = SearchSpace(
        {"k": Choice(["a", "b"]), "x": Float(0.0, 1.0).when("k", "==", "a"), "y": Float(0.0, 1.0).when("k", "==", "b")}
    )

    def value(config: Config) -> float:
        return abs(config["x"] - 0.1) if config["k"] == "a" else 2 + abs(config["y"] - 0.1)

    for seed in range(5):
        algorithm = build(space, seed, samples=40)
        notes = complete(algorithm, value)
        assert notes[-1]["box"]["k"] == ["a"]
        assert notes[-1]["box"]["x"][1] < 0.3
        assert notes[-1]["box"]["y"] == [0.0, pytest.approx(1.0)]
        for suggestion in algorithm.history:
            space.check(suggestion.config)


# Rounds -------------------------------------------------------------------------------------------------


def test_the_best_are_carried_over_and_trained_longer() -> None:
    algorithm = build(LINE, rounds=3, samples=8, growth=3.0, carry=0.25)
    complete(algorithm, lambda c: abs(c["x"] - 0.3))
    assert algorithm.total() == len(algorithm.history) == 24
    for number, suggestion in enumerate(algorithm.history):
        current, index = divmod(number, 8)
        plan = algorithm.plan_of(number)
        assert plan.share == pytest.approx((1 / 9, 1 / 3, 1.0)[current])
        if current == 0 or index >= 2:
            assert plan.parent is None
            continue
        before = algorithm.history[8 * (current - 1) : 8 * current]
        best = sorted(before, key=lambda s: s.value or 0.0)[index]
        assert (plan.parent, suggestion.config) == (best.trial_id, best.config)
    # A config that stays the best goes on from its trial in the round before, not from its first one.
    chain = [algorithm.plan_of(n).parent for n in (8, 9, 16, 17)]
    assert chain[2] in ("t8", "t9") or chain[3] in ("t8", "t9")


def test_failed_trials_are_neither_carried_nor_the_elite() -> None:
    algorithm = build(LINE, samples=20, rounds=2)
    notes = complete(algorithm, lambda c: None if c["x"] > 0.4 else 1 - c["x"])
    succeeded = [s for s in algorithm.history[:20] if not s.failed]
    assert 5 <= len(succeeded) <= 12
    assert notes[1]["carried"] == [s.trial_id for s in sorted(succeeded, key=lambda s: s.value or 0.0)[:3]]
    assert notes[1]["box"]["x"][1] < 0.6


def test_an_elite_is_smaller_where_few_succeed() -> None:
    """Three of twenty: the elite of a quarter would have two failed ones in it."""

    def run(seed: int) -> tuple[CoarseToFine, list[dict[str, Any]]]:
        algorithm = build(LINE, seed, samples=20, rounds=2)
        return algorithm, complete(algorithm, lambda c: None if c["x"] > 0.15 else c["x"])

    found = [run(seed) for seed in range(20)]
    three = [(a, notes) for a, notes in found if sum(not s.failed for s in a.history[:20]) == 3]
    assert three
    for algorithm, notes in three:
        ranked = sorted(algorithm.history[:20], key=lambda s: s.value if not s.failed and s.value is not None else 1)
        assert notes[1]["box"] == shrunk(LINE, [s.unit for s in ranked], 3).values()


def test_a_round_without_success_changes_nothing() -> None:
    algorithm = build(LINE, samples=10, rounds=3)
    notes = complete(algorithm, lambda c: None)
    assert [note["carried"] for note in notes] == [[], [], []]
    assert [note["box"] for note in notes] == [notes[0]["box"]] * 3
    assert len({config_key(s.config) for s in algorithm.history}) == 30


def test_it_waits_for_the_rounds_last_trial() -> None:
    algorithm = build(LINE, samples=6, rounds=2)
    for number in range(6):
        assert algorithm.suggest(f"t{number}") is not None
    for number in (5, 0, 3, 1, 4):
        tell(algorithm, f"t{number}", number / 10)
        assert algorithm.plan_of(6).parent is None
        assert algorithm.suggest("t6") is None
        assert not algorithm.exhausted
    tell(algorithm, "t2", 0.2)
    assert algorithm.plan_of(6).parent == "t0"
    assert algorithm.suggest("t6") == algorithm.history[0].config


def test_the_order_of_outcomes_does_not_matter() -> None:
    def played(seed: int | None) -> list[Config]:
        algorithm = build(LINE, samples=8, rounds=4)
        waiting: list[str] = []
        while True:
            number = len(algorithm.history)
            if algorithm.suggest(f"t{number}") is None and algorithm.exhausted:
                return [s.config for s in algorithm.history]
            waiting = [s.trial_id for s in algorithm.pending()]
            if seed is None or random.Random(seed + number).random() < 0.4 or len(algorithm.history) == number:
                told = random.Random((seed or 0) + number).choice(waiting)
                tell(algorithm, told, algorithm.history[int(told[1:])].config["x"])

    assert played(None) == played(1) == played(2)


@pytest.mark.parametrize("check", [contract.check_seeds, contract.check_mirror, contract.check_failures_and_outliers])
def test_the_contract_with_carried_configs(check: Any) -> None:
    check(contract.Case("coarse_to_fine", quick={"rounds": 10, "samples": 12}, beats_random=True))


@pytest.mark.parametrize("how", ["state", "replay"])
@pytest.mark.parametrize("sampler", ["uniform", "sobol"])
def test_restore_in_mid_round_with_carried_configs(how: str, sampler: str) -> None:
    contract.check_restore(contract.Case("coarse_to_fine", {"rounds": 10, "samples": 12, "sampler": sampler}), how)


def test_a_second_outcome_of_a_trial_is_believed() -> None:
    """As after a restart, which knows of the second one only."""
    ours, fresh = build(LINE, samples=6, rounds=2), build(LINE, samples=6, rounds=2)
    for number in range(8):
        config = ours.suggest(f"t{number}")
        assert config is not None
        tell(ours, f"t{number}", config["x"])
    worst = max(ours.history[:6], key=lambda s: s.value or 0.0).trial_id
    tell(ours, worst, -1.0)
    for suggestion in ours.history:
        fresh.replay(suggestion.trial_id, suggestion.config)
        tell(fresh, suggestion.trial_id, suggestion.value)
    assert ours.plan_of(6) == fresh.plan_of(6)
    assert ours.plan_of(6).parent == worst
    assert ours.suggest("t8") == fresh.suggest("t8")


def test_a_space_that_is_used_up_still_gets_its_long_rounds() -> None:
    space = SearchSpace({"n": Int(1, 3), "k": Choice(["a", "b"])})
    algorithm = build(space, rounds=3, samples=20)
    notes = complete(algorithm, lambda c: c["n"] + (c["k"] == "a"))
    assert algorithm.total() == len(algorithm.history) == 6 + 3 + 3
    assert len({config_key(s.config) for s in algorithm.history[:6]}) == 6
    assert algorithm.plan_of(11).share == 1.0
    assert {"n": 1, "k": "b"} in [s.config for s in algorithm.history[9:]]
    assert [len(note["carried"]) for note in notes] == [0, 3, 3]


def test_start_points_are_of_the_first_round() -> None:
    start = [{"x": i / 10} for i in range(5)]
    algorithm = build(LINE, start_points=start, samples=8, rounds=2)
    notes = complete(algorithm, lambda c: abs(c["x"] - 0.2))
    assert [s.config for s in algorithm.history[:5]] == start
    assert algorithm.total() == len(algorithm.history) == 16
    assert notes[0]["round"] == 0
    assert algorithm.plan_of(8).parent == "t2"
    many = build(LINE, start_points=start, samples=2, rounds=2)
    complete(many, lambda c: c["x"])
    assert many.total() == len(many.history) == 7
    assert [many.plan_of(n).share for n in (4, 5)] == [0.5, 1.0]


def test_sobol_points_fill_each_rounds_box_evenly() -> None:
    algorithm = build(LINE, samples=17, carry=0.0625 / 1.0625, rounds=3, sampler="sobol")
    notes = complete(algorithm, lambda c: abs(c["x"] - 0.4))
    drawn = [[s.config["x"] for s in algorithm.history[1 + 17 * i : 17 * (i + 1)]] for i in range(3)]
    for i in (1, 2):
        low, high = notes[i]["box"]["x"]
        assert sorted(int((x - low) / (high - low) * 16) for x in drawn[i]) == list(range(16))
    assert len({x for points in drawn for x in points}) == 48


def test_the_box_is_noted_in_the_parameters_own_values() -> None:
    space = SearchSpace(
        {"lr": Float(1e-4, 1.0, scale="log"), "n": Int(8, 64, scale="power_of_two"), "k": Choice([1, "b"])}
    )
    algorithm = build(space, rounds=3, samples=12, growth=3.0)
    notes = complete(algorithm, lambda c: abs(math.log10(c["lr"]) + 2) + (c["k"] == 1) + abs(c["n"] - 16))
    assert notes[0] == {
        "round": 0,
        "epochs_share": pytest.approx(1 / 9),
        "carried": [],
        "box": {"lr": [pytest.approx(1e-4), pytest.approx(1.0)], "n": [8, 64], "k": [1, "b"]},
    }
    assert [note["round"] for note in notes] == [0, 1, 2]
    assert json.loads(json.dumps(notes)) == notes
    for i, note in enumerate(notes):
        for suggestion in algorithm.history[12 * i + len(note["carried"]) : 12 * (i + 1)]:
            for path, side in note["box"].items():
                value = suggestion.config[path]
                assert value in side if path == "k" else side[0] <= value <= side[1]


# Experiments --------------------------------------------------------------------------------------------


def trainable(config: Config) -> None:
    """Never called."""


def experiment(**fields: Any) -> Experiment:
    values = {"searcher": "coarse_to_fine", "scheduler": "fifo", "metric": "value", "mode": "min", **fields}
    return Experiment(name="rounds", task=trainable, space={"x": Float(0.0, 1.0)}, **values)


def test_as_many_trials_as_it_has() -> None:
    assert experiment().resolved.num_samples == 100
    assert experiment(searcher={"name": "coarse_to_fine", "samples": 7, "rounds": 2}).resolved.num_samples == 14
    assert experiment(num_samples=30).resolved.num_samples == 30
    with pytest.raises(ExperimentError, match="ends after 100 trials") as error:
        experiment(num_samples=101)
    assert error.value.field == "num_samples"


@pytest.mark.parametrize("scheduler", ["hyperband", {"name": "pbt", "mutate": ["x"]}])
def test_who_sets_budgets_by_pausing_is_refused(scheduler: Any) -> None:
    with pytest.raises(ExperimentError, match="fifo, asha or median") as error:
        experiment(scheduler=scheduler)
    assert error.value.field == "scheduler"
    assert [experiment(scheduler=s).resolved.num_samples for s in ("fifo", "asha", "median")] == [100] * 3


def test_rounds_must_train_longer_and_longer() -> None:
    with pytest.raises(ExperimentError, match="1, 1, 2, 3, 5 epochs") as error:
        experiment(max_epochs=5)
    assert error.value.field == "searcher.rounds"
    assert experiment(max_epochs=9).resolved.num_samples == 100
    for options in ({"rounds": 4}, {"carry": 0}, {"growth": 1.0}, {"rounds": 3, "growth": 3.0}):
        experiment(max_epochs=5, searcher={"name": "coarse_to_fine", **options})
    whole = build(LINE, growth=1.0, rounds=2)
    complete(whole, lambda c: c["x"])
    assert {(whole.plan_of(n).share, whole.plan_of(n).parent) for n in range(40)} == {(1.0, None)}


ROUNDS = {"name": "coarse_to_fine", "rounds": 3, "samples": 6, "growth": 2.0, "carry": 0.3}


def simulated(scheduler: str = "fifo", epochs: int = 8, seed: int = 4, **fields: Any) -> Experiment:
    values = {"searcher": {**ROUNDS, **fields.pop("options", {})}, "max_failures": 2, **fields}
    samples = values["searcher"]["rounds"] * values["searcher"]["samples"]
    return make_experiment(scheduler, samples=samples, epochs=epochs, seed=seed, **values)


@pytest.mark.parametrize("scheduler", ["fifo", "asha"])
def test_a_crash_at_any_step_changes_nothing(scheduler: str) -> None:
    """Before or after four in ten lines of the journal, round boundaries among them."""
    calm = Simulation(simulated(scheduler), faults=Faults(raises=0.05, nan=0.02)).run()
    check_sound(calm)
    assert len(calm.trials) == 18
    carried = [t for t in calm.trials if t.parent is not None]
    assert len(carried) == 4
    assert {t.limit for t in calm.trials} == {2, 4, None}
    for step in range(1, calm.appends, 5):
        crashed = Simulation(calm.experiment, faults=calm.faults, crash_steps={step}).run()
        assert crashed.sessions == 2
        check_sound(crashed)
        check_same_table(crashed, calm)
        assert [t.note for t in crashed.trials] == [t.note for t in calm.trials]


def test_neither_crashes_nor_the_number_of_workers_change_anything() -> None:
    for seed in range(6):
        one = Simulation(simulated(seed=seed), faults=Faults(nan=0.02)).run()
        check_sound(one)
        steps = set(random.Random(seed).sample(range(1, one.appends), 6))
        for workers in (3, 5):
            many = Simulation(one.experiment, workers=workers, faults=one.faults, crash_steps=steps).run()
            check_sound(many)
            check_same_table(many, one)


@pytest.mark.parametrize("scheduler", ["fifo", "asha", "median"])
def test_whatever_befalls_a_run_it_ends(scheduler: str) -> None:
    adopted = scratch = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        fields: dict[str, Any] = {
            "checkpoint": {"every": int(rng.integers(1, 4)), "keep_trials": int(rng.choice([1, 20]))}
        }
        if seed % 5 == 4:
            fields["early_stopping"] = {"patience": 2, "min_delta": 0.05}
        sim = Simulation(
            simulated(scheduler, epochs=int(rng.choice([4, 9, 27])), seed=seed, **fields),
            workers=int(rng.integers(1, 6)),
            batch=int(rng.integers(1, 6)) if seed % 2 else 1,
            faults=dataclasses.replace(SOME, no_metric=0.0, damaged=0.1),
            crash_steps=set(map(int, rng.integers(1, 150, 6))),
            interrupts=[int(x) for x in rng.integers(3, 40, 2)],
        ).run()
        check_sound(sim)
        assert sim.rescued == 0
        assert len(sim.trials) == 18
        carried = [e for e in sim.of(Suggested) if e.parent is not None]
        adopted += sum(e.checkpoint is not None for e in carried)
        scratch += sum(e.checkpoint is None for e in carried)
    assert adopted > 20
    assert scratch > 2  # the parent's checkpoint was damaged, or not kept


def test_asha_compares_a_carried_trial_at_the_rungs_that_it_reaches() -> None:
    sim = Simulation(simulated("asha", epochs=27, options={"growth": 3.0}), workers=3, batch=9).run()
    check_sound(sim)
    rungs = {int(milestone): recorded for milestone, recorded in sim.population.host.scheduler.ray._brackets[0]._rungs}
    assert sorted(rungs) == [3, 9, 27]
    first = {e.trial: e.checkpoint.epoch for e in sim.of(Suggested) if e.checkpoint is not None}
    assert {3, 9} <= set(first.values())
    for trial, epoch in first.items():
        assert [rung for rung in rungs if trial in rungs[rung] and rung <= epoch] == []
    assert any(trial in rungs[9] for trial in first)


def test_a_ray_tuner_is_told_to_wait_and_told_of_the_end() -> None:
    from ray.tune.search import Searcher

    from raytune_hpo.search.ray_searcher import RaySearcher

    algorithm = build(LINE, samples=2, rounds=2)
    ray_searcher = RaySearcher(algorithm)
    assert [type(ray_searcher.suggest(t)) for t in "ab"] == [dict, dict]
    assert ray_searcher.suggest("c") is None
    ray_searcher.on_trial_complete("a", {"loss": 1.0})
    ray_searcher.on_trial_complete("b", {"loss": 2.0})
    assert [type(ray_searcher.suggest(t)) for t in "cd"] == [dict, dict]
    assert ray_searcher.suggest("e") == Searcher.FINISHED


# Results ------------------------------------------------------------------------------------------------


def test_the_rounds_are_in_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = SessionOpened(1, pid=1, host="h", started="s")
    notes = [
        {"round": 0, "epochs_share": 1 / 3, "carried": [], "box": {"lr": [0.0001, 0.1]}},
        {"round": 1, "epochs_share": 1.0, "carried": ["t00001"], "box": {"lr": [0.001, 0.02]}},
    ]
    lines = [
        replace(suggest("t00000"), limit=9, note=notes[0]),
        replace(suggest("t00001"), limit=9),
        replace(suggest("t00002"), parent="t00001", note=notes[1]),
        replace(suggest("t00003"), note={"another": "search's"}),
    ]
    run = written_run(tmp_path / "run", session, *lines)
    expected = [{**notes[0], "first_trial": "t00000"}, {**notes[1], "first_trial": "t00002"}]
    assert load_results(run).rounds == expected
    assert main(["trials", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == expected
    assert main(["trials", str(run)]) == 0
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert [line.split() for line in table[1:]] == [
        ["0", "t00000", "0.333", "0", "lr=0.0001..0.1"],
        ["1", "t00002", "1", "1", "lr=0.001..0.02"],
    ]
    plain = written_run(tmp_path / "plain", session, suggest("t00000"))
    assert load_results(plain).rounds == []
    assert main(["trials", str(plain)]) == 0
    assert "round" not in capsys.readouterr().out


def test_simulated_rounds_reach_the_journal() -> None:
    sim = Simulation(simulated()).run()
    notes = [t.note for t in sim.trials if t.note is not None]
    assert [n["round"] for n in notes] == [0, 1, 2]
    best = max(sim.trials, key=lambda t: t.best or 0.0)
    assert best.limit is None
    assert best.best == runs.curve(best.config, 8)
