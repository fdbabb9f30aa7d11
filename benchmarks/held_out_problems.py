"""The problems of benchmarks/held_out.py. Nothing is chosen, and no option set, by what comes out on these.

They were named, and written, before the first searcher heard of epochs: two recordings of real trainings
(benchmarks/recordings.py) and three functions, none of the kind of one in `search_problems`.

diabetes     an MLP on 442 patients: little data, much noise, overfitting; six hyperparameters, mixed; 81 epochs
mnist_cnn    a small convolutional network; six hyperparameters, four of them of two or three values; 52 epochs
borehole     eight Floats, 81 epochs; low fidelities are a little biased (Xiong, Qian & Wu 2013; Kandasamy et al. 2017,
             arXiv:1703.06240)
power_laws   seven hyperparameters, mixed, 52 epochs: noisy curves that cross, with divergences and unequal costs
overtaking   biased on purpose: what is good in the first epochs is the opposite of what is good in the end. It is not
             in the means; nothing may do much worse there than random search that stops nothing.
"""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
from search_problems import Array, Curve, Problem, Recorded, Synthetic

from raytune_hpo.objective import Mode
from raytune_hpo.seeding import generator
from raytune_hpo.space import SearchSpace
from raytune_hpo.space.configs import Config
from raytune_hpo.space.parameters import Choice, Float, Int


class Borehole(Synthetic):
    """The flow of water through a borehole, to be maximized: its optimum is at a corner of the box."""

    name, TRANSIENT = "borehole", -100.0
    mode: Mode = "max"
    max_epochs, full_s = 81, 81.0
    resolution = 1e-2
    BOUNDS = {  # noqa: RUF012
        "rw": (0.05, 0.15),
        "r": (100.0, 50_000.0),
        "Tu": (63_070.0, 115_600.0),
        "Hu": (990.0, 1110.0),
        "Tl": (63.1, 116.0),
        "Hl": (700.0, 820.0),
        "L": (1120.0, 1680.0),
        "Kw": (9855.0, 12_045.0),
    }
    space = SearchSpace({name: Float(low, high) for name, (low, high) in BOUNDS.items()})

    def __init__(self) -> None:
        super().__init__()
        corners = [dict(zip(self.BOUNDS, point, strict=True)) for point in itertools.product(*self.BOUNDS.values())]
        self.optimum = max(corners, key=self.worth)
        self.best = self.worth(self.optimum)

    def function(self, x: Array, z: Array) -> Array:
        rw, r, tu, hu, tl, hl, length, kw = x
        log = math.log(r / rw)
        leak = 2 * length * tu / (log * rw**2 * kw)
        high = 2 * math.pi * tu * (hu - hl) / (log * (1 + leak + tu / tl))
        low = 5 * tu * (hu - hl) / (log * (1.5 + leak + tu / tl))
        result: Array = high * z + low * (1 - z)
        return result


class PowerLaws(Problem):
    """Learning curves c + (1 - c) * k * epoch^-p as Domhan, Springenberg & Hutter (2015) fit them, with noise.

    c: the asymptote, with a broad and a narrow basin; p: the speed, which rises with `lr`. Both basins lie at slow
    speeds, so that what leads in the first epochs seldom does in the end. Trainings of the highest `lr` diverge."""

    name, metric, mode, max_epochs, resolution = "power_laws", "error", "min", 52, 1e-3
    space = SearchSpace(
        {
            "lr": Float(1e-5, 1.0, scale="log"),
            "momentum": Float(0.5, 0.999, scale="reverse_log"),
            "batch": Int(16, 512, scale="power_of_two"),
            "depth": Int(1, 8),
            "width": Int(16, 1024, scale="log"),
            "norm": Choice(["none", "batch", "layer", "group"]),
            "augment": Choice([False, True]),
        }
    )
    best, full_s = 0.08, 57.2
    optimum: Config = {  # noqa: RUF012
        "lr": 0.003,
        "momentum": 0.9,
        "batch": 64,
        "depth": 5,
        "width": 256,
        "norm": "layer",
        "augment": True,
    }

    def _units(self, config: Config) -> dict[str, float]:
        return {p: self.space.parameters[p].to_unit(config[p]) for p in ("lr", "momentum", "batch", "depth", "width")}

    def worth(self, config: Config) -> float:
        here, there = self._units(config), self._units(self.optimum)
        if here["lr"] > 0.95:
            return math.inf
        away = {path: here[path] - there[path] for path in here}
        lr = away["lr"] + 0.5 * away["momentum"] - 0.4 * away["batch"]  # what interacts
        narrow = 14 * lr**2 + 2 * away["momentum"] ** 2 + away["batch"] ** 2 + 2 * away["depth"] ** 2
        narrow += 1.5 * (away["width"] + 0.5 * away["depth"]) ** 2
        narrow += {"none": 0.6, "batch": 0.15, "layer": 0.0, "group": 0.1}[config["norm"]]
        narrow += 0.0 if config["augment"] else 0.12
        broad = 3 * (here["lr"] - 0.35) ** 2 + (here["depth"] - 0.1) ** 2 + 0.5 * (here["width"] - 0.2) ** 2 + 0.25
        return self.best + (1 - self.best) * (1 - math.exp(-min(narrow, broad)))

    def _make(self, config: Config, seed: int) -> Curve:
        here, end = self._units(config), self.worth(config)
        epochs = np.arange(1, self.max_epochs + 1)
        rng = generator(seed, "power laws", json.dumps(config, sort_keys=True))
        share = 0.5 + 0.6 * (here["width"] + here["depth"])
        if not math.isfinite(end):
            values = np.full(self.max_epochs, math.nan)
            values[: int(rng.integers(1, 4))] = 1.0
            return Curve(values, np.full(self.max_epochs, share))
        left = epochs ** -(0.25 + 1.5 * here["lr"])
        left = (left - left[-1]) / (1 - left[-1])
        noise = 0.02 * rng.standard_normal(self.max_epochs) * (0.15 + left)
        return Curve(end + (1 - end) * left + noise, np.full(self.max_epochs, share))


class Overtaking(Synthetic):
    """Two bowls in four dimensions: that of the first epochs fades, that of the last comes, as z^2. Between the
    optima of both, a config is the worse in the end, the better it begins."""

    name, best, TRANSIENT = "overtaking", 0.0, 1.0
    space = SearchSpace({f"x{i}": Float(0.0, 1.0) for i in range(1, 5)})
    optimum: Config = {"x1": 0.75, "x2": 0.3, "x3": 0.8, "x4": 0.65}  # noqa: RUF012
    EARLY = np.array([0.2, 0.8, 0.3, 0.25])

    def function(self, x: Array, z: Array) -> Array:
        late = ((x - np.array(list(self.optimum.values()))) ** 2).sum()
        early = ((x - self.EARLY) ** 2).sum()
        result: Array = z**2 * late + (1 - z**2) * early
        return result


PROBLEMS = ("diabetes", "mnist_cnn", "borehole", "power_laws")
BIASED = "overtaking"
EVERY = (*PROBLEMS, BIASED)


def problem(name: str) -> Problem:
    if name in ("diabetes", "mnist_cnn"):
        return Recorded(name)
    return {cls.name: cls for cls in (Borehole, PowerLaws, Overtaking)}[name]()
