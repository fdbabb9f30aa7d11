"""How trials of different lengths are compared, and that no search takes an early value for a full one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from raytune_hpo.search.fidelity import Comparison, Step, expected_losses, expected_scores, levels, normal_scores
from raytune_hpo.search.history import History, Suggestion
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Float
from raytune_hpo.states import Outcome
from raytune_hpo.testing.schedulers import check_sound
from raytune_hpo.testing.searchers import make
from raytune_hpo.testing.simulation import Simulation, make_experiment

LINE = SearchSpace({"x": Float(0.0, 1.0)})
RNG = np.random.default_rng(0)


def test_levels_are_thirds():
    assert levels(81) == (1, 3, 9, 27, 81)
    assert levels(52) == (1, 2, 6, 18, 52)
    assert levels(1) == (1,)


def halved(quality, noise=0.0, shares=(1.0, 1 / 3, 1 / 9)):
    """[n, 3] marks of trials of which the better third goes on from each level; losses fall with the levels."""
    n = len(quality)
    marks = np.full((n, len(shares)), math.nan)
    alive = np.arange(n)
    for k, scale in enumerate((1.0, 0.4, 0.2)):
        marks[alive, k] = 3.0 - k + scale * quality[alive] + noise * RNG.standard_normal(len(alive))
        alive = alive[np.argsort(marks[alive, k])[: max(1, round(n * shares[min(k + 1, len(shares) - 1)]))]]
    return marks


def test_complete_trials_are_compared_by_their_losses_alone():
    losses = np.array([3.0, 1.0, 1e300, 2.0])
    marks = np.column_stack([losses + 1, losses])
    found = Comparison.of(marks)
    assert (np.argsort(found.expected) == np.argsort(losses)).all()
    assert found.expected == pytest.approx(found.equated[:, 1])


def test_who_was_stopped_is_compared_with_the_survivors():
    """The order is that of the qualities, over all levels; a raw loss of level 1 is above every one of level 3."""
    quality = np.sort(RNG.random(90))
    found = Comparison.of(halved(quality))
    assert np.corrcoef(np.argsort(np.argsort(found.expected)), np.arange(90))[0, 1] > 0.99
    assert found.passed.tolist() == [3] * 10 + [2] * 20 + [1] * 60


def test_a_level_that_says_nothing_says_nothing():
    """Then the trials that were stopped there are all expected to be as good as each other, nearly."""
    quality = RNG.random(120)
    marks = halved(quality)
    marks[:, 0] = RNG.random(120)  # who goes on from the first level is chance
    passed = np.argsort(marks[:, 0])[:40]
    marks[:, 1:] = math.nan
    marks[passed, 1] = quality[passed]
    found = Comparison.of(marks)
    stopped = np.isnan(marks[:, 1])
    assert found.expected[stopped].std() < 0.4 * found.expected[~stopped].std()
    told = Comparison.of(halved(quality))
    assert told.expected[told.passed == 1].std() > 2 * found.expected[stopped].std()


def test_with_few_pairs_a_step_is_the_prior():
    one = Step.between(np.array([0.5]), np.array([0.1]))
    assert (one.middle, one.mean, one.stretch) == (0.5, 0.1, 1.0)
    assert one.slope == pytest.approx(0.7)
    assert Step.between(np.zeros(5), np.zeros(5)).slope == pytest.approx(0.7)
    reversed_order = Step.between(np.arange(30.0), -np.arange(30.0))
    assert 0 <= reversed_order.slope < 0.1, "an inverse relation is not believed in, nor the straight one"


def shown(marks, failed=False):
    s = Suggestion("t", {}, np.zeros(1), marks=list(marks))
    if failed:
        s.value = math.nan
    return s


def test_expected_losses_are_losses():
    trials = [shown([5.0, 2.0]), shown([6.0, 3.0]), shown([7.0, 4.0]), shown([8.0]), shown([5.5]), shown([])]
    trials.append(shown([0.0], failed=True))
    losses, scores = expected_losses(trials, 2), expected_scores(trials, 2)
    assert losses[:3].tolist() == [2.0, 3.0, 4.0]
    assert 2.0 <= losses[4] < losses[3] <= 8.0
    assert np.isinf(losses[5:]).all()
    assert np.isinf(scores[5:]).all()


def test_normal_scores_share_ties_and_bound_outliers():
    scores = normal_scores(np.array([1.0, 1.0, -1e300, math.inf]))
    assert scores[0] == scores[1]
    assert scores[2] == -scores[3]


# The history ------------------------------------------------------------------------------------------


def test_the_history_as_of_a_moment_is_what_had_been_seen():
    history = History((1, 3, 9))
    for i in range(3):
        history.add(f"t{i}", {"x": i / 3}, np.array([i / 3]))
    history.report("t0", 1, 5.0)
    history.report("t1", 1, 4.0)
    history.report("t0", 3, 6.0)  # worse: its best up to there stays
    history.end("t1", Outcome.FAILED, math.nan, 1)
    history.end("t0", Outcome.COMPLETED, 5.0, 4, 9)
    assert history.shown == [(0, 0), (1, 0), (0, 1), (1, History.FAILED), (0, 2)]
    assert [s.marks for s in history.as_of(2)] == [[5.0], [4.0]]
    assert [s.failed for s in history.as_of(3)] == [False, False]
    assert [s.failed for s in history.as_of(4)] == [False, True]
    assert [s.marks for s in history.as_of(5)] == [[5.0, 5.0, 5.0], [4.0]]
    assert [s.trial_id for s in history.known()] == ["t0", "t1"]


def test_a_later_end_takes_the_place_of_the_earlier():
    history = History((1, 3, 9))
    history.add("t0", {"x": 0.5}, np.array([0.5]))
    history.report("t0", 1, 5.0)
    history.end("t0", Outcome.COMPLETED, 5.0, 1, 9)
    assert history["t0"].marks == [5.0, 5.0, 5.0]
    history.end("t0", Outcome.STOPPED, 2.0, 3)
    assert history["t0"].marks == [5.0, 2.0]


# The searches -------------------------------------------------------------------------------------------


def test_a_trial_on_a_plateau_was_not_cut_short():
    """Where a person or a scheduler stops one, it was."""
    fields = {"early_stopping": {"patience": 2, "min_delta": 0.15}, "searcher": "evolutionary"}
    sim = Simulation(make_experiment("asha", samples=20, epochs=27, **fields), workers=3).run()
    check_sound(sim)
    trials = {t.id: t for t in sim.trials}
    whole = {s.trial_id for s in sim.population.search.history if len(s.marks) == len(levels(27))}
    plateaus = {t for t, trial in trials.items() if trial.reason == "plateau"}
    stopped = {t for t, trial in trials.items() if trial.reason == "asha"}
    assert plateaus
    assert stopped
    assert plateaus <= whole
    assert not stopped & whole


def test_a_round_is_ranked_by_what_its_trials_ended_with():
    """Of coarse_to_fine, whose rounds end between the levels, after 14 of 27 epochs."""
    algorithm = make("coarse_to_fine", {"rounds": 2, "samples": 12}, LINE, seed=0)
    for i in range(12):
        x = algorithm.suggest(f"t{i}")["x"]
        for epoch in range(1, 15):
            algorithm.report(f"t{i}", epoch, 3.0 - x if epoch < 10 else x)  # who leads at epoch 9 loses
        algorithm.observe(f"t{i}", Outcome.COMPLETED, min(3.0 - x, x), 14)
    first = sorted(algorithm.history[:12], key=lambda s: s.config["x"])
    assert algorithm.ranked(algorithm.history[:12]) == first
    assert algorithm.plan_of(12).parent == first[0].trial_id


LEARNERS = ["bayesopt", "hyperopt", "optuna", "bohb", "evolutionary"]


@pytest.mark.parametrize("name", LEARNERS)
def test_no_search_takes_an_early_value_for_a_full_one(name):
    """Three quarters of the trials are stopped after epoch 1, where small x look good; at the end large ones are."""
    algorithm = make(name, {"random_fraction": 0.0} if name == "bohb" else {}, LINE, seed=3)
    for i, x in enumerate(np.random.default_rng(1).random(60)):
        algorithm.replay(f"t{i}", {"x": float(x)})
        last = 27 if i % 4 == 0 else 1
        for epoch in range(1, last + 1):
            algorithm.report(f"t{i}", epoch, 2.0 + x if epoch < 27 else 1.0 - x)
        outcome = Outcome.COMPLETED if last == 27 else Outcome.STOPPED
        algorithm.observe(f"t{i}", outcome, 1.0 - x if last == 27 else 2.0 + x, last)
    assert np.mean([algorithm.suggest(f"p{i}")["x"] for i in range(12)]) > 0.54


@pytest.mark.parametrize("name", ["bayesopt", "hyperopt", "optuna", "evolutionary", "cmaes"])
def test_a_stopped_trial_may_be_expected_to_be_the_best(name):
    """All that trained to the end are poor; the good region was only ever seen for an epoch, where raw losses are
    higher than every full one."""
    algorithm = make(name, {}, LINE, seed=3)
    xs = np.random.default_rng(1).random(90)
    for i, x in enumerate(xs):
        last = 27 if x < 0.5 and i % 2 else 1
        algorithm.replay(f"t{i}", {"x": float(x)})
        for epoch in range(1, last + 1):
            algorithm.report(f"t{i}", epoch, abs(x - 0.8) + 5 / epoch)
        outcome = Outcome.COMPLETED if last == 27 else Outcome.STOPPED
        algorithm.observe(f"t{i}", outcome, abs(x - 0.8) + 5 / last, last)
    assert np.mean([algorithm.suggest(f"p{i}")["x"] > 0.55 for i in range(20)]) > 0.3


@pytest.mark.parametrize("best", [0.3, 0.7])
@pytest.mark.parametrize("name", [*LEARNERS, "cmaes"])
def test_paused_and_running_trials_count_by_what_they_have_shown(name, best):
    """Nothing has ended: what 40 trials have shown at epoch 3 is enough to find where the good ones are."""
    algorithm = make(name, {"random_fraction": 0.0} if name == "bohb" else {}, LINE, seed=3)
    for i, x in enumerate(np.random.default_rng(1).random(40)):
        algorithm.replay(f"t{i}", {"x": float(x)})
        for epoch in range(1, 4):
            algorithm.report(f"t{i}", epoch, abs(x - best) + 1 / epoch)
        if name == "cmaes":  # hears of ends alone
            algorithm.observe(f"t{i}", Outcome.STOPPED, abs(x - best) + 1 / 3, 3)
    found = [algorithm.suggest(f"p{i}")["x"] for i in range(12)]
    assert np.median(np.abs(np.array(found) - best)) < 0.2
