"""The spaces of the searcher contract, and a value for each of their configs."""

from __future__ import annotations

import math

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config, flatten
from raytune_hpo.space.parameters import Choice, Float, Int


def nasty_space() -> SearchSpace:
    """Every scale, nesting, chained conditions, constants, and options that are hard to tell apart."""
    return SearchSpace(
        {
            "optimizer": {
                "name": Choice(["sgd", "adam", "rmsprop"]),
                "lr": Float(1e-6, 1.0, scale="log"),
                "momentum": Float(0.5, 0.999, scale="reverse_log").when("optimizer.name", "in", ["sgd", "rmsprop"]),
                "nesterov": Choice([True, False]).when("optimizer.momentum", ">", 0.8),
                "warmup": Int(1, 5).when("optimizer.nesterov", "==", True),
            },
            "model": {
                "layers": Int(1, 4),
                "units2": Int(16, 512, scale="power_of_two").when("model.layers", ">=", 2),
                "units4": Int(1, 10_000, scale="log").when("model.layers", "==", 4),
                "shape": Choice([[1, 2], [2, 1], []]),
                "norm": Choice([None, "batch", 0, 1.5, "0"]),
            },
            "dropout": Float(-0.5, 0.5),
            "stride": Int(-9, 9, step=3),
            "size": Choice(["s", "m", "l"], ordered=True),
            "flag": Choice([True, 1, "True"]),
            "data": {"name": "digits", "crop": [8, 8], "options": {}, "none": None},
        }
    )


def small_space() -> SearchSpace:
    return SearchSpace(
        {
            "lr": Float(1e-5, 1.0, scale="log"),
            "units": Int(4, 256, scale="log"),
            "kind": Choice(["a", "b", "c"]),
            "extra": Float(0.0, 1.0).when("kind", "==", "a"),
        }
    )


def six_configs() -> SearchSpace:
    return SearchSpace(
        {"a": Choice(["x", "y"]), "b": Int(1, 4).when("a", "==", "x"), "c": Choice([0, 1]).when("a", "==", "y")}
    )


def nasty_value(config: Config) -> float:
    flat = flatten(config)
    value = (math.log10(flat["optimizer.lr"]) + 3) ** 2 + abs(flat["dropout"]) + 0.1 * abs(flat["stride"])
    return float(value + {"s": 0.0, "m": 1.0, "l": 2.0}[flat["size"]] + flat.get("optimizer.warmup", 0))


def small_value(config: Config) -> float:
    value = (math.log10(config["lr"]) + 2) ** 2 + abs(math.log(config["units"] / 40))
    return float(value + config.get("extra", 0.5))
