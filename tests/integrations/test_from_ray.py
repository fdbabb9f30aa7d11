"""Ray Tune's own objects, as a script builds them, become ours; what cannot is named."""

from __future__ import annotations

import datetime
import random
import warnings

import numpy as np
import pytest
from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    ResourceChangingScheduler,
)
from ray.tune.schedulers.pb2 import PB2
from ray.tune.search import ConcurrencyLimiter, Repeater
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.hyperopt import HyperOptSearch
from ray.tune.search.optuna import OptunaSearch
from ray.tune.stopper import CombinedStopper, MaximumIterationStopper, TimeoutStopper

from raytune_hpo import Choice, ExperimentError, Float, Int, from_ray, run
from raytune_hpo.integrations.ray_tune.task import RayTask
from raytune_hpo.space.spelled import spelled

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def train(config):
    for step in range(config.get("steps", 5)):
        tune.report({"loss": config["lr"] * step + config.get("double", 0), "accuracy": step / 10})


def made(param_space=None, stop=None, run_config=None, **tune_config):
    space = {"lr": tune.loguniform(1e-4, 1e-1)} if param_space is None else param_space
    stop = {"training_iteration": 9} if stop is None else stop
    settings = {"metric": "loss", "mode": "min", **tune_config}
    return from_ray(
        train,
        param_space=space,
        tune_config=tune.TuneConfig(**settings),
        run_config=tune.RunConfig(name="from ray", stop=stop, **(run_config or {})),
    )


SPACES = {
    "uniform": (tune.uniform(0.1, 2.0), Float(0.1, 2.0)),
    "loguniform": (tune.loguniform(1e-4, 0.1), Float(1e-4, 0.1, "log")),
    "quniform": (tune.quniform(0.0, 1.0, 0.25), Float(0.0, 1.0, step=0.25)),
    "whole quniform": (tune.quniform(2, 10, 2), Int(2, 10, step=2)),
    "randint": (tune.randint(1, 10), Int(1, 9)),
    "qrandint": (tune.qrandint(2, 10, 4), Int(2, 10, step=4)),
    "lograndint": (tune.lograndint(1, 100), Int(1, 99, "log")),
    "choice": (tune.choice(["a", None, 3]), Choice(["a", None, 3])),
    "numbers of NumPy's": (tune.choice(list(np.array([1, 2]))), Choice([1, 2])),
    "a choice of one": (tune.choice(["a"]), "a"),
    "a grid": (tune.grid_search([1, 2]), Choice([1, 2])),
    "a constant": (5, 5),
    "a nested parameter": ({"deep": {"x": tune.uniform(0, 1)}}, {"deep": {"x": Float(0.0, 1.0)}}),
}


@pytest.mark.parametrize(("theirs", "ours"), SPACES.values(), ids=SPACES)
def test_spaces(theirs, ours):
    found = made({"x": theirs, "lr": tune.uniform(0, 1)})
    assert found.space["x"] == ours


def test_a_grid_is_trained_as_ray_does_it():
    """Each combination with each of num_samples draws of the rest."""
    found = made(
        {"a": tune.grid_search([1, 2]), "b": tune.grid_search(["x", "y"]), "lr": tune.uniform(0, 1)}, num_samples=3
    )
    assert found.num_samples == len(found.start_points) == 12
    assert sorted((p["a"], p["b"]) for p in found.start_points) == sorted(
        (a, b) for a in (1, 2) for b in "xy" for _ in range(3)
    )
    assert len({p["lr"] for p in found.start_points}) == 12
    assert made({"a": tune.grid_search([1, 2]), "lr": 0.1}).searcher == "grid"
    nested = made({"lr": 0.1, "in": {"a": tune.grid_search([1, 2]), "b": tune.uniform(0, 1)}})
    assert nested.searcher == "random"
    assert [p["in"]["a"] for p in nested.start_points] == [1, 2]


def test_options_that_json_would_change_reach_the_trainable_as_they_are(tmp_path):
    seen = []

    def look(config):
        seen.append(config)
        tune.report({"loss": 1.0})

    space = {
        "kernel": tune.grid_search([(3, 3), (5, 5)]),
        "array": tune.choice([np.arange(3), np.arange(4)]),
        "call": tune.choice([lambda x: x, lambda x: 2 * x]),
        "b": tune.sample_from(lambda config: config["a"] + 1),
        "a": tune.sample_from(lambda config: len(config["kernel"])),
        "held": {"list": [object()]},
        "with.dot": tune.sample_from(lambda config: 7),
    }
    experiment = from_ray(
        look,
        param_space=space,
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(storage_path=str(tmp_path)),
        max_epochs=1,
        executor="inline",
    )
    run(experiment, quiet=True)
    assert sorted(c["kernel"] for c in seen) == [(3, 3), (5, 5)]
    for config in seen:
        assert isinstance(config["array"], np.ndarray)
        assert callable(config["call"])
    assert seen[0]["held"]["list"] is not seen[1]["held"]["list"]
    for config in seen:
        assert (config["a"], config["b"], config["with.dot"]) == (2, 3, 7)


SCHEDULERS = {
    "none": (lambda: None, "fifo"),
    "fifo": (FIFOScheduler, "fifo"),
    "asha": (
        lambda: AsyncHyperBandScheduler(grace_period=2, reduction_factor=4, max_t=50),
        {"name": "asha", "grace_period": 2, "reduction_factor": 4, "brackets": 1},
    ),
    "brackets": (
        lambda: AsyncHyperBandScheduler(brackets=2, reduction_factor=3),
        {"name": "asha", "grace_period": 1, "reduction_factor": 3, "brackets": 2},
    ),
    "hyperband": (lambda: HyperBandScheduler(max_t=27), {"name": "hyperband", "reduction_factor": 3}),
    "median": (
        lambda: MedianStoppingRule(time_attr="training_iteration", grace_period=3, min_samples_required=2),
        {"name": "median", "grace_period": 3, "min_samples": 2},
    ),
    "pbt": (
        lambda: PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=2,
            hyperparam_mutations={"lr": tune.uniform(1e-3, 1.0)},
        ),
        {"name": "pbt", "interval": 2, "quantile": 0.25, "resample_probability": 0.25, "mutate": ["lr"]},
    ),
    "pb2": (
        lambda: PB2(time_attr="training_iteration", perturbation_interval=2, hyperparam_bounds={"lr": [1e-4, 0.1]}),
        {"name": "pb2", "interval": 2, "quantile": 0.25, "resample_probability": 0, "mutate": ["lr"]},
    ),
}


@pytest.mark.parametrize(("theirs", "ours"), SCHEDULERS.values(), ids=SCHEDULERS)
def test_schedulers(theirs, ours):
    assert made(scheduler=theirs(), num_samples=4).scheduler == ours


def test_how_long_a_trial_runs_is_the_least_of_what_was_said():
    asha = AsyncHyperBandScheduler(max_t=50)
    assert made(scheduler=asha).max_epochs == 9
    assert made(scheduler=asha, stop={"training_iteration": 9999}).max_epochs == 50
    assert made(stop=MaximumIterationStopper(7)).max_epochs == 7
    found = made(stop=CombinedStopper(MaximumIterationStopper(7), TimeoutStopper(30)))
    assert (found.max_epochs, found.time_budget_s) == (7, 30.0)


def test_a_population_explores_what_the_space_holds_as_a_constant():
    pbt = PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=2, hyperparam_mutations={"lr": [0.1, 0.01, 0.2]}
    )
    found = made({"lr": 0.01}, scheduler=pbt, num_samples=4)
    assert found.space["lr"] == Choice([0.1, 0.01, 0.2])
    assert list(found.start_points) == [{"lr": 0.01}] * 4
    more = made({"lr": 0.01, "width": tune.randint(1, 1000)}, scheduler=pbt, num_samples=4)
    assert {p["lr"] for p in more.start_points} == {0.01}
    assert len({p["width"] for p in more.start_points}) == 4


def test_searchers():
    assert made().searcher == "random"
    assert made(search_alg=OptunaSearch()).searcher == "optuna"
    limited = made(search_alg=ConcurrencyLimiter(HyperOptSearch(n_initial_points=7), max_concurrent=3))
    assert (limited.searcher, limited.max_concurrent) == ({"name": "hyperopt", "n_initial": 7}, 3)
    points = [{"lr": 0.01}]
    assert list(made(search_alg=BasicVariantGenerator(points_to_evaluate=points)).start_points) == points
    assert list(made(search_alg=HyperOptSearch(points_to_evaluate=points)).start_points) == points


def test_the_rest():
    found = made(
        num_samples=-1,
        time_budget_s=datetime.timedelta(minutes=2),
        max_concurrent_trials=3,
        run_config={
            "failure_config": tune.FailureConfig(max_failures=2),
            "checkpoint_config": tune.CheckpointConfig(num_to_keep=3, checkpoint_frequency=2),
            "storage_path": "/tmp/elsewhere",
        },
    )
    assert (found.name, found.storage, found.time_budget_s) == ("from_ray", "/tmp/elsewhere", 120.0)
    assert (found.max_concurrent, found.max_failures) == (3, 2)
    assert (found.resolved.checkpoint.keep, found.resolved.checkpoint.every) == (3, 2)
    assert found.num_samples >= 100_000
    with_more = from_ray(
        tune.with_resources(train, {"cpu": 2}),
        param_space={"lr": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        max_epochs=4,
        searcher="bayesopt",
    )
    assert (with_more.resources.cpus, with_more.searcher, with_more.max_epochs) == (2, "bayesopt", 4)
    assert with_more.name == "train"


def test_a_tuner_itself(tmp_path):
    """Its parts are Ray's own: if they move, this is the first to say so."""
    tuner = tune.Tuner(
        train,
        param_space={"lr": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(metric="loss", mode="max", num_samples=3),
        run_config=tune.RunConfig(name="mine", stop={"training_iteration": 4}, storage_path=str(tmp_path)),
    )
    found = from_ray(tuner)
    assert (found.task, found.metric, found.mode) == (train, "loss", "max")
    assert (found.num_samples, found.max_epochs, found.name) == (3, 4, "mine")


def sampled(function):
    return {"lr": tune.uniform(0, 1), "double": tune.sample_from(function)}


def test_computed_parameters_and_stop_conditions_run(tmp_path):
    space = {**sampled(lambda config: 2 * config["lr"]), "steps": 8, "name": np.float64}
    for stop in ({"accuracy": 0.3, "training_iteration": 6}, lambda trial, result: result["accuracy"] >= 0.3):
        experiment = from_ray(
            train,
            param_space=space,
            tune_config=tune.TuneConfig(metric="loss", mode="min", num_samples=2),
            run_config=tune.RunConfig(stop=stop, storage_path=str(tmp_path)),
            max_epochs=6,
            executor="inline",
        )
        assert isinstance(experiment.task, RayTask)
        results = run(experiment, quiet=True)
        trials = list(results.ledger.trials.values())
        assert [t.epoch for t in trials] == [4, 4]
        assert [t.status.value for t in trials] == ["completed"] * 2
        for trial in trials:
            assert trial.best == pytest.approx(2 * trial.config["lr"])


LOW = tune.uniform(0, 1)
REFUSED = {
    "a draw": (
        lambda: made(sampled(random.random)),
        "param_space.double = 'tune.sample_from': draws at random",
    ),
    "a draw of NumPy's": (lambda: made(sampled(lambda config: np.random.rand())), "draws at random: give it a Float"),
    "a computed one that fails": (lambda: made(sampled(lambda config: config["no"])), "computed from the config alone"),
    "no bounds": (lambda: made({"lr": tune.randn(0, 1)}), "ours have bounds, such as Float(-2.0, 2.0)"),
    "a parameter in an option": (
        lambda: made({"lr": LOW, "o": tune.choice([{"a": tune.uniform(0, 1)}, 2])}),
        "param_space.o = 'tune.choice': has a parameter in an option",
    ),
    "no length": (lambda: made(stop={}), "says nowhere how long a trial may run: from_ray(..., max_epochs=N)"),
    "no metric": (lambda: made(metric=None, mode=None), "names no metric"),
    "seconds of a trial": (lambda: made(stop={"time_total_s": 5}), "stop.time_total_s = 5: of a trial has no equal"),
    "another time": (
        lambda: made(scheduler=AsyncHyperBandScheduler(time_attr="time_total_s")),
        "scheduler.time_attr = 'time_total_s': the time of a scheduler is the epoch here",
    ),
    "changing resources": (lambda: made(scheduler=ResourceChangingScheduler()), "has no equal here"),
    "a function that explores": (
        lambda: made(
            {"a": 1},
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration", hyperparam_mutations={"lr": random.random}
            ),
        ),
        "hyperparam_mutations.lr = 'a function': a function says no range",
    ),
    "an explore function": (
        lambda: made(
            scheduler=PopulationBasedTraining(
                time_attr="training_iteration",
                hyperparam_mutations={"lr": tune.uniform(0.1, 1)},
                custom_explore_fn=lambda config: config,
            )
        ),
        "scheduler.custom_explore_fn",
    ),
    "a parameter in a list": (
        lambda: made({"lr": LOW, "layers": [tune.choice([1, 2]), 3]}),
        "has a parameter in a list",
    ),
    "a draw that comes out alike": (lambda: made(sampled(lambda _: random.choice([1, 1]))), "draws at random"),
    "a grid without an end": (lambda: made({"a": tune.grid_search([1, 2]), "lr": LOW}, num_samples=-1), "has no end"),
    "repeats": (lambda: made(search_alg=Repeater(OptunaSearch(), repeat=3)), "replicate=k does so for the best"),
    "a searcher's own space": (
        lambda: made(search_alg=OptunaSearch(space=lambda trial: {"x": 1}, metric="loss", mode="min")),
        "define-by-run space: raytune_hpo.from_optuna",
    ),
    "a grid with a searcher": (
        lambda: made({"lr": LOW, "a": tune.grid_search([1, 2])}, search_alg=OptunaSearch()),
        "goes with the searcher that draws at random alone",
    ),
}


@pytest.mark.parametrize(("build", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_named(build, said):
    with pytest.raises(ExperimentError) as found:
        build()
    assert said in str(found.value)
    assert "\n" not in str(found.value)


def test_what_is_left_out_is_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        made(
            trial_name_creator=str,
            run_config={
                "log_to_file": True,
                "checkpoint_config": tune.CheckpointConfig(num_to_keep=1, checkpoint_score_attribute="loss"),
            },
        )
    (said,) = [str(w.message) for w in caught if w.category is UserWarning]
    assert said.startswith(
        "left out, for it has no meaning here: tune_config.trial_name_creator, run_config.log_to_file"
    )


def test_spelled():
    assert spelled("x", 'Float(1e-5, 1e-2, scale="log")') == Float(1e-5, 1e-2, "log")
    assert spelled("x", "Choice(['a', None])") == Choice(["a", None])
    for text in (
        "Float(1, open('x'))",
        "__import__('os')",
        "Float",
        "5",
        "Float(1, 2).when()",
        "Float(",
        "Float(**{})",
        "x.Float(1, 2)",
    ):
        with pytest.raises(ExperimentError):
            spelled("x", text)
