"""Floats with a step: every searcher and scheduler keeps to their values, and is told what was trained."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from raytune_hpo import Choice, Experiment, ExperimentError, Float
from raytune_hpo.objective import Objective
from raytune_hpo.schedulers.explore import explore
from raytune_hpo.schedulers.pb2 import snap
from raytune_hpo.search import SEARCHERS, build
from raytune_hpo.search.hyperopt_search import from_label, to_label
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.grid import grid, grid_size, number_of_configs
from raytune_hpo.states import Outcome
from raytune_hpo.testing.schedulers import check
from raytune_hpo.testing.simulation import Simulation, make_experiment
from tests.test_parameters import STEPS, every_value

SPACE = SearchSpace(
    {
        "a": Float(0.0, 1.0, step=0.05),
        "b": Float(0.001, 0.1, scale="log", step=0.001),
        "c": Float(0.5, 0.99, scale="reverse_log", step=0.01),
        "d": Choice([1, 2]),
    }
)
QUICK: dict[str, dict[str, Any]] = {
    "bohb": {"min_points": 4},
    "grid": {"points": 3},
    "coarse_to_fine": {"rounds": 2, "samples": 12, "growth": 1.0},
    "random": {"sampler": "sobol"},
    **{name: {"n_initial": 8} for name in ("hyperopt", "bayesopt", "evolutionary", "cmaes", "optuna")},
}


@pytest.mark.parametrize("name", [name for name in SEARCHERS if name != "repeat"])
def test_a_searcher_keeps_to_the_grid(name: str) -> None:
    if name in ("hyperopt", "optuna"):
        pytest.importorskip(name)
    search = build(name, QUICK[name], SPACE, Objective("loss", "min"), max_epochs=9, seed=0)
    for n in range(20):
        config = search.suggest(f"t{n}")
        assert config is not None
        SPACE.check(config)
        for path in "abc":
            parameter = SPACE.parameters[path]
            assert isinstance(parameter, Float)
            assert config[path] == parameter.recorded(config[path])
        assert json.loads(json.dumps(config)) == config
        search.observe(f"t{n}", Outcome.COMPLETED, abs(config["a"] - 0.4) + config["b"], 9)


@pytest.mark.parametrize("parameter", STEPS, ids=str)
def test_libraries_are_told_what_was_trained(parameter: Float) -> None:
    for value in every_value(parameter):
        assert from_label(parameter, to_label(parameter, value)) == value
    optuna = pytest.importorskip("optuna")
    from raytune_hpo.search.optuna_search import coordinate, distribution

    asked_for = distribution(parameter)
    assert isinstance(asked_for, optuna.distributions.IntDistribution)
    for value in every_value(parameter):
        told = coordinate(parameter, value)
        assert asked_for._contains(asked_for.to_internal_repr(told))
        assert from_label(parameter, told) == value


def test_a_grid_has_all_of_few_values() -> None:
    space = SearchSpace({"a": Float(0.0, 1.0, step=0.25), "b": Float(0.0, 1.0, step=0.01)})
    assert grid_size(space, 5, 1000) == 25
    assert {c["b"] for c in grid(space, 5)} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert number_of_configs(space) == 5 * 101


@pytest.mark.parametrize("scheduler", [{"name": "pbt", "interval": 2}, {"name": "pb2", "interval": 2}], ids=str)
def test_populations_keep_to_the_grid(scheduler: Any) -> None:
    rng = np.random.default_rng(0)
    config = SPACE.sample(rng)
    for _ in range(300):
        moved = explore(SPACE, config, {"a", "b", "c"}, rng, resample_probability=0.1, perturbation=0.01)
        SPACE.check(moved)
        assert any(moved[path] != config[path] for path in "abc")
        config = moved
    linear = SPACE.parameters["a"]
    assert snap(np.array([[0.3]]), [linear])[0, 0] == linear.to_unit(linear.from_unit(0.3))
    made = make_experiment(scheduler, samples=6, epochs=8, seed=1)
    model = {"units": 8, "kind": "a"}
    space = {"x": Float(0.0, 1.0, step=0.1), "k": SPACE.parameters["b"], "model": model}
    sim = check(Simulation(made.override({"space": space, "scheduler": {**scheduler, "mutate": ["x", "k"]}})).run())
    assert any(trial.generation for trial in sim.population.trials.values())


def test_what_needs_a_continuous_number_refuses_steps() -> None:
    def refused(lr: Float, **given: Any) -> str:
        with pytest.raises(ExperimentError) as error:
            Experiment(name="x", task="digits", space={"lr": lr}, **given)
        return str(error.value)

    stepped = Float(0.01, 0.1, step=0.01)
    assert "'lr': has values 0.01 apart, between which no gradient moves it" in refused(
        stepped, hypergradient={"parameters": ["lr"]}
    )
    assert "to move; one with a step stays" in refused(stepped, hypergradient={})
    assert "needs lr as a Float of the space without a step" in refused(stepped, lr_range="auto")
