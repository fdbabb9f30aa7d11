"""OptunaSearch: a study that is a function of the history, native distributions, silence, one error without Optuna."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from raytune_hpo.errors import ExperimentError
from raytune_hpo.search import optuna_search
from raytune_hpo.search.hyperopt_search import from_label
from raytune_hpo.search.optuna_search import coordinate, distribution
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.parameters import Choice, Float, Int
from raytune_hpo.testing.searchers import make, tell

SPACE = SearchSpace(
    {
        "lr": Float(1e-5, 1.0, scale="log"),
        "layers": Int(1, 4),
        "kind": Choice(["a", "b", "c"]),
        "extra": Float(0.0, 0.99, scale="reverse_log").when("kind", "==", "a"),
    }
)


def built(**options):
    return make("optuna", {"n_initial": 5, **options}, SPACE, mode="min", seed=3)


def value(config):
    failed = config["kind"] == "c" and config["layers"] == 1
    return None if failed else abs(np.log10(config["lr"]) + 3) + config["layers"] + config.get("extra", 0.5)


def play(algorithm, first, last, lag=5):
    """Every third result comes late."""
    for number in range(first, last):
        algorithm.suggest(f"t{number}")
        for told in ([number] if number % 3 else []) + (
            [number - lag] if number >= lag and (number - lag) % 3 == 0 else []
        ):
            tell(algorithm, f"t{told}", value(algorithm.history[told].config))
    return algorithm


def shown(algorithm):
    """What the study holds, but for the trial that is asked for."""
    algorithm.propose(len(algorithm.history), 0, np.random.default_rng(0))
    trials = algorithm._reflect().study.get_trials(deepcopy=False)[1:]
    return [(t.state, t.values, t.params) for t in trials]


def copied(algorithm, **options):
    other = built(**options)
    other.load_state_dict(json.loads(json.dumps(algorithm.state_dict())))
    return other


@pytest.mark.parametrize("window", [50, 200])
def test_tpe_sees_the_history_however_it_came_about(window, monkeypatch):
    monkeypatch.setattr(optuna_search, "WINDOW", window)
    monkeypatch.setattr(optuna_search, "KEPT_BEST", 10)
    monkeypatch.setattr(optuna_search, "KEPT_RECENT", 15)
    algorithm = play(built(), 0, 75)
    trials = shown(algorithm)
    assert trials == shown(copied(algorithm))
    assert len(trials) == (75 if window == 200 else 75 - 50 + 10 + 15)
    assert [t[0] for t in trials].count(TrialState.RUNNING) == len(algorithm.pending()) > 0
    best = min(s.value for s in algorithm.observed() if not s.failed)
    assert min(t[1][0] for t in trials if t[0] == TrialState.COMPLETE) == best
    if window == 200:
        for (state, values, params), s in zip(trials, algorithm.history, strict=True):
            assert state == (TrialState.RUNNING if s.pending else TrialState.COMPLETE)
            assert values == (None if s.pending else [float("inf")] if s.failed else [s.value])
            assert set(params) == set(SPACE.values(s.config))


@pytest.mark.parametrize("sampler", ["cmaes", "nsgaii"])
def test_samplers_with_notes_go_on_after_a_restart(sampler):
    options = {"sampler": sampler, "population": 6}
    algorithm = play(built(**options), 0, 40)
    resumed = copied(algorithm, **options)
    trials = shown(algorithm)
    assert trials == shown(resumed)
    assert len(trials) == len(algorithm.observed()) < len(algorithm.history)
    notes = algorithm._reflect().study.get_trials(deepcopy=False)[-1].system_attrs
    assert max(v for k, v in notes.items() if k.endswith("generation")) >= 3
    assert play(algorithm, 40, 50).state_dict() == play(resumed, 40, 50).state_dict()


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "cmaes"])
def test_a_corrected_result_reaches_the_study(sampler):
    algorithm = play(built(sampler=sampler), 0, 20)
    shown(algorithm)
    tell(algorithm, "t1", -7.0)
    assert [-7.0] in [values for _, values, _ in shown(algorithm)]


@pytest.mark.parametrize("sampler", ["cmaes", "nsgaii"])
def test_the_other_samplers_search_too(sampler):
    space = SearchSpace({"x": Float(0, 1), "y": Float(0, 1)})
    algorithm = make("optuna", {"sampler": sampler, "population": 6}, space, mode="max", seed=0)
    for number in range(90):
        config = algorithm.suggest(f"t{number}")
        tell(algorithm, f"t{number}", -((config["x"] - 0.3) ** 2) - (config["y"] - 0.7) ** 2)
    losses = [s.value for s in algorithm.history]
    assert np.median(losses[60:]) < 0.5 * np.median(losses[:10])


@pytest.mark.parametrize(
    "parameter",
    [
        Float(-1, 2),
        Float(1e-5, 1, scale="log"),
        Float(0.5, 0.999, scale="reverse_log"),
        Int(-3, 9, step=3),
        Int(16, 256, scale="power_of_two"),
        Int(1, 500, scale="log"),
        Choice(["a", [1], None]),
        Choice(["s", "m", "l"], ordered=True),
    ],
    ids=str,
)
def test_distributions_are_native_and_invertible(parameter):
    dist = distribution(parameter)
    assert isinstance(dist, optuna.distributions.CategoricalDistribution) == (
        isinstance(parameter, Choice) and not parameter.ordered
    )
    if not isinstance(parameter, Choice):
        assert dist.log == (parameter.scale in ("log", "reverse_log"))
    for u in [0.0, *np.random.default_rng(0).random(50).tolist(), 1 - 1e-16]:
        given = parameter.from_unit(u)
        x = coordinate(parameter, given)
        assert dist._contains(dist.to_internal_repr(x))
        again = from_label(parameter, dist.to_external_repr(dist.to_internal_repr(x)))
        assert again == (pytest.approx(given, rel=1e-12, abs=1e-12) if isinstance(given, float) else given)
        assert type(again) is type(given)


def test_optuna_is_silent_but_only_inside(caplog):
    caplog.set_level(logging.INFO, "optuna")
    play(built(), 0, 12)
    assert caplog.messages == []
    optuna.create_study()
    assert "new study" in caplog.text


def test_without_optuna_one_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ExperimentError, match=r'pip install "raytune-hpo\[optuna\]"') as error:
        built()
    assert error.value.field == "searcher"
