"""Every search algorithm passes the same contract. A new one costs one line in CASES."""

from __future__ import annotations

import dataclasses

import pytest

from raytune_hpo.testing import searchers as contract
from raytune_hpo.testing.searchers import Case

WHOLE = {"rounds": 4, "samples": 15, "growth": 1.0}  # the contract's functions have no epochs
LATE = {"n_initial": 850}  # the last 150 of 1,000 suggestions are the model's; all of them under the mark "large"
CASES = [
    Case("random", budget_s=10),
    Case("random", {"sampler": "sobol"}, budget_s=10),
    Case("grid", {"points": 2}, tiny={"points": 4}, seeded=False, budget_s=10),
    Case("hyperopt", quick={"n_initial": 8}, tiny={"n_initial": 3}, late=LATE, beats_random=True, budget_s=15),
    Case("bayesopt", quick={"n_initial": 8}, tiny={"n_initial": 3}, late=LATE, beats_random=True, budget_s=15),
    Case("bayesopt", {"acquisition": "ucb"}, quick={"n_initial": 8}, tiny={"n_initial": 3}),
    Case("bayesopt", {"surrogate": "forest"}, quick={"n_initial": 8}, tiny={"n_initial": 3}, beats_random=True),
    Case("bayesopt", {"surrogate": "sampled_gp"}, quick={"n_initial": 8}, tiny={"n_initial": 3}, beats_random=True),
    Case("bohb", quick={"min_points": 4}, tiny={"min_points": 2}, beats_random=True, budget_s=20),
    Case(
        "coarse_to_fine",
        WHOLE,
        quick={"rounds": 10, "samples": 12},
        tiny={"rounds": 2, "samples": 3},
        beats_random=True,
    ),
    Case("evolutionary", quick={"n_initial": 8}, tiny={"n_initial": 3}, beats_random=True, budget_s=15),
    Case("cmaes", quick={"n_initial": 8}, tiny={"n_initial": 3}, beats_random=True, budget_s=15),
    Case("optuna", quick={"n_initial": 8}, tiny={"n_initial": 3}, late=LATE, beats_random=True, budget_s=15),
]
# Measured over 20 seeds, log10 regret after 60 trials on branin, mixed_quadratic, conditional (random -0.20,
# -0.20, -0.30): hyperopt -0.95, -0.84, -0.64, wins 0.70 to 0.90; bayesopt -2.1, -2.7, -1.5, wins 0.95;
# with UCB -2.1, -2.8, -1.1, wins 0.90 to 1; evolutionary -1.7, -0.8, -1.1, wins 0.70 to 1; cmaes -1.2, -1.1, -0.7,
# wins 0.75 to 0.95; optuna -1.0, -1.3, -0.6, wins 0.85 to 0.95. The thresholds leave room for other versions of the
# libraries. coarse_to_fine -0.4, -0.9, -0.4, wins 0.55 to 0.90: without epochs it has only its boxes. bayesopt with the
# forest -4.1, -1.8, -1.3, wins 0.90 to 1, with sampled kernels -2.3, -2.7, -1.5, wins 0.95 to 1: the slowest ones, here
# over fewer seeds; bohb -1.3, -0.9, -0.7, wins 0.85 to 0.95.
SEEDS = 20
FEWER = {"hyperopt": 12, "bayesopt": 8, "bayesopt-forest": 6, "bayesopt-sampled_gp": 8, "optuna": 8}
MARGIN = {
    "coarse_to_fine": 0.04,
    "hyperopt": 0.2,
    "bayesopt": 0.7,
    "bohb": 0.2,
    "evolutionary": 0.4,
    "cmaes": 0.2,
    "optuna": 0.15,
}
WIN_RATE = {
    "coarse_to_fine": 0.5,
    "hyperopt": 0.6,
    "bayesopt": 0.85,
    "bayesopt-forest": 0.8,
    "bayesopt-sampled_gp": 0.8,
    "bohb": 0.65,
    "evolutionary": 0.6,
    "cmaes": 0.6,
    "optuna": 0.7,
}


#: Variants of a case that goes through all: 1,000 trials are half a minute of CPU each, for the same bounds.
SHORT = ("bayesopt-ucb", "bayesopt-forest", "bayesopt-sampled_gp")
#: What another acquisition of the same model takes no part in.
OF_THE_MODEL = (
    contract.check_mirror,
    contract.check_correction,
    contract.check_all_failed,
    contract.check_start_points,
    contract.check_exhaustion,
    contract.check_no_duplicates,
)
LEFT_OUT = {
    *((name, contract.check_thousand_trials) for name in SHORT),
    *(("bayesopt-ucb", check) for check in OF_THE_MODEL),
}
PAIRS = [(case, check) for case in CASES for check in contract.CHECKS if (str(case), check) not in LEFT_OUT]


@pytest.mark.parametrize(("case", "check"), PAIRS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_contract(case, check):
    check(case)


@pytest.mark.large
@pytest.mark.parametrize("case", [c for c in CASES if c.late], ids=str)
def test_a_thousand_trials_of_the_model(case):
    contract.check_thousand_trials(dataclasses.replace(case, late={}, budget_s=60))


@pytest.mark.parametrize("how", ["state", "replay"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_restore(case, how):
    contract.check_restore(case, how)


@pytest.mark.parametrize("function", contract.FUNCTIONS)
@pytest.mark.parametrize("case", [c for c in CASES if c.beats_random], ids=str)
def test_beats_random(case, function):
    win_rate = WIN_RATE.get(str(case), WIN_RATE[case.name])
    contract.check_beats_random(case, function, MARGIN[case.name], win_rate, FEWER.get(str(case), SEEDS))
