"""Functions with a known best, for searchers to prove themselves on: name -> (space, regret).

The regret is 0 (plus a floor of 1e-6 or 1e-3) at the best config.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int


def branin(config: Config) -> float:
    x, y = 15 * config["x"] - 5, 15 * config["y"]
    bowl = (y - 5.1 / (4 * math.pi**2) * x * x + 5 / math.pi * x - 6) ** 2
    return float(max(bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.397887, 1e-6))


def mixed_quadratic(config: Config) -> float:
    bowl = (math.log10(config["lr"]) + 3) ** 2 + 2 * (math.log10(1 - config["momentum"]) + 1.2) ** 2
    return float(bowl + ((config["units"] - 40) / 30) ** 2 + {"a": 1.0, "b": 0.0, "c": 0.5}[config["kind"]] + 1e-3)


def conditional(config: Config) -> float:
    optimizer = config["optimizer"]
    log_lr = math.log10(optimizer["lr"])
    if optimizer["name"] == "sgd":
        value = (log_lr + 1) ** 2 + 10 * (optimizer["momentum"] - 0.9) ** 2
    else:
        value = 0.3 + (log_lr + 3) ** 2 if optimizer["name"] == "adam" else 2 + (log_lr + 2) ** 2
    if config["layers"] >= 2:
        value += 0.2 * abs(math.log2(config["units2"]) - 6)
    return float(value + 0.3 * abs(config["layers"] - 2) + 1e-3)


FUNCTIONS: dict[str, tuple[SearchSpace, Callable[[Config], float]]] = {
    "branin": (SearchSpace({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}), branin),
    "mixed_quadratic": (
        SearchSpace(
            {
                "lr": Float(1e-6, 1.0, scale="log"),
                "momentum": Float(0.0, 0.999, scale="reverse_log"),
                "units": Int(1, 128),
                "kind": Choice(["a", "b", "c"]),
            }
        ),
        mixed_quadratic,
    ),
    "conditional": (
        SearchSpace(
            {
                "optimizer": {
                    "name": Choice(["sgd", "adam", "rmsprop"]),
                    "lr": Float(1e-5, 1.0, scale="log"),
                    "momentum": Float(0.0, 0.99).when("optimizer.name", "==", "sgd"),
                },
                "layers": Int(1, 4),
                "units2": Int(16, 512, scale="power_of_two").when("layers", ">=", 2),
            }
        ),
        conditional,
    ),
}
