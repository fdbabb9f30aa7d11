from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from raytune_hpo.errors import ExperimentError
from raytune_hpo.training.hyperparameters import (
    MLP_HYPERPARAMETERS,
    TRAINER_HYPERPARAMETERS,
    Hyperparameter,
    check_keys,
    check_value,
    resolve,
)

ALL = {**TRAINER_HYPERPARAMETERS, **MLP_HYPERPARAMETERS}
LAYERS = Hyperparameter("layers", "list of int", None, "units per layer", low=1)


@pytest.mark.parametrize("name", list(ALL))
def test_every_default_is_legal(name: str) -> None:
    hp = ALL[name]
    assert hp.name == name
    assert hp.doc
    for default in (hp.default, *hp.default_by_optimizer.values()):
        assert check_value(hp, default) == default


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0),
        ("lr", -1e-3),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "0.1"),
        ("lr", True),
        ("momentum", 1.0),
        ("beta2", 1),
        ("batch_size", 0),
        ("batch_size", 32.0),
        ("optimizer", "Adam"),
        ("nesterov", 1),
        ("lr_decay", 0.0),
        ("dropout", 1.0),
        ("units_3", 0),
        ("activation", None),
    ],
)
def test_illegal_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_value(ALL[name], value)
    assert caught.value.field == f"space.{name}"
    assert ALL[name].expected in str(caught.value)


def test_what_is_expected_reads_well() -> None:
    assert ALL["momentum"].expected == "a float in [0, 1)"
    assert ALL["lr"].expected == "a float > 0"
    assert ALL["batch_size"].expected == "an int >= 1"
    assert ALL["shape"].expected == "one of equal, funnel"
    assert ALL["batch_norm"].expected == "a bool"
    assert LAYERS.expected == "a list of int each >= 1"


def test_numpy_scalars_become_plain_values() -> None:
    for name, value, expected in (
        ("lr", np.float32(0.5), 0.5),
        ("lr", 1, 1.0),
        ("batch_size", np.int64(32), 32),
        ("batch_norm", np.bool_(True), True),
        ("optimizer", np.str_("sgd"), "sgd"),
    ):
        found = check_value(ALL[name], value)
        assert (type(found), found) == (type(expected), expected)


def test_lists_of_int() -> None:
    assert check_value(LAYERS, (8, np.int32(4))) == [8, 4]
    for bad in ([8, 0], [8, 1.5], 8, "84"):
        with pytest.raises(ExperimentError):
            check_value(LAYERS, bad)


def test_resolve_fills_defaults_of_the_optimizer_and_is_idempotent() -> None:
    assert resolve({}, ALL)["optimizer"] == "adam"
    assert resolve({"optimizer": "sgd"}, ALL)["momentum"] == 0.9
    assert resolve({"optimizer": "rmsprop"}, ALL)["momentum"] == 0.0
    assert resolve({"optimizer": "rmsprop", "momentum": 0.9}, ALL)["momentum"] == 0.9
    assert resolve({"optimizer": "adadelta"}, ALL)["lr"] == 1.0
    config = resolve({"optimizer": "sgd", "units_2": 7}, ALL)
    assert resolve(config, ALL) == config
    assert set(config) == set(ALL)


def test_unknown_keys_name_the_nearest() -> None:
    check_keys(["lr", "dropout"], ALL)
    with pytest.raises(ExperimentError, match="did you mean 'hidden_units'"):
        check_keys(["lr", "hiden_units"], ALL)
    with pytest.raises(ExperimentError, match="there are: a, b"):
        check_keys(["zzz"], ["b", "a"])


def test_validation_needs_no_heavy_import() -> None:
    """`raytune-hpo validate` answers in less than a second only without these."""
    code = (
        "import sys, raytune_hpo.training.task, raytune_hpo.training.hyperparameters, "
        "raytune_hpo.training.early_stopping\n"
        "from raytune_hpo.tasks import TASKS, task_by_name\n"
        "for name in TASKS: task_by_name(name).check(); task_by_name(name).model_hyperparameters()\n"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'pandas', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
