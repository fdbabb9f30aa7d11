"""SamplerSearch: Optuna's samplers, and a user's own, as objects over our space."""

from __future__ import annotations

import copy
import logging
import math

import numpy as np
import pytest

from raytune_hpo import ExperimentError, Float
from raytune_hpo.objective import Objective
from raytune_hpo.search.optuna_sampler import SamplerSearch
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import config_key
from raytune_hpo.states import Outcome
from raytune_hpo.testing.searchers import tell
from raytune_hpo.testing.spaces import nasty_space, nasty_value, six_configs

optuna = pytest.importorskip("optuna")
samplers = optuna.samplers
TrialState = optuna.trial.TrialState
LINE = SearchSpace({"x": Float(0.0, 1.0)})
LOSS = Objective("loss", "min")


class Middle(samplers.BaseSampler):
    """A sampler of a user: the middle of everything, a little further on with each trial that is told."""

    def __init__(self):
        self.told = 0

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        if isinstance(distribution, optuna.distributions.CategoricalDistribution):
            return distribution.choices[self.told % len(distribution.choices)]
        middle = (distribution.low + distribution.high) / 2
        if isinstance(distribution, optuna.distributions.IntDistribution):
            return int(middle)
        return middle + 0.001 * self.told * (distribution.high - middle)

    def after_trial(self, study, trial, state, values):
        self.told += 1


SAMPLERS = {
    "tpe": lambda: samplers.TPESampler(seed=1, n_startup_trials=5),
    "random": lambda: samplers.RandomSampler(seed=1),
    "own": Middle,
}


def play(search, first, last, value=nasty_value, lag=3):
    """Trials first..last-1, each told `lag` later; the calls that were made."""
    calls = []
    for number in range(first, last):
        config = search.suggest(f"t{number}")
        calls.append(("suggest", f"t{number}", config))
        for epoch in (1, 2):
            search.report(f"t{number}", epoch, value(config) + 1 / epoch)
            calls.append(("report", f"t{number}", epoch, value(config) + 1 / epoch))
        late = number - lag
        if late >= first:
            ended = calls[[c[:2] for c in calls].index(("suggest", f"t{late}"))][2]
            outcome = list(Outcome)[late % 4]
            calls.append(("observe", f"t{late}", outcome, value(ended) if outcome.eligible else None, 2))
            search.observe(*calls[-1][1:])
    return calls


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_config_is_of_the_space_and_a_replay_equals(name):
    space = nasty_space()
    first = SamplerSearch(SAMPLERS[name](), space, LOSS)
    calls = play(first, 0, 25)
    for call in calls:
        if call[0] == "suggest":
            space.check(call[2])
    assert len({"momentum" in c[2]["optimizer"] for c in calls if c[0] == "suggest"}) == 2
    second = SamplerSearch(SAMPLERS[name](), space, LOSS)
    for kind, *arguments in calls:
        getattr(second, "replay" if kind == "suggest" else kind)(*arguments)
    assert [second.suggest(f"m{i}") for i in range(5)] == [first.suggest(f"m{i}") for i in range(5)]


def test_a_replay_of_something_else_is_one_clear_error():
    first = SamplerSearch(samplers.RandomSampler(seed=1), LINE, LOSS)
    config = first.suggest("t0")
    with pytest.raises(ExperimentError, match=r"suggests something else.*t0.*same options and seed"):
        SamplerSearch(samplers.RandomSampler(seed=2), LINE, LOSS).replay("t0", config)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_it_learns_which_way_is_better(mode):
    search = SamplerSearch(samplers.TPESampler(seed=1, n_startup_trials=5), LINE, Objective("score", mode))
    found = []
    for number in range(60):
        found.append(search.suggest(f"t{number}")["x"])
        tell(search, f"t{number}", found[-1])
    assert (np.mean(found[30:]) < 0.25) == (mode == "min")
    assert (np.mean(found[30:]) > 0.75) == (mode == "max")


def test_how_trials_end_in_the_study():
    search = SamplerSearch(samplers.RandomSampler(seed=1), LINE, LOSS)
    for number in range(6):
        search.suggest(f"t{number}")
    search.report("t1", 1, 3.0)
    search.report("t1", 2, 4.0)
    ends = [
        (Outcome.COMPLETED, 1.0, TrialState.COMPLETE, 1.0),
        (Outcome.STOPPED, 3.0, TrialState.PRUNED, 4.0),
        (Outcome.STOPPED, 2.0, TrialState.PRUNED, 2.0),  # it never reported
        (Outcome.STOPPED, None, TrialState.FAIL, None),
        (Outcome.FAILED, None, TrialState.FAIL, None),
        (Outcome.DIVERGED, math.nan, TrialState.FAIL, None),
    ]
    for number, (outcome, value, _, _) in enumerate(ends):
        search.observe(f"t{number}", outcome, value, 5)
    trials = search.study.get_trials()
    assert [(t.state, t.value) for t in trials] == [e[2:] for e in ends]
    assert trials[1].intermediate_values == {1: 3.0, 2: 4.0}


def test_every_run_begins_with_the_sampler_as_it_was_given():
    given = samplers.RandomSampler(seed=1)
    untouched = copy.deepcopy(given)
    streams = [[SamplerSearch(given, LINE, LOSS).suggest(f"t{i}") for i in range(3)] for _ in range(2)]
    assert streams[0] == streams[1]
    assert SamplerSearch(untouched, LINE, LOSS).suggest("t0") == streams[0][0]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_sampler_that_has_seen_everything_ends_the_search():
    search = SamplerSearch(samplers.BruteForceSampler(seed=0), six_configs(), LOSS)
    keys = []
    while (config := search.suggest(f"t{len(keys)}")) is not None:
        tell(search, f"t{len(keys)}", 1.0)
        keys.append(config_key(config))
    assert search.exhausted
    assert len(keys) == len(set(keys)) == 6


def test_optuna_says_nothing(caplog, recwarn):
    logging.getLogger("optuna").propagate = True
    try:
        play(SamplerSearch(samplers.TPESampler(seed=1, n_startup_trials=2), nasty_space(), LOSS), 0, 10)
    finally:
        logging.getLogger("optuna").propagate = False
    assert not caplog.records
    assert not [w for w in recwarn if "optuna" in str(w.filename)]


def test_what_is_no_sampler_is_refused():
    for wrong in (object(), samplers.RandomSampler, "tpe"):
        with pytest.raises(ExperimentError, match="BaseSampler"):
            SamplerSearch(wrong, LINE, LOSS)


def test_one_without_a_seed_goes_on_after_a_restart() -> None:
    """It cannot be asked again for what it had said; it is given that, and learns from it."""
    first = SamplerSearch(samplers.TPESampler(n_startup_trials=3), nasty_space(), LOSS)
    configs = [first.suggest(f"t{i}") for i in range(6)]
    again = SamplerSearch(samplers.TPESampler(n_startup_trials=3), nasty_space(), LOSS)
    for i, config in enumerate(configs):
        assert config is not None
        again.replay(f"t{i}", config)
        if i < 4:
            tell(again, f"t{i}", nasty_value(config))
    assert [t.number for t in again.study.trials] == list(range(6))
    nasty_space().check(again.suggest("t6") or {})
