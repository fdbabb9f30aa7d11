"""Scheduler names and options: a wrong one is one error that names the field; the right ones reach Ray's objects."""

from __future__ import annotations

import dataclasses

import pytest

from raytune_hpo import Choice, Experiment, ExperimentError, Float, Int
from raytune_hpo.schedulers import SCHEDULERS, scheduler_class
from raytune_hpo.testing.simulation import POPULATION_BASED


def trainable(config):
    """Never called."""


SPACE = {"lr": Float(1e-4, 1.0, "log"), "units": Int(1, 9), "kind": Choice(["a", "b"])}


def make(scheduler, **fields):
    values = {"task": trainable, "space": SPACE, "metric": "value", "mode": "max", "max_epochs": 27, **fields}
    return Experiment(name="x", scheduler=scheduler, **values)


@pytest.mark.parametrize(
    ("scheduler", "field", "message"),
    [
        ("ahsa", "scheduler", "'asha'"),
        ("", "scheduler", "must be one of"),
        (None, "scheduler", "must be one of"),
        (3, "scheduler", "must be one of"),
        ({}, "scheduler", "name"),
        ({"name": "bohb"}, "scheduler.name", "must be one of"),
        ({"name": "asha", "max_t": 3}, "scheduler.max_t", "no such option"),
        ({"name": "asha", "grace": 3}, "scheduler.grace", "'grace_period'"),
        ({"name": "fifo", "grace_period": 3}, "scheduler.grace_period", "none"),
        ({"name": "asha", "grace_period": 0}, "scheduler.grace_period", "1"),
        ({"name": "asha", "grace_period": 1.5}, "scheduler.grace_period", "integer"),
        ({"name": "asha", "grace_period": True}, "scheduler.grace_period", "integer"),
        ({"name": "asha", "grace_period": 28}, "scheduler.grace_period", "at most max_epochs = 27"),
        ({"name": "median", "grace_period": 28}, "scheduler.grace_period", "at most max_epochs = 27"),
        ({"name": "asha", "reduction_factor": 1}, "scheduler.reduction_factor", "1"),
        ({"name": "asha", "reduction_factor": "3"}, "scheduler.reduction_factor", "number"),
        ({"name": "asha", "reduction_factor": float("nan")}, "scheduler.reduction_factor", "number"),
        ({"name": "asha", "brackets": 11}, "scheduler.brackets", "10"),
        ({"name": "hyperband", "reduction_factor": 1.5}, "scheduler.reduction_factor", "2"),
        ({"name": "median", "min_samples": 0}, "scheduler.min_samples", "1"),
        ({"name": "pbt", "mutate": ["lr"], "quantile": 0}, "scheduler.quantile", "0"),
        ({"name": "pbt", "mutate": ["lr"], "quantile": 0.6}, "scheduler.quantile", "0.5"),
        ({"name": "pbt", "mutate": ["lr"], "resample_probability": 1.1}, "scheduler.resample_probability", "1"),
        ({"name": "pbt", "mutate": ["lr"], "perturbation": 0}, "scheduler.perturbation", "0"),
        ({"name": "pbt", "mutate": ["lr"], "interval": 0}, "scheduler.interval", "1"),
        ({"name": "pbt", "mutate": ["lr"], "interval": 28}, "scheduler.interval", "at most max_epochs = 27"),
        ({"name": "pbt", "mutate": ["lr", "momentum"]}, "scheduler.mutate", "lr, units, kind"),
        ({"name": "pbt", "mutate": []}, "scheduler.mutate", "at least one"),
        ({"name": "pbt", "mutate": "lr"}, "scheduler.mutate", "list of names"),
        ({"name": "pbt", "mutate": [1]}, "scheduler.mutate", "list of names"),
        ({"name": "pb2", "mutate": ["lr"], "kappa": -1}, "scheduler.kappa", "0"),
        ({"name": "pb2", "mutate": ["lr"], "perturbation": 0.1}, "scheduler.perturbation", "no such option of 'pb2'"),
        ({"name": "pb2", "mutate": ["rl"]}, "scheduler.mutate", "lr, units, kind"),
        ("pb2", "scheduler.mutate", "must list the parameters that may change"),
        ("pbt", "scheduler.mutate", "must list the parameters that may change"),
    ],
)
def test_a_wrong_scheduler_is_one_error(scheduler, field, message):
    with pytest.raises(ExperimentError) as raised:
        make(scheduler)
    assert raised.value.field == field
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [n for n in SCHEDULERS if n not in POPULATION_BASED])
def test_names_alone_and_with_options_are_the_same(name):
    plain, full = make(name).resolved.scheduler, make({"name": name}).resolved.scheduler
    assert plain == full
    assert (plain.name, plain.kind) == (name, scheduler_class(name))
    assert set(plain.to_json()) == {"name", *(f.name for f in dataclasses.fields(scheduler_class(name).Options))}
    again = Experiment.from_json(make(name).to_json(), given={"task": trainable})
    assert again.resolved.scheduler == plain


@pytest.mark.parametrize("name", POPULATION_BASED)
def test_the_interval_of_pbt_follows_max_epochs(name):
    for epochs, interval in ((1, 1), (8, 1), (27, 3), (100, 12)):
        made = make({"name": name, "mutate": ["lr"]}, max_epochs=epochs)
        assert made.resolved.scheduler.options.interval == interval


def test_of_a_task_all_that_leaves_the_models_shape_alone_is_mutated():
    space = {"lr": Float(1e-4, 0.1, "log"), "hidden_units": Int(8, 64, "power_of_two"), "dropout": Float(0.0, 0.5)}
    experiment = Experiment(name="x", task="digits", space=space, scheduler="pbt")
    mutate = experiment.resolved.scheduler.options.mutate
    assert "lr" in mutate
    assert "hidden_units" not in mutate
    pb2 = Experiment(name="x", task="digits", space=space, scheduler="pb2")
    assert pb2.resolved.scheduler.options.mutate == mutate
    with pytest.raises(ExperimentError, match=r"pb2.*every parameter changes the model's shape"):
        Experiment(name="x", task="digits", space={"hidden_units": Int(8, 64, "power_of_two")}, scheduler="pb2")


def test_the_options_reach_rays_objects():
    def made(scheduler, **fields):
        return make(scheduler, **fields).resolved.new_scheduler().ray

    asha = made({"name": "asha", "grace_period": 2, "reduction_factor": 4, "brackets": 2})
    assert (asha._reduction_factor, asha._max_t, len(asha._brackets), asha._time_attr) == (4, 27, 2, "epoch")
    hyperband = made({"name": "hyperband", "reduction_factor": 2}, mode="min")
    assert (hyperband._eta, hyperband._max_t_attr, hyperband._metric_op) == (2, 27, -1.0)
    median = made({"name": "median", "grace_period": 4, "min_samples": 5})
    assert (median._grace_period, median._min_samples_required) == (4, 5)
    pbt = made({"name": "pbt", "mutate": ["lr"], "interval": 5, "quantile": 0.5})
    assert (pbt._perturbation_interval, pbt._quantile_fraction, pbt._synch) == (5, 0.5, False)
    pb2 = made({"name": "pb2", "mutate": ["lr"], "interval": 5, "kappa": 0.3})
    assert (type(pb2).__name__, pb2._perturbation_interval, pb2._kappa, pb2._mutate) == ("Pb2", 5, 0.3, {"lr"})
